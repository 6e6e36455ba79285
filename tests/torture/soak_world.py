"""What an index of the soak holds after each operation, without asking it.

Operations are numbered from 1; what an operation does follows from its number, and so does the
whole content after it. So a reader needs nothing but the number to know what it must see.
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vecindex import Record, VectorIndex

from .growth import of_this_process

DIM = 32
GROUPS = 127  # a prime: every step visits all groups in turn
TAGS = ("red", "green", "blue", "grey", "white")
COUNTER = "counter"
"""Id of a row that every upsert replaces together with a group's rows."""

Span = tuple[int, int]
"""The first and the last operation after which something can be seen."""


class World:
    """The operations of one seed; each of them touches one group of rows.

    Rows of a group are written and removed together. Every 127 operations each group is visited
    once, so about as many rows live at any time.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._step = 1 + seed % (GROUPS - 1)
        self._back = pow(self._step, -1, GROUPS)
        self._centers = _unit(np.random.default_rng(seed).normal(size=(GROUPS, DIM)))
        self._sizes = 8 + np.random.default_rng(seed).integers(48, size=GROUPS)
        self.counter_vector = self._centers[0]

    # -- operations -------------------------------------------------------------------------

    def group(self, number: int) -> int:
        """Return the group that an operation touches."""
        return number * self._step % GROUPS

    def removes(self, number: int) -> bool:
        """Return whether an operation removes its group."""
        # An odd number of groups: the visit before such a one was odd, and put the group there.
        return number > GROUPS and number % 4 == 0 and (number * 2654435761 >> 7) % 2 == 0

    def kind(self, number: int) -> str:
        """Return `"add"`, `"upsert"` or `"remove"`."""
        if self.removes(number):
            return "remove"
        return "add" if number > GROUPS and self.removes(number - GROUPS) else "upsert"

    def ids(self, group: int) -> list[Any]:
        """Return the ids of a group's rows: ints for one half of the groups, else str."""
        rows = range(int(self._sizes[group]))
        return [100 * group + row if group % 2 else f"{group}/{row}" for row in rows]

    def vectors(self, group: int, number: int) -> np.ndarray:
        """Return the unit rows that an operation gives to its group."""
        return _group_vectors(self, group, number)

    def text(self, group: int, number: int, row: int) -> str:
        """Return a row's text."""
        return f"group {group} row {row} written by {number} " + "x" * (number % 200)

    def metadata(self, group: int, number: int, row: int) -> dict[str, Any]:
        """Return a row's metadata."""
        return {"group": group, "by": number, "row": row, "tag": TAGS[number % len(TAGS)]}

    def arguments(self, number: int) -> dict[str, Any]:
        """Return what an operation that adds or upserts is called with."""
        group = self.group(number)
        ids = self.ids(group)
        texts = [self.text(group, number, row) for row in range(len(ids))]
        metadata = [self.metadata(group, number, row) for row in range(len(ids))]
        vectors = self.vectors(group, number)
        if self.kind(number) == "upsert":
            ids, texts = [*ids, COUNTER], [*texts, f"counter {number}"]
            metadata = [*metadata, {"group": -1, "by": number}]
            vectors = np.concatenate([vectors, [self.counter_vector]])
        return {"ids": ids, "texts": texts, "metadata": metadata, "vectors": vectors}

    def carry_out(self, index: VectorIndex, number: int) -> None:
        """Do an operation."""
        kind, group = self.kind(number), self.group(number)
        if kind == "remove":
            by_filter = number % 3 == 0
            removed = (
                index.remove(where={"group": group}) if by_filter else index.remove(self.ids(group))
            )
            assert removed == len(self.ids(group))
        else:
            getattr(index, kind)(**self.arguments(number))

    # -- what is seen -----------------------------------------------------------------------

    def visit(self, group: int, number: int) -> int:
        """Return the last operation on a group up to `number`; below 1: there was none."""
        return number - (number - group * self._back) % GROUPS

    def version(self, group: int, number: int) -> int | None:
        """Return which operation wrote the rows of a group that are there after `number`."""
        visit = self.visit(group, number)
        return None if visit < 1 or self.removes(visit) else visit

    def count(self, number: int, tag: str | None = None) -> int:
        """Return the number of rows after an operation, or of those with a tag."""
        versions = [(group, self.version(group, number)) for group in range(GROUPS)]
        rows = sum(
            int(self._sizes[group])
            for group, version in versions
            if version and (tag is None or TAGS[version % len(TAGS)] == tag)
        )
        return rows + (tag is None and number > 0)

    def seen(self, group: int, version: int) -> Span:
        """Return when rows of a group that an operation wrote can be seen."""
        assert self.group(version) == group, f"group {group} was never written by {version}"
        assert not self.removes(version), f"{version} removed group {group}, and wrote nothing"
        return version, version + GROUPS - 1

    def absent(self, group: int, span: Span) -> Span:
        """Return when, within a span at first, a group could be seen to have no rows."""
        visit = self.visit(group, span[0])
        while visit <= span[1]:
            if visit < 1 or self.removes(visit):
                return visit, span[1]
            visit += GROUPS
        raise AssertionError(f"group {group} has no rows, and always had some in {span}")

    def state(self, records: Iterable[Record]) -> int:
        """Return after which operation all of these are the whole content; refuse anything else."""
        counter, found = 0, defaultdict(list)
        for record in records:
            if record.id == COUNTER:
                assert not counter, "two counters"
                counter = self._check_counter(record)
                continue
            self.check(record)
            found[record.metadata["group"]].append((record.metadata["by"], record.metadata["row"]))
        versions = {}
        for group, rows in found.items():
            version = rows[0][0]
            whole = [(version, row) for row in range(len(self.ids(group)))]
            assert rows == whole, f"part of group {group}: {rows}"
            versions[group] = version
        number = max([counter, *versions.values()])
        following = self.group(number + 1)
        if self.removes(number + 1) and following not in versions:
            number += 1
        expected = {group: self.version(group, number) for group in range(GROUPS)}
        expected = {group: version for group, version in expected.items() if version}
        wrong = sorted(set(expected.items()) ^ set(versions.items()))
        assert not wrong, f"no state {number}: of {wrong}, only one of a pair is there"
        last = next(n for n in range(number, -1, -1) if n == 0 or self.kind(n) == "upsert")
        assert counter == last, f"counter {counter} in state {number}"
        return number

    def check(self, record: Any) -> None:
        """Refuse a record that is not as its operation wrote it."""
        facts = record.metadata
        group, number, row = facts["group"], facts["by"], facts["row"]
        assert record.id == self.ids(group)[row]
        assert facts == self.metadata(group, number, row)
        assert record.text == self.text(group, number, row)
        if getattr(record, "vector", None) is not None:
            expected = self.vectors(group, number)[row]
            assert np.allclose(record.vector, expected, atol=1e-6)

    def _check_counter(self, record: Any) -> int:
        number = record.metadata["by"]
        assert record.text == f"counter {number}"
        assert self.kind(number) == "upsert"
        return number


