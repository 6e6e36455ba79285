"""Real kill -9 at named points: before each call that changes the disk, and half through writes.

A process does one operation on a copy of an index, and kills itself at the n-th such call, for
every n. What is left is read, recovered (by a process that is killed, too), and used again.
`random_kills` kills long-lived writers at random moments.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from vecindex import VectorIndex
from vecindex.index import maintenance

from .children import Child, KillAt, Say
from .crash import working_directory
from .operations import DIM, Content, shown, unit_rows

SPECS = ("ivf/pq4", "hnsw", "flat/sq8", "ivf", "flat")
_ALONE = {"MANIFEST", "LOCK"}
_MOST_POINTS = 1000
_RECOVERY_CALLS = 12  # a recovery is killed at one of its first calls
_IDS = [*range(30), "a", "b"]


@dataclass
class Tally:
    """What was tried."""

    kills: int = 0
    at_points: int = 0
    at_random: int = 0
    while_recovering: int = 0
    acknowledged: int = 0
    torn: int = 0  # frames in the log that the next writer dropped
    found: int = 0  # the operation that was in flight is there
    gone: int = 0  # it is not


@dataclass(frozen=True)
class Operation:
    """What a process does until it is killed.

    Parameters
    ----------
    run : callable
        Does it, with the open index and a path beside it.
    seals : bool
        Whether every write folds the log, too.
    """

    run: Callable[[VectorIndex, Path], object]
    seals: bool = False


def _add(index: VectorIndex, _: Path) -> object:
    return index.add(ids=["n", 77], vectors=unit_rows(["n", 77]), texts=["one", "two" * 99])


def _add_and_close(index: VectorIndex, beside: Path) -> None:
    _add(index, beside)
    index.close()


def _upsert(index: VectorIndex, _: Path) -> object:
    return index.upsert(ids=["n", 3, "a"], vectors=unit_rows([1, 2, 3]), texts=["x", "y", "z"])


def _remove(index: VectorIndex, _: Path) -> object:
    return index.remove([3, 4, "b"])


OPERATIONS = {
    "add": Operation(_add),
    "add and fold": Operation(_add, seals=True),
    "upsert": Operation(_upsert),
    "upsert and fold": Operation(_upsert, seals=True),
    "remove": Operation(_remove),
    "remove where": Operation(lambda index, _: index.remove(where={"third": True})),
    "fold": Operation(lambda index, _: index._maintenance.seal()),
    "optimize": Operation(lambda index, _: index.optimize()),
    "change": Operation(lambda index, _: index.optimize("flat/bf16")),
    "compact": Operation(lambda index, _: index.compact()),
    "add and close": Operation(_add_and_close),
    "snapshot": Operation(lambda index, beside: index.snapshot(beside)),
}
NAMES = ("create", "recover", *OPERATIONS)


def kill_everywhere(name: str, seed: int, tally: Tally, *, stride: int = 1) -> None:
    """Kill one operation at all its points, or at each `stride`-th; check what is left.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    seed : int
        Decides the index that the operation finds, and where recoveries are killed.
    tally : Tally
        What was tried is added here.
    stride : int
        Take one of so many points.

    Raises
    ------
    AssertionError
        If anything is lost, half done, left behind, or comes from nowhere; the point is noted.
    """
    with working_directory() as work:
        template = None if name == "create" else work / "template"
        if template is not None:
            _succeeds(lambda _: make_template(template, seed, torn=name == "recover"))
        attempt = _Attempt(work, name, template, seed)
        for number in range(seed % stride, _MOST_POINTS, stride):
            for half in (False, True):
                at = attempt.kill(number, half=half)
                if at is None:
                    break
                try:
                    attempt.check(tally)
                except BaseException as error:
                    error.add_note(f"{name}, killed at call {number} ({at}), half done: {half}")
                    raise
                tally.kills += 1
                tally.at_points += 1
                if at != "write":
                    break
            if at is None:
                return
        raise AssertionError(f"{name} made more than {_MOST_POINTS} calls")


class _Attempt:
    """One operation on fresh copies of one index."""

    def __init__(self, work: Path, name: str, template: Path | None, seed: int) -> None:
        self._name, self._template = name, template
        self._path, self._beside = work / "x.vx", work / "beside"
        self._random = random.Random(seed)
        self._before = None if template is None else _read(template)
        self._copy()
        _succeeds(lambda _: self._work(self._path))
        self._after = _read(self._path)

    def _copy(self) -> None:
        for path in self._path.parent.glob("[xb]*"):  # the index, and a snapshot, or part of one
            shutil.rmtree(path)
        if self._template is not None:
            shutil.copytree(self._template, self._path)

    def _work(self, path: Path, killer: KillAt | None = None) -> None:
        """Do the operation, the calls of which pass the killer."""
        active = killer.active if killer is not None else nullcontext
        if self._name in ("create", "recover"):
            with active():
                if self._name == "create":
                    VectorIndex.create(path, spec="flat", dim=DIM)
                else:
                    VectorIndex.open(path, "r+", maintenance="manual")
            return
        operation = OPERATIONS[self._name]
        index = VectorIndex.open(path, "r+", maintenance="manual")
        limit = 1 if operation.seals else 1 << 30
        with patch.object(maintenance, "_SEAL_OPERATIONS", limit), active():
            operation.run(index, self._beside)

    def kill(self, number: int, *, half: bool) -> str | None:
        """Do the operation until its n-th call; return that call's name, None if it has fewer."""
        self._copy()
        child = Child(lambda say: self._work(self._path, KillAt(number, say, half=half)))
        lines, code = child.end()
        assert code == (-9 if lines else 0), f"ended by itself with {code}"
        return lines[0] if lines else None

    def check(self, tally: Tally) -> None:
        """Look at what a killed process left; go on with it."""
        if self._template is None and not (self._path / "MANIFEST").exists():
            VectorIndex.create(self._path, dim=DIM).close()  # as if nothing had been there
            tally.gone += 1
            return
        found = _read(self._path)
        assert found in (self._before, self._after), "neither the state before nor the one after"
        if self._before != self._after:
            tally.found += found == self._after
            tally.gone += found == self._before
        if self._random.random() < 0.5:
            kill_recovery(self._path, self._random.randrange(_RECOVERY_CALLS), tally)
            assert _read(self._path) == found, "not the same after a recovery that was killed"
        _use(self._path, found)
        if self._name == "snapshot":
            self._check_snapshot(found)

    def _check_snapshot(self, content: Content) -> None:
        """A snapshot is whole, or not there; what a killed one left is in nobody's way."""
        for path in self._path.parent.glob("beside*"):
            if path == self._beside or (path / "MANIFEST").exists():
                _use(path, content)
        with VectorIndex.open(self._path) as index:
            if not self._beside.exists():
                index.snapshot(self._beside)
        assert _read(self._beside) == content


