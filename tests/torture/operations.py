"""Scripts of operations, each with the list of what was acknowledged.

A script runs once on a recording twin of the disk. Beside it goes a plain dict, which says what
the index must show after each step.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from vecindex import VectorIndex, arrays
from vecindex.errors import StorageFailedError, StorageFullError
from vecindex.index import maintenance
from vecindex.store.log import LogWriter

from .disk import Recorder

DIM = 4
NAME = "x.vx"

Row = tuple[Any, Any, bytes]
Content = tuple[tuple[Any, Row], ...]
"""Id and text, metadata, vector of every row, in insertion order."""


def shown(index: VectorIndex) -> Content:
    """Return everything that an index shows."""
    return tuple(
        (record.id, (record.text, repr(record.metadata), record.vector.tobytes()))
        for record in index.scan(vectors=True)
    )


def unit_rows(ids: Sequence[Any], salt: int = 0) -> np.ndarray:
    """Return unit rows that depend on the ids."""
    seeds = [[*repr(value).encode(), salt] for value in ids]
    rows = np.array([np.random.default_rng(seed).normal(size=DIM) for seed in seeds])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Script:
    """An index on a recorded disk, and the dict beside it.

    Parameters
    ----------
    root : Path
        An empty directory, or one with the index in it already.
    spec : str
        The structure.
    durability : {"sync", "os"}
        As for the index. With `"os"` only `flush` and what commits makes durable.
    before : Content
        What an index that is there already shows.
    """

    def __init__(
        self, root: Path, spec: str = "flat", durability: Any = "sync", before: Content = ()
    ) -> None:
        self.path = root / NAME
        self.recorder = Recorder(root)
        self.spec, self.durability = spec, durability
        self.contents = [before]  # after so many steps
        self.floors = [0]  # so many steps are certainly durable after so many steps
        self.copies: dict[str, int] = {}  # snapshots by name, and the step that made each
        self.rows = dict(before)
        self.made = 0
        self._index: VectorIndex | None = None

    @property
    def index(self) -> VectorIndex:
        """The open index."""
        assert self._index is not None
        return self._index

    @contextmanager
    def _step(self, *, durable: bool = True) -> Iterator[None]:
        """Do one operation; the dict is changed inside, too."""
        number = len(self.contents)
        self.recorder.mark("begins", number)
        with self.recorder.active():
            yield
        self.recorder.mark("done", number)
        self.contents.append(tuple(self.rows.items()))
        certain = durable or self.durability == "sync"
        self.floors.append(number if certain else self.floors[-1])
        if self._index is not None:
            assert shown(self._index) == self.contents[-1], "wrong even without a crash"
        self.recorder.check_complete()

    # -- steps ------------------------------------------------------------------------------

    def create(self) -> None:
        with self._step():
            self._index = VectorIndex.create(
                self.path, spec=self.spec, durability=self.durability, maintenance="manual"
            )

    def open(self) -> None:
        with self._step():
            self._index = VectorIndex.open(
                self.path, "r+", durability=self.durability, maintenance="manual"
            )

    def close(self) -> None:
        with self._step():
            index, self._index = self.index, None
            index.close()

    def _arguments(self, ids: Sequence[Any], long: int) -> dict[str, Any]:
        self.made += 1
        texts = [f"{value}, {self.made}: ".ljust(long, "x") for value in ids]
        metadata = [{"n": self.made} if row % 2 else None for row in range(len(ids))]
        vectors = unit_rows(ids, self.made)
        return {"ids": list(ids), "texts": texts, "metadata": metadata, "vectors": vectors}

    def _put(self, given: dict[str, Any]) -> None:
        stored = arrays.unit_rows(given["vectors"])  # of few dimensions, another last bit
        columns = given["ids"], given["texts"], given["metadata"], stored
        for value, text, metadata, vector in zip(*columns, strict=True):
            self.rows.pop(value, None)
            self.rows[value] = text, repr(metadata), vector.tobytes()

    def add(self, ids: Sequence[Any], long: int = 0) -> None:
        with self._step(durable=False):
            given = self._arguments(ids, long)
            self.index.add(**given)
            self._put(given)

    def put(self, ids: Sequence[Any], texts: Sequence[str] | None) -> None:
        with self._step(durable=False):
            given = {"ids": list(ids), "texts": texts, "vectors": unit_rows(ids)}
            self.index.upsert(**given)
            none = [None] * len(ids)
            self._put({**given, "texts": texts or none, "metadata": none})

    def upsert(self, ids: Sequence[Any], long: int = 0) -> None:
        with self._step(durable=False):
            given = self._arguments(ids, long)
            self.index.upsert(**given)
            self._put(given)

    def remove(self, ids: Sequence[Any]) -> None:
        with self._step(durable=False):
            self.index.remove(ids)
            for value in ids:
                self.rows.pop(value, None)

    def flush(self) -> None:
        with self._step():
            self.index.flush()

    def seal(self) -> None:
        with self._step():
            self.index._maintenance.seal()

    def optimize(self, *arguments: Any, **options: Any) -> None:
        with self._step():
            self.index.optimize(*arguments, **options)

    def compact(self) -> None:
        with self._step():
            self.index.compact()

    def snapshot(self, name: str) -> None:
        self.copies[name] = len(self.contents)
        with self._step(durable=False):  # the copy is durable, not what it is of
            self.index.snapshot(self.path.with_name(name))

    def refused(self, kind: str, error: BaseException, number: int = 0) -> None:
        """Add rows with the n-th call of a kind failing: afterwards there is nothing of them."""
        self.recorder.refuse = kind, number, error
        with self._failing() as given:
            self.index.add(**given)

    def interrupted(self) -> None:
        """Add rows, interrupted when all is written and nothing synced."""
        with self._failing() as given, patch.object(LogWriter, "sync", _interrupt):
            self.index.add(**given)

    @contextmanager
    def _failing(self) -> Iterator[dict[str, Any]]:
        # While it is under way it may be there; once it has failed it must not come back.
        number, before = len(self.contents), tuple(self.rows.items())
        given = self._arguments(["refused", "too"], 700)
        self._put(given)
        self.contents += [tuple(self.rows.items()), before]
        self.floors += [self.floors[-1], number + 1]
        self.rows = dict(before)
        self.recorder.mark("begins", number)
        try:
            with self.recorder.active():
                yield given
        except (StorageFullError, StorageFailedError, KeyboardInterrupt):
            self.recorder.mark("failed", number)
        else:
            raise AssertionError("nothing failed")
        assert shown(self.index) == before
        self.recorder.check_complete()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


# -- what is done -----------------------------------------------------------------------------


def life(script: Script) -> None:
    """Every kind of operation, with a structure."""
    script.create()
    script.add(["a", "b", "c"])
    script.add([f"d{n}" for n in range(12)], long=200)
    script.upsert(["b", "new"], long=1300)
    script.remove(["a", "d3"])
    script.optimize()
    script.add(["e", 7])
    script.seal()
    script.remove(["c", "d4", "e"])
    script.optimize()
    script.upsert(["d5", "f"])
    script.compact()
    script.remove(["d6"])
    script.close()
    script.open()
    script.add(["g"])
    script.close()


def sealing(script: Script) -> None:
    """Folds after every other operation, merging small segments; no structure."""
    with patch.multiple(maintenance, _SEAL_OPERATIONS=2, _MERGE_FACTOR=4):
        script.create()
        for number in range(10):
            script.add([number, f"s{number}"], long=30 * number)
            if number % 3 == 2:
                script.remove([number - 1])
            if number % 4 == 3:
                script.upsert([f"s{number - 2}"])
        script.compact()
        script.close()


def unsynced(script: Script) -> None:
    """Operations that the power may take, and flushes, after which it may not."""
    script.create()
    script.add(["a", "b"])
    script.add(["c"], long=600)
    script.upsert(["a"])
    script.flush()
    script.remove(["b"])
    script.add(["d", "e"], long=900)
    script.add(["f"])
    script.seal()
    script.add(["g"])
    script.remove(["d"])
    script.add(["h"])
    script.close()
    script.open()
    script.remove(["a"])
    script.add(["i"])
    script.optimize()
    script.add(["j"])
    script.close()


def taken_back(script: Script) -> None:
    """Calls that fail half way, and go on."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    script.create()
    script.add(["a"])
    for number in range(3):
        script.refused("write", full, number)
    script.add(["b"])
    script.refused("write", KeyboardInterrupt(), 3)
    script.interrupted()
    script.remove(["a"])
    script.interrupted()
    script.refused("write", full, 1)
    script.add(["c"], long=1500)
    script.seal()
    script.refused("write", full, 2)
    script.refused("fdatasync", OSError(errno.EIO, os.strerror(errno.EIO)))
    script.close()  # as the handle says
    script.open()
    script.add(["d"])
    script.close()


