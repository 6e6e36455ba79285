"""Fork writers, kill each at a random moment, and compare what is left with what it said.

The forked writer says each operation on a pipe before it does it, and again when it was
acknowledged. The model goes on from what was acknowledged or found, over all kills.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vecindex import VectorIndex
from vecindex.index import maintenance
from vecindex.store.files import Appender

DIM = 16
KEYS = 400  # different ids
Model = dict  # id -> version


def vector(record_id, version):
    return np.random.default_rng([hash_of(record_id), version]).normal(size=DIM)


def hash_of(record_id):
    return record_id if isinstance(record_id, int) else 10_000 + int(record_id[3:])


def operations(seed: int, model: Model) -> Iterator[dict]:
    """Yield what the writer shall do, for ever; the same for the same seed and model."""
    rng, known = random.Random(seed), set(model)
    for version in range(seed * 100_000, (seed + 1) * 100_000):
        pool = [number if number % 2 else f"id-{number}" for number in range(KEYS)]
        ids = rng.sample(pool, rng.randint(1, 25))
        choice = rng.random()
        fresh = [i for i in ids if i not in known]
        if choice < 0.35 and fresh:
            yield {"do": "add", "ids": fresh, "version": version}
            known |= set(fresh)
        elif choice < 0.7:
            yield {"do": "upsert", "ids": ids, "version": version}
            known |= set(ids)
        elif choice < 0.96:
            yield {"do": "remove", "ids": ids}
            known -= set(ids)
        else:
            yield {"do": rng.choice(["compact", "optimize", "flush"])}


def apply(model: Model, operation: dict) -> Model:
    """Return the model after an operation."""
    after = dict(model)
    for record_id in operation.get("ids", ()):
        after.pop(record_id, None)
        if operation["do"] != "remove":
            after[record_id] = operation["version"]
    return after


def do(index: VectorIndex, operation: dict) -> None:
    kind, ids = operation["do"], operation.get("ids", [])
    if kind in ("add", "upsert"):
        version = operation["version"]
        getattr(index, kind)(
            ids=ids,
            vectors=np.array([vector(i, version) for i in ids]),
            texts=[f"text {i} {version} " + "x" * (version % 300) for i in ids],
            metadata=[{"version": version}] * len(ids),
        )
    elif kind == "remove":
        index.remove(ids)
    else:
        getattr(index, kind)()


def write(path: Path, seed: int, model: Model, pipe: int, durability: str) -> None:
    """Do operations until killed."""
    if seed % 2:
        Appender.append = in_pieces(Appender.append)
    maintenance._SEAL_BYTES = 30_000
    maintenance._SEAL_OPERATIONS = 9
    maintenance._FIRST_ROWS = 60
    maintenance._LEAST_ROWS = 30
    with VectorIndex.open(path, "r+", durability=durability) as index:
        for operation in operations(seed, model):
            os.write(pipe, json.dumps(operation).encode() + b"\n")
            do(index, operation)
            os.write(pipe, b"acknowledged\n")


def in_pieces(append):
    """Return an `append` that takes its time, so that kills tear frames."""

    def slowly(self, buffers):
        data = b"".join(bytes(buffer) for buffer in buffers)
        for start in range(0, len(data), 256):
            append(self, [data[start : start + 256]])
            if self.path.suffix == ".vxl":
                time.sleep(0.0002)

    return slowly


def forked(path: Path, seed: int, model: Model, durability: str) -> tuple[int, int]:
    """Return process id and pipe of a new writer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        write(path, seed, model, writing, durability)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def kill(child: int, pipe: int, delay: float) -> list[str]:
    """Kill the child some time after its first acknowledgement; return the lines it wrote."""
    said = b""
    while b"acknowledged\n" not in said:
        more = os.read(pipe, 1 << 16)
        if not more:
            break
        said += more
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    while more := os.read(pipe, 1 << 16):
        said += more
    os.close(pipe)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the writer ended by itself, status {status}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    return said.decode().splitlines()


def content(index: VectorIndex) -> Model:
    """Return the model that an index shows, after checking that every row is as written."""
    found = {}
    for record in index.scan(vectors=True):
        version = record.metadata["version"]
        assert record.text == f"text {record.id} {version} " + "x" * (version % 300)
        expected = vector(record.id, version)
        assert np.allclose(record.vector, expected / np.linalg.norm(expected), atol=1e-6)
        found[record.id] = version
    assert len(index) == len(found)
    return found


def check_search(index: VectorIndex, model: Model) -> None:
    if not model:
        return
    record_id = next(reversed(model))
    query = vector(record_id, model[record_id])
    for exact in (True, False):
        hits = index.search(query, k=5, exact=exact)
        assert len(hits) == min(5, len(model))
        assert {hit.id for hit in hits} <= set(model)
    assert index.search(query, k=1, exact=True)[0].id == record_id


def main(path: Path, worker: int, kills: int) -> None:
    spec, durability = (("hnsw", "os"), ("ivf", "sync"))[worker % 2]
    rng = random.Random(worker)
    VectorIndex.create(path, spec=spec, dim=DIM).close()
    model: Model = {}
    watcher = VectorIndex.open(path)  # one reader for all the time, stepping by refresh alone
    report = {"kills": 0, "acknowledged": 0, "found": 0, "gone": 0, "torn": 0}
    report |= {"generations": 0, "folded": 0}
    for number in range(kills):
        seed = worker * kills + number
        child, pipe = forked(path, seed, model, durability)
        lines = kill(child, pipe, rng.uniform(0.01, 0.3))
        report["kills"] += 1
        acknowledged = lines.count("acknowledged")
        said = [json.loads(line) for line in lines if line != "acknowledged"]
        assert len(said) - acknowledged in (0, 1)
        report["acknowledged"] += acknowledged
        for operation in said[:acknowledged]:
            model = apply(model, operation)
        with VectorIndex.open(path) as index:  # a reader changes nothing
            found = content(index)
            check_search(index, found)
        watcher.refresh()
        assert content(watcher) == found
        if list(found.items()) != list(model.items()):
            assert len(said) > acknowledged, f"kill {number}: {differences(model, found)}"
            model = apply(model, said[-1])
            report["found"] += 1
        elif len(said) > acknowledged and "ids" in said[-1]:
            report["gone"] += 1
        assert list(found.items()) == list(model.items()), (
            f"kill {number}, {differences(model, found)}"
        )
        with VectorIndex.open(path, "r+", maintenance="manual") as index:
            assert content(index) == model
            verified = index.verify()
            assert verified.ok, verified.problems
            report["generations"] = index.info().generation
            report["torn"] += "dropped" in str(index.info().notes)
            report["folded"] += index.info().indexed > 0
            named = index._store.state.manifest.names() | {"MANIFEST", "LOCK"}
            assert {file.name for file in path.iterdir()} == named, "something was left behind"
            check_search(index, model)
        watcher.refresh()
        assert list(content(watcher).items()) == list(model.items())
        check_search(watcher, model)
    watcher.close()
    shutil.rmtree(path)
    sys.stdout.write(json.dumps(report))


def differences(model: Model, found: Model) -> str:
    lost = sorted((k for k in model.items() if k not in found.items()), key=str)
    extra = sorted((k for k in found.items() if k not in model.items()), key=str)
    return f"not found: {lost}, not expected: {extra}"


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
