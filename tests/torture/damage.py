"""Damage: a right answer, or an error that names file and offset; never a wrong answer.

Small instances are damaged in every way there is: each bit of each file flipped, each file cut at
each byte. Nothing is simulated: the byte is changed in the file, the index is opened as anybody
would, asked everything and verified, and the byte is put back. The files lie in memory, which is
what makes a case a matter of milliseconds. Large instances are damaged at random, and repaired.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from vecindex import VectorIndex
from vecindex.errors import CorruptIndexError

from .crash import working_directory
from .results import Results
from .samples import (
    Answers,
    ask,
    check_structure,
    copied,
    make_flat,
    make_full,
    names,
    rows,
)  # fmt: skip

WHERE_IT_IS = re.compile(r"(MANIFEST|[a-z]+-\d+\.\w+) is (missing|damaged at offset \d+)")
CACHES = ("structure", "columns", "queries")

INSTANCES: dict[str, Callable[[Path], None]] = {
    "full": lambda path: make_full(path, indexed=24),
    "flat": make_flat,
    "graph": lambda path: make_full(path, "hnsw", indexed=12),
}
"""Between them there is every kind of file, ids of both kinds, and a structure of each family."""


class Case(NamedTuple):
    """One way to damage a file: a bit flipped, or all cut off behind a length."""

    name: str
    kind: str  # "flip" or "cut"
    place: int  # bit, or bytes that are left


@contextmanager
def made(instance: str) -> Iterator[tuple[Path, Answers]]:
    """Make an instance, the same each time; yield it with its right answers."""
    with working_directory() as work, patch.object(os, "urandom", lambda count: b"\7" * count):
        path = work / "x.vx"
        INSTANCES[instance](path)
        with VectorIndex.open(path) as index:
            right = ask(index)
        yield path, right


def cases(path: Path, name: str) -> list[Case]:
    """Return all cases of a file."""
    size = (path / name).stat().st_size
    flips = [Case(name, "flip", bit) for bit in range(8 * size)]
    return flips + [Case(name, "cut", length) for length in range(size)]


@cache
def files() -> list[tuple[str, str]]:
    """Return instance and name of all files; a file's place is its seed."""
    found = []
    for instance in INSTANCES:
        with made(instance) as (path, _):
            found += [(instance, name) for name in names(path)]
    return found


