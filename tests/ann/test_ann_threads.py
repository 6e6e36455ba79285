"""Many threads on one structure, and life after a fork."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ann_data import answer

from vecindex.ann import CORES, LiveMask, Structure, search_flat, search_rows
from vecindex.ann.native import faiss
from vecindex.ann.threads import in_pieces, use_threads
from vecindex.arrays import Float32Array, MappedRows


def test_searches_run_at_once(
    structures: dict[str, Structure], vectors: MappedRows, queries: Float32Array
) -> None:
    live = LiveMask(np.arange(len(vectors.rows)) % 5 > 0)
    some = np.arange(0, 6000, 7)
    searches = [
        lambda q: answer(structures["hnsw"], vectors.rows, q, 10, structures["hnsw"].grid()[4]),
        lambda q: answer(structures["ivf"], vectors.rows, q, 10, structures["ivf"].grid()[4]),
        lambda q: search_flat(vectors.rows, q, 10),
        lambda q: search_flat(vectors.rows, q, 10, live),
        lambda q: search_rows(vectors.rows, q, 10, some),
    ]
    parts = [queries, *(queries[i : i + 1] for i in range(20)), queries[:17]]
    jobs = [(search, part) for part in parts for search in searches]
    expected = [search(part) for search, part in jobs]
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        start.wait(timeout=30)
        wrong = 0
        for number in np.random.default_rng(seed).permutation(len(jobs)):
            search, part = jobs[number]
            scores, rows = search(part)
            wrong += not np.array_equal(rows, expected[number][1])
            wrong += not np.array_equal(scores, expected[number][0])
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [0] * 8


@pytest.mark.parametrize("count", [0, 1, 15, 16, 31, 32, 100, 1000])
@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_pieces_make_up_the_whole(count: int, threads: int | None) -> None:
    seen: list[slice] = []
    ran: set[int] = set()

    def search(part: slice) -> None:
        seen.append(part)
        ran.add(threading.get_ident())
        assert faiss.omp_get_max_threads() == 1

    in_pieces(search, count, threads)
    assert sorted(i for part in seen for i in range(part.start, part.stop)) == list(range(count))
    assert len(ran) <= (threads or CORES)
    if count < 32 or threads == 1:
        assert ran == {threading.get_ident()}


def test_errors_of_a_piece_pass() -> None:
    def fail(part: slice) -> None:
        raise KeyError(part.start)

    with pytest.raises(KeyError):
        in_pieces(fail, 1000, 2)


def test_threads_are_set_for_this_thread_only() -> None:
    use_threads(3)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(use_threads, 2).result()
    assert faiss.omp_get_max_threads() == 3
    use_threads(None)
    assert faiss.omp_get_max_threads() == CORES


CHILD = """
import os, sys, threading
import numpy as np
from vecindex.ann import build, calibrate, search_flat
from vecindex.arrays import MappedRows, unit_rows
from vecindex.ann.native import faiss
from vecindex.spec import HnswParams, HnswSpec, IvfParams, IvfSpec

rows = unit_rows(np.random.default_rng(0).normal(size=(5000, 16)))
buffer = np.zeros(64 + rows.nbytes, np.uint8)
buffer[64:] = rows.ravel().view(np.uint8)
vectors = MappedRows(buffer[64:].view(np.float32).reshape(rows.shape), buffer)
hnsw, ivf = build(HnswSpec(8, 20), vectors, threads=4), build(IvfSpec(), vectors, threads=4)
faiss.omp_set_num_threads(4)
index = faiss.IndexFlatIP(16)
index.add(rows)
index.search(rows[:2000], 10)  # an OpenMP team exists now, which the child does not inherit

def search():
    one = [
        hnsw.propose(rows[:500], 10, HnswParams(32), 4),
        ivf.propose(rows[:500], 10, IvfParams(8), 4),
        search_flat(rows, rows[:500], 10, threads=4)[1],
        search_flat(rows, rows[:1], 10)[1],
    ]
    return np.vstack(one)

expected = search()
child = os.fork()
if child == 0:
    assert np.array_equal(search(), expected)
    found = []
    thread = threading.Thread(target=lambda: found.append(search()))
    thread.start()
    thread.join()
    assert np.array_equal(found[0], expected)
    build(HnswSpec(8, 20), vectors, threads=4)
    build(IvfSpec(), vectors)
    calibrate(ivf, rows, sample=20)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert np.array_equal(search(), expected)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_searches_and_builds() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_the_oracle_of_this_machine() -> None:
    assert 1 <= CORES <= multiprocessing.cpu_count()
