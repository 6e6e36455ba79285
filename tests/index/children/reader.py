"""Refresh and look, for five seconds, and fail at once if a batch is not whole."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict

import numpy as np

from vecindex import VectorIndex

ROWS = 10
SECONDS = 5


def main(path: str) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loops = states = batches = 0
    end = time.monotonic() + SECONDS
    with VectorIndex.open(path) as index:
        while time.monotonic() < end:
            states += index.refresh()
            batches += look(index, loops)
            loops += 1
    with VectorIndex.open(path) as index:
        look(index, 0)
    sys.stdout.write(json.dumps({"loops": loops, "states": states, "batches": batches}))


def look(index: VectorIndex, loop: int) -> int:
    versions = defaultdict(list)
    vectors = {}
    for record in index.scan(vectors=True):
        assert record.text is not None
        assert record.metadata is not None
        batch, version = record.metadata["batch"], record.metadata["version"]
        number = record.id - batch * ROWS
        assert record.text == f"batch {batch} version {version} row {number}"
        versions[batch].append((version, number))
        vectors[record.id] = record.vector
    for batch, found in versions.items():
        assert found == [(found[0][0], i) for i in range(ROWS)], (batch, found)
    assert len(index) == ROWS * len(versions)
    if not versions:
        return 0
    batch = sorted(versions)[loop % len(versions)]
    whole = set(range(batch * ROWS, batch * ROWS + ROWS))
    direction = np.random.default_rng(batch).normal(size=16)
    exact = index.search(direction, k=ROWS, exact=True)
    assert {hit.id for hit in exact} == whole
    filtered = index.search(direction, k=100, where={"batch": batch})
    assert list(filtered) == list(exact)
    hits = index.search(direction, k=ROWS)
    assert len(hits) == ROWS
    unit = direction / np.linalg.norm(direction)
    for hit in [*hits, *exact]:
        assert abs(hit.score - float(vectors[hit.id] @ unit)) < 1e-5
        assert hit.metadata["version"] == versions[hit.metadata["batch"]][0][0]
    return len(versions)


main(sys.argv[1])
