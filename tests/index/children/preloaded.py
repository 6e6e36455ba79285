"""A parent that searches, adds and folds on threads, and forks workers meanwhile; they serve on.

Workers end as multiprocessing ends them, or with `sys.exit` and all that runs at exit.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import faiss
import numpy as np

from vecindex import VectorIndex
from vecindex.errors import StorageFailedError

DIM, ROWS, ROUNDS = 16, 6_000, 2
rng = np.random.default_rng(0)
vectors = rng.standard_normal((ROWS, DIM)).astype(np.float32)


def serve(index: VectorIndex) -> None:
    """Do what a worker does."""
    for number in range(0, ROWS, 997):
        assert index.search(vectors[number], 1, exact=True)[0].id == number
    assert len(index.search_arrays(vectors[:300], 5)[0]) == 300
    index.search(vectors[0], 3, where={"even": True})
    index.refresh()
    assert index.search(vectors[5], 1, exact=True)[0].id == 5
    try:
        index.add(vectors=vectors[:1])
    except StorageFailedError:
        pass
    else:
        raise AssertionError("a fork has written")
    assert threading.active_count() == 1, "no thread of the parent's, and none of our own"


def worker(index: VectorIndex, *, leaves: bool) -> None:
    """Serve, then end as multiprocessing ends it, or with everything that runs at exit."""
    serve(index)
    if leaves:
        index.close()
        sys.exit(0)


def main() -> None:
    """Fork again and again while threads search and add, and one folds in the background."""
    path = Path(sys.argv[1])
    index = VectorIndex.create(path, spec="flat/pq4")
    metadata = [{"even": number % 2 == 0} for number in range(ROWS)]
    index.add(ids=range(ROWS), vectors=vectors, metadata=metadata)
    faiss.omp_set_num_threads(4)
    team = faiss.IndexFlatL2(DIM)
    team.add(vectors)
    team.search(vectors[:2000], 5)  # an OpenMP team that no child inherits
    stop, added = threading.Event(), 0

    def search() -> None:
        while not stop.is_set():
            index.search_arrays(vectors[:100], 5)
            index.search(vectors[0], 3, where={"even": True})

    def add() -> None:
        nonlocal added
        while not stop.is_set():
            index.add(ids=[f"new-{added}-{n}" for n in range(500)], vectors=vectors[:500] + 1)
            added += 1
            time.sleep(0.01)  # leaves forks and searches a core

    threads = [threading.Thread(target=search), threading.Thread(target=add)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    for round_number in range(ROUNDS):
        processes = [
            context.Process(target=worker, args=(index,), kwargs={"leaves": bool(n % 2)})
            for n in range(4)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            if process.exitcode != 0:
                process.kill()
                sys.stderr.write(f"round {round_number}: exit code {process.exitcode}\n")
                os._exit(1)
    stop.set()
    for thread in threads:
        thread.join()
    index.optimize()
    index.close()
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        assert len(again) == ROWS + 500 * added
        assert again.verify().ok
        assert again.info().notes == ()
        again.remove([0])
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
