"""Write batches of ten rows that belong together, until stdin says enough.

Rows of one batch share `batch` and `version` in their metadata and text, and a direction.
"""

from __future__ import annotations

import json
import sys
import threading

import numpy as np

from vecindex import VectorIndex
from vecindex.index import maintenance, rebase

ROWS = 10
MOST_BATCHES = 60


def main(path: str) -> None:
    maintenance._SEAL_OPERATIONS = 7
    maintenance._FIRST_ROWS = 100
    maintenance._LEAST_ROWS = 50
    calls = {"seal": 0, "commit": 0}
    for name, owner in (("seal", maintenance.Maintenance), ("commit", rebase.Rebase)):
        setattr(owner, name, counted(getattr(owner, name), name, calls))
    enough = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), enough.set()), daemon=True).start()
    rng = np.random.default_rng(0)
    versions: dict[int, int] = {}
    operations = 0
    with VectorIndex.open(path, "r+", durability="os") as index:
        while not enough.is_set():
            batch, kind = int(rng.integers(MOST_BATCHES)), rng.random()
            ids = [batch * ROWS + i for i in range(ROWS)]
            if batch not in versions:
                put(index.add, rng, ids, batch, version=operations)
                versions[batch] = operations
            elif kind < 0.7:
                put(index.upsert, rng, ids, batch, version=operations)
                versions[batch] = operations
            else:
                assert index.remove(ids) == ROWS
                del versions[batch]
            operations += 1
            if operations % 50 == 0:
                index.compact()
        known = [batch * ROWS + i for batch in versions for i in range(ROWS)]
    report = {
        "operations": operations,
        "seals": calls["seal"],
        "folds": calls["commit"],
        "ids": known,
    }
    sys.stdout.write(json.dumps(report))


def counted(method, name, calls):
    def wrapper(*args, **kwargs):
        calls[name] += 1
        return method(*args, **kwargs)

    return wrapper


def put(call, rng, ids, batch, version):
    direction = np.random.default_rng(batch).normal(size=16)
    call(
        ids=ids,
        vectors=direction + rng.normal(scale=0.01, size=(ROWS, 16)),
        texts=[f"batch {batch} version {version} row {i}" for i in range(ROWS)],
        metadata=[{"batch": batch, "version": version}] * ROWS,
    )


main(sys.argv[1])