@lru_cache(maxsize=GROUPS)
def _group_vectors(world: World, group: int, number: int) -> np.ndarray:
    noise = np.random.default_rng([world.seed, number]).normal(size=(world._sizes[group], DIM))
    return _unit(world._centers[group] + 0.15 * noise)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Board:
    """Numbers that all processes of a soak see at once, and that outlive each of them."""

    STARTED, ACKNOWLEDGED, STOP = range(3)
    """The last operation that was begun, the last that was done, and whether all shall end."""

    ALLOCATED, BLOCKS = 62, 63
    """Places of what `growth.of_this_process` says, beside what a thread counts."""

    _PLACES = 64

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(fd, 8 * self._PLACES * self._PLACES)
        self._numbers = memoryview(mmap.mmap(fd, 0)).cast("q")
        os.close(fd)
        self._parent = os.getppid()

    def __getitem__(self, place: int) -> int:
        return self._numbers[place]

    def __setitem__(self, place: int, number: int) -> None:
        self._numbers[place] = number

    @property
    def over(self) -> bool:
        """Whether a child shall end: it was told to, or whoever began it is gone."""
        return bool(self[self.STOP]) or os.getppid() != self._parent

    def of(self, owner: int) -> memoryview:
        """Return the numbers that only one thread changes; owners are counted from 1."""
        return self._numbers[owner * self._PLACES : (owner + 1) * self._PLACES]

    def note_memory(self, owner: int) -> None:
        """Say how much this process has allocated."""
        self.of(owner)[self.ALLOCATED], self.of(owner)[self.BLOCKS] = of_this_process()