def _read(path: Path) -> Content:
    with VectorIndex.open(path) as index:
        return shown(index)


def _use(path: Path, content: Content) -> None:
    """Recover; nothing is left behind, nothing is held, and everything works."""
    with VectorIndex.open(path, "r+", maintenance="manual") as index:
        assert shown(index) == content, "recovered is something else"
        assert nothing_left(index)
        report = index.verify()
        assert report.ok, report.problems
        index.add(ids=["new"], vectors=unit_rows(["new"]))
        [hit] = index.search(unit_rows(["new"])[0], k=1)
        assert hit.id == "new"
        assert index.remove(["new"]) == 1
        for record_id, (_, _, vector) in content[:3]:
            hits = index.search(np.frombuffer(vector, np.float32), k=len(content), exact=True)
            assert {hit.id for hit in hits} == {value for value, _ in content}
            assert hits[0].score > 0.999, record_id
    assert _read(path) == content


def nothing_left(index: VectorIndex) -> bool:
    """Return whether the directory holds the files of the newest state and no others."""
    named = index._store.state.manifest.names() | _ALONE
    return {file.name for file in index.path.iterdir()} == named


def kill_recovery(path: Path, number: int, tally: Tally) -> None:
    """Open for writing in a process that ends at its n-th call, if it comes to that."""

    def recover(say: Say) -> None:
        with KillAt(number, say).active():
            VectorIndex.open(path, "r+", maintenance="manual")

    lines, code = Child(recover).end()
    assert code == (-9 if lines else 0), f"a recovery ended by itself with {code}"
    tally.kills += code == -9
    tally.while_recovering += code == -9


def _succeeds(work: Callable[[Say], object]) -> None:
    # In a fork: threads that a fold leaves behind would not survive the forks that come.
    _, code = Child(work).end()
    assert code == 0, "failed even without a kill"


def make_template(path: Path, seed: int, *, torn: bool) -> None:
    """Make an index with a structure, segments, removed rows, a log, and what kills leave."""
    rng = random.Random(seed)
    spec = SPECS[seed % len(SPECS)]
    with VectorIndex.create(path, spec=spec, dim=DIM, maintenance="manual") as index:
        for first in (0, 10, 20, 30):
            ids = _IDS[first : first + 10]
            metadata = [{"third": number % 3 == 0} for number in range(len(ids))]
            texts = [f"text {value} " + "x" * rng.randrange(500) for value in ids]
            index.add(ids=ids, vectors=unit_rows(ids, seed), texts=texts, metadata=metadata)
            for step in rng.sample((index.optimize, index._maintenance.seal, index.flush), 2):
                step()
            index.remove(rng.sample(_IDS[:first] or [0], min(3, 1 + first)))
        index.upsert(ids=["a", 3], vectors=unit_rows(["u", "v"], seed))
        index.add(ids=["c"], vectors=unit_rows(["c"]))
    if torn:
        number = max(int(file.stem.split("-")[1]) for file in path.glob("log-*.vxl"))
        with (path / f"log-{number}.vxl").open("ab") as log:
            log.write(b"VXF\n torn")
        (path / "rows-901.vxr").write_bytes(b"of a fold that was killed")
        (path / "MANIFEST.tmp").write_bytes(b"of a commit that was killed")
