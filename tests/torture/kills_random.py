"""Real kill -9 at random moments of a long life: writer after writer goes on where one was killed.

Each writer says every operation on a pipe before it does it, and again when it was acknowledged.
A model goes on from what was acknowledged or found, over all kills.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vecindex import VectorIndex
from vecindex.index import maintenance
from vecindex.store.files import Appender

from .children import Child, Say
from .crash import working_directory
from .kills import Tally, kill_recovery, nothing_left

DIM = 16
ACKNOWLEDGED = "acknowledged"
SPECS = (("hnsw", "os"), ("ivf", "sync"), ("ivf/pq4", "os"), ("flat/sq8", "sync"))
_POOL = [number if number % 2 else f"id-{number}" for number in range(400)]
_UPKEEP = ("compact", "optimize", "flush", "seal", "snapshot", "reopen")
_SOON = {
    "_SEAL_BYTES": 30_000, "_SEAL_OPERATIONS": 9, "_MERGE_FACTOR": 4,
    "_FIRST_ROWS": 60, "_LEAST_ROWS": 30,
}  # fmt: skip
_RECOVERY_CALLS = 12

Model = dict[Any, int]
"""Which operation wrote the row of each id."""

Operation = dict[str, Any]


def kill_writers(seed: int, kills: int, tally: Tally) -> None:
    """Kill so many writers of one index, one after the other, and check after each.

    Parameters
    ----------
    seed : int
        Decides the structure, the operations and the moments.
    kills : int
        How many.
    tally : Tally
        What was tried is added here.

    Raises
    ------
    AssertionError
        If anything acknowledged is lost, or there is anything that nobody wrote.
    """
    spec, durability = SPECS[seed % len(SPECS)]
    rng = random.Random(seed)
    with working_directory() as work:
        path = work / "x.vx"
        VectorIndex.create(path, spec=spec, dim=DIM).close()
        with VectorIndex.open(path) as watcher, VectorIndex.open(path, refresh="auto") as follower:
            model: Model = {}
            for number in range(kills):
                delay = rng.uniform(0.01, 0.3)
                child = Child(_writer(path, 1000 * seed + number, model, durability))
                child.hear(ACKNOWLEDGED)
                time.sleep(delay)
                lines = child.kill()
                tally.kills += 1
                tally.at_random += 1
                try:
                    model = _check(path, model, lines, tally)
                    if rng.random() < 0.3:
                        kill_recovery(path, rng.randrange(_RECOVERY_CALLS), tally)
                    tally.torn += _recover(path, model)
                    watcher.refresh()
                    for reader in (watcher, follower):  # they lived through all of it
                        assert list(_content(reader).items()) == list(model.items())
                        _search(reader, model)
                except BaseException as error:
                    error.add_note(f"writer {number} of {spec}, killed after {delay:.3f} s")
                    raise


# -- the writer -------------------------------------------------------------------------------


def _writer(path: Path, seed: int, model: Model, durability: Any) -> Callable[[Say], None]:
    """Return what a writer does until it is killed."""

    def write(say: Say) -> None:
        if seed % 2:
            Appender.append = _in_pieces(Appender.append)
        for name, value in _SOON.items():
            setattr(maintenance, name, value)
        index = VectorIndex.open(path, "r+", durability=durability)
        for operation in _operations(seed, model):
            say(json.dumps(operation))
            if operation["do"] == "reopen":
                index.close()
                index = VectorIndex.open(path, "r+", durability=durability)
            else:
                _do(index, operation)
            say(ACKNOWLEDGED)

    return write


def _operations(seed: int, model: Model) -> Iterator[Operation]:
    """Yield what the writer shall do, for ever; the same for the same seed and model."""
    rng, known = random.Random(seed), set(model)
    for version in range(seed * 100_000, (seed + 1) * 100_000):
        ids = rng.sample(_POOL, rng.randint(1, 25))
        choice = rng.random()
        fresh = [i for i in ids if i not in known]
        if choice < 0.35 and fresh:
            yield {"do": "add", "ids": fresh, "version": version}
            known |= set(fresh)
        elif choice < 0.7:
            yield {"do": "upsert", "ids": ids, "version": version}
            known |= set(ids)
        elif choice < 0.94:
            yield {"do": "remove", "ids": ids}
            known -= set(ids)
        else:
            yield {"do": rng.choice(_UPKEEP)}


def _do(index: VectorIndex, operation: Operation) -> None:
    kind, ids = operation["do"], operation.get("ids", [])
    if kind in ("add", "upsert"):
        version = operation["version"]
        getattr(index, kind)(
            ids=ids,
            vectors=np.array([_vector(i, version) for i in ids]),
            texts=[_text(i, version) for i in ids],
            metadata=[{"version": version}] * len(ids),
        )
    elif kind == "remove":
        index.remove(ids)
    elif kind == "seal":
        index._maintenance.seal()
    elif kind == "snapshot":
        taken = sum(1 for _ in index.path.parent.glob("snapshot*"))
        index.snapshot(index.path.with_name(f"snapshot-{taken}"))
    else:
        getattr(index, kind)()


def _in_pieces(append: Callable[..., None]) -> Callable[..., None]:
    """Return an `append` that takes its time, so that kills tear frames."""

    def slowly(self: Appender, buffers: list[bytes]) -> None:
        data = b"".join(bytes(buffer) for buffer in buffers)
        for start in range(0, len(data), 256):
            append(self, [data[start : start + 256]])
            if self.path.suffix == ".vxl":
                time.sleep(0.002)

    return slowly


def _vector(record_id: Any, version: int) -> np.ndarray:
    number = record_id if isinstance(record_id, int) else 10_000 + int(record_id[3:])
    return np.random.default_rng([number, version]).normal(size=DIM)


def _text(record_id: Any, version: int) -> str:
    return f"text {record_id} {version} " + "x" * (version % 300)


# -- what is left -----------------------------------------------------------------------------


def _check(path: Path, model: Model, lines: list[str], tally: Tally) -> Model:
    """Compare what a reader sees with what the killed writer said; return the model of it."""
    said = [json.loads(line) for line in lines if line != ACKNOWLEDGED]
    acknowledged = len(lines) - len(said)
    assert len(said) - acknowledged in (0, 1)
    tally.acknowledged += acknowledged
    for operation in said[:acknowledged]:
        model = _applied(model, operation)
    with VectorIndex.open(path) as index:
        found = _content(index)
        _search(index, found)
    flying = said[acknowledged:]
    if list(found.items()) != list(model.items()):
        assert flying, _differences(model, found)
        model = _applied(model, flying[0])
        tally.found += 1
    elif flying and "ids" in flying[0]:
        tally.gone += 1
    assert list(found.items()) == list(model.items()), _differences(model, found)
    return model


def _recover(path: Path, model: Model) -> bool:
    """Open for writing: the lock is free, nothing is lost or left. Return if a frame was torn."""
    with VectorIndex.open(path, "r+", maintenance="manual") as index:
        torn = "dropped" in str(index.info().notes)
        assert _content(index) == model
        report = index.verify()
        assert report.ok, report.problems
        assert nothing_left(index), "something was left behind"
        _search(index, model)
    for snapshot in path.parent.glob("snapshot*"):
        if ".partial-" not in snapshot.name or (snapshot / "MANIFEST").exists():
            with VectorIndex.open(snapshot) as index:
                assert index.verify().ok
                _content(index)
        shutil.rmtree(snapshot)
    return torn


def _applied(model: Model, operation: Operation) -> Model:
    """Return the model after an operation."""
    after = dict(model)
    for record_id in operation.get("ids", ()):
        after.pop(record_id, None)
        if operation["do"] != "remove":
            after[record_id] = operation["version"]
    return after


def _content(index: VectorIndex) -> Model:
    """Return the model that an index shows, after checking that every row is as written."""
    found, vectors = {}, [np.zeros(DIM)]
    for record in index.scan(vectors=True):
        version = found[record.id] = record.metadata["version"]
        assert record.text == _text(record.id, version)
        vectors.append(record.vector)
    assert len(index) == len(found) == len(vectors) - 1
    expected = np.array([np.zeros(DIM), *map(_vector, found, found.values())])
    expected[1:] /= np.linalg.norm(expected[1:], axis=1, keepdims=True)
    assert np.abs(np.array(vectors) - expected).max() < 1e-6
    return found


def _search(index: VectorIndex, model: Model) -> None:
    if not model:
        return
    record_id = next(reversed(model))
    query = _vector(record_id, model[record_id])
    for exact in (True, False):
        hits = index.search(query, k=5, exact=exact)
        assert len(hits) == min(5, len(model))
        assert {hit.id for hit in hits} <= set(model)
    assert index.search(query, k=1, exact=True)[0].id == record_id


def _differences(model: Model, found: Model) -> str:
    lost = sorted((k for k in model.items() if k not in found.items()), key=str)
    extra = sorted((k for k in found.items() if k not in model.items()), key=str)
    return f"not found: {lost}, not expected: {extra}"