def asked(script: Script) -> None:
    """Another structure, and queries to calibrate with, which have a file of their own."""
    script.create()
    script.add(list(range(20)))
    script.optimize("hnsw")
    script.optimize(queries=unit_rows(range(30, 40)))
    script.remove([1, 2, 3, 4, 5])
    script.add(["x"])
    script.optimize("flat/sq8")
    script.optimize("flat")
    script.close()


def emptied(script: Script) -> None:
    """Everything goes, and something comes."""
    script.create()
    script.add(["a", "b"])
    script.seal()
    script.remove(["a", "b"])
    script.seal()
    script.add(["c"])
    script.remove(["c"])
    script.compact()
    script.add(["a"])
    script.close()


def loaded(script: Script) -> None:
    """A whole index appears at once, or not at all; then it is worked on."""
    ids = [f"l{number}" for number in range(12)]
    given = {"ids": ids, "texts": ids, "metadata": [None] * 12, "vectors": unit_rows(ids)}
    columns = ("id", "text", "vector")
    records = [
        dict(zip(columns, row, strict=True))
        for row in zip(ids, ids, given["vectors"].tolist(), strict=True)
    ]
    with script._step():
        options = {"id": "id", "text": "text", "vector": "vector", "spec": "ivf"}
        VectorIndex.from_dataset(script.path, records, **options).close()
        script._put(given)
    script.contents[0] = script.contents[1]  # there never is an empty one
    script.open()
    script.add(["a"])
    script.close()