@contextmanager
def damaged(path: Path, case: Case) -> Iterator[None]:
    """Damage a file for a while."""
    file = path / case.name
    good = file.read_bytes()
    if case.kind == "cut":
        os.truncate(file, case.place)
    else:
        byte = bytes([good[case.place // 8] ^ 1 << case.place % 8])
        _overwrite(file, byte, case.place // 8)
    try:
        yield
    finally:
        _overwrite(file, good, 0)


def _overwrite(file: Path, data: bytes, offset: int) -> None:
    fd = os.open(file, os.O_WRONLY)
    try:
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def judge(path: Path, name: str, right: Answers) -> str:
    """Return what came of a damaged file; raise AssertionError if that is not as promised."""
    try:
        with VectorIndex.open(path) as index:
            check_structure(index)
            assert ask(index) == right, "a wrong answer"
            problems = index.verify().problems
        outcome = "right"
    except CorruptIndexError as error:
        assert WHERE_IT_IS.search(str(error)), error
        outcome = "refused"
        problems = _told(path, name)
    assert problems is None or {problem.file for problem in problems} == {name}, problems
    return outcome


def _told(path: Path, name: str) -> object:
    """Return the problems that are told of an index which cannot be opened."""
    try:
        return VectorIndex.repair(path, dry_run=True).problems
    except CorruptIndexError as error:
        assert name == "MANIFEST", error
        return None


def try_all(path: Path, right: Answers, some: Iterable[Case]) -> Counter[str]:
    """Judge each case; an error names it."""
    outcomes: Counter[str] = Counter()
    for case in some:
        with damaged(path, case):
            try:
                outcomes[judge(path, case.name, right)] += 1
            except BaseException as error:
                error.add_note(f"{case}")
                raise
    return outcomes


def all_tried(results: Results) -> bool:
    """Return whether every file had its turn."""
    return int(results.values["next_seed"]) >= len(files())


def damage_small(seed: int) -> dict[str, int]:
    """Damage one file of the small instances in every way there is."""
    instance, name = files()[seed]
    with made(instance) as (path, right):
        every = cases(path, name)
        outcomes = try_all(path, right, every)
    flips = sum(case.kind == "flip" for case in every)
    return {"files": 1, "flips": flips, "cuts": len(every) - flips, **outcomes}


# -- large instances -------------------------------------------------------------------------

SPECS = ("flat/pq4", "hnsw", "ivf/pq4", "ivf")


def make_large(path: Path, spec: str) -> None:
    """Make an index of some megabytes, with a second segment and a log."""
    with VectorIndex.create(path, spec=spec, maintenance="manual") as index:
        index.add(**rows(0, 6000, dim=32))
        index.optimize()
        index.remove([f"id {number}" for number in range(7, 300, 40)])
        index.add(**rows(10_000, 300, dim=32))
        index._maintenance.seal()
        index.add(**rows(20_000, 100, dim=32))


def hurt(data: bytearray, choose: random.Random) -> None:
    """Do what disks and people do to a large file."""
    sector = 512
    count = max(1, len(data) // sector)
    start = choose.randrange(count) * sector
    end = min(len(data), start + sector * choose.choice([1, 8, 64]))
    kind = choose.randrange(5)
    if kind == 0:
        data[start:end] = bytes(end - start)
    elif kind == 1:
        data[start:end] = choose.randbytes(end - start)
    elif kind == 2:  # written to the wrong place
        source = choose.randrange(count) * sector
        data[start:end] = data[source : source + end - start].ljust(end - start, b"\0")
    elif kind == 3:
        del data[choose.randrange(len(data)) :]
    else:
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


Rows = dict[object, tuple[bytes, str | None, str]]


def shown(index: VectorIndex) -> Rows:
    """Return all rows by id."""
    return {
        record.id: (record.vector.tobytes(), record.text, repr(record.metadata))
        for record in index.scan(vectors=True)
    }


def hurt_once(path: Path, right: Rows, choose: random.Random) -> str | None:
    """Damage one file of a large index at random; return what came of it, None if nothing did."""
    file = path / choose.choice(names(path))
    good = file.read_bytes()
    data = bytearray(good)
    hurt(data, choose)
    if data == good:
        return None
    file.write_bytes(data)
    try:
        try:
            with VectorIndex.open(path) as index:
                check_structure(index)  # first, while nothing is checked yet
                assert shown(index) == right, "a wrong answer"
            outcome = "right"
        except CorruptIndexError as error:
            assert WHERE_IT_IS.search(str(error)), error
            outcome = "refused"
        problems = _told(path, file.name)
        assert problems is None or {p.file for p in problems} == {file.name}, problems
    except BaseException as error:
        error.add_note(f"{file.name}: {len(good)} bytes, now {len(data)}")
        raise
    finally:
        file.write_bytes(good)
    return outcome


def mend_once(path: Path, right: Rows, choose: random.Random, count: int) -> int:
    """Damage some files but the manifest, repair, and return how many rows are lost.

    What is left must be whole and right, what is lost must be told, and nothing that was removed
    may be back.
    """
    for name in choose.sample([name for name in names(path) if name != "MANIFEST"], count):
        data = bytearray((path / name).read_bytes())
        if data:
            hurt(data, choose)
            (path / name).write_bytes(data)
    try:
        report = VectorIndex.repair(path)
    except CorruptIndexError as error:
        assert "restore_removed" in str(error), error
        return 0
    with VectorIndex.open(path) as index:
        assert index.verify().ok
        check_structure(index)
        left = shown(index)
    assert left.items() <= right.items(), "what is left is not what was there"
    assert report.rows == len(left)
    if not report.lost_operations:  # nobody knows how many rows those had
        assert report.lost_rows == len(right) - len(left), "rows are lost that are not told"
    return len(right) - len(left)


_HURTS, _MENDS = 40, 4


def damage_large(seed: int) -> dict[str, int]:
    """Damage a large index many times, and repair it some times."""
    choose = random.Random(seed)
    counts: Counter[str] = Counter()
    with working_directory() as work:
        make_large(work / "x.vx", SPECS[seed % len(SPECS)])
        with VectorIndex.open(work / "x.vx") as index:
            right = shown(index)
        for _ in range(_HURTS):
            outcome = hurt_once(work / "x.vx", right, choose)
            counts.update([outcome, "large"] if outcome else [])
        for _ in range(_MENDS):
            path = copied(work / "x.vx", work / "mended.vx")
            counts["rows_lost"] += mend_once(path, right, choose, choose.choice([1, 1, 2, 3]))
            counts["repairs"] += 1
            for aside in work.glob("mended.vx.*"):
                shutil.rmtree(aside)
    return dict(counts)