def copied(script: Script) -> None:
    """Snapshots: what is linked, and a log, with work before and after."""
    script.create()
    script.snapshot("empty")
    script.add(["a", "b", "c"], long=100)
    script.optimize()
    script.remove(["a"])
    script.add(["d"], long=700)
    script.snapshot("copy")
    script.add(["e"])
    script.compact()
    script.close()
    script.open()
    script.remove(["c"])
    script.snapshot("later")
    script.close()


SCRIPTS: dict[str, tuple[Callable[[Script], None], dict[str, Any]]] = {
    "life": (life, {"spec": "ivf"}),
    "sealing": (sealing, {}),
    "unsynced": (unsynced, {"durability": "os"}),
    "taken back": (taken_back, {}),
    "asked": (asked, {"spec": "flat"}),
    "emptied": (emptied, {}),
    "loaded": (loaded, {}),
    "copied": (copied, {"spec": "ivf", "durability": "os"}),
}


def at_random(seed: int) -> tuple[Callable[[Script], None], dict[str, Any]]:
    """Return a script of operations that a seed decides."""
    rng = random.Random(seed)
    options = {
        "spec": rng.choice(["flat", "ivf", "hnsw", "flat/sq8"]),
        "durability": rng.choice(["sync", "sync", "os"]),
    }

    def run(script: Script) -> None:
        script.create()
        for number in range(rng.randint(8, 16)):
            known = list(script.rows)
            some = rng.sample(known, min(len(known), rng.randint(1, 4)))
            steps: list[Callable[[], None]] = [
                lambda n=number: script.add(
                    [f"r{n}.{i}" for i in range(rng.randint(1, 6))], rng.choice([0, 90, 1100])
                ),
                lambda s=some: script.upsert(s or ["first"], rng.choice([0, 300, 800])),
                lambda s=some: script.remove(s),
                script.seal,
                script.optimize,
                script.compact,
                script.flush,
                lambda: (script.close(), script.open()),  # type: ignore[dict-item,return-value]
            ]
            rng.choices(steps, weights=[6, 3, 3, 2, 1.5, 1, 1, 1.5])[0]()
        script.close()

    return run, options
