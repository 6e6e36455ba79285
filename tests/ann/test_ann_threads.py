"""Many threads on one structure, and life after a fork."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from ann_data import DIM, SPECS, Builder, answer

from vecindex.ann import CORES, LiveMask, search_flat, search_rows
from vecindex.ann.native import faiss
from vecindex.ann.threads import in_pieces, limit_threads, use_threads


def test_searches_run_at_once(built: Builder) -> None:
    cases = [built(name, DIM) for name in SPECS]
    matrix, queries = cases[0].vectors.rows, cases[0].queries
    live = LiveMask(np.arange(len(matrix)) % 5 > 0)
    some = np.arange(0, len(matrix), 7)
    subset = built("flat/pq4", DIM).structure.scan.subset(some)
    searches = [
        *(partial(answer, case.structure, matrix, k=10, params=case.good) for case in cases),
        lambda queries: search_flat(matrix, queries, 10),
        lambda queries: search_flat(matrix, queries, 10, live),
        lambda queries: search_rows(matrix, queries, 10, some),
        lambda queries: (subset.find(queries, 20), subset.find(queries, 5)),
    ]
    parts = [queries, *(queries[i : i + 1] for i in range(10)), queries[:17]]
    jobs = [(search, part) for part in parts for search in searches]
    expected = [search(queries=part) for search, part in jobs]
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        start.wait(timeout=30)
        wrong = 0
        for number in np.random.default_rng(seed).permutation(len(jobs)):
            search, part = jobs[number]
            scores, rows = search(queries=part)
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


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_pieces_get_smaller_towards_the_end(threads: int) -> None:
    pieces = in_pieces(lambda part: part, 1000, threads, most=64)
    sizes = [part.stop - part.start for part in pieces]
    assert [part.start for part in pieces] == np.cumsum([0, *sizes[:-1]]).tolist()
    assert sum(sizes) == 1000
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 64
    assert sizes[-2] == (64 if threads == 1 else 8)


def test_the_caller_has_its_own_limit_again() -> None:
    with ThreadPoolExecutor(1) as pool:  # a thread that no other test uses

        def run() -> list[int]:
            seen = in_pieces(lambda _: faiss.omp_get_max_threads(), 1000, 2, most=64)
            use_threads(5)
            assert faiss.omp_get_max_threads() == 5
            limit_threads(3)
            seen += in_pieces(lambda _: faiss.omp_get_max_threads(), 1000, 2, most=64)
            use_threads(5)
            assert faiss.omp_get_max_threads() == 3
            return seen

        assert set(pool.submit(run).result()) == {1}


def test_errors_of_a_piece_pass() -> None:
    def fail(part: slice) -> None:
        raise KeyError(part.start)

    with pytest.raises(KeyError):
        in_pieces(fail, 1000, 2)


@pytest.mark.parametrize("here", [True, False], ids=["the caller", "another thread"])
def test_after_an_error_no_more_is_searched(here: bool) -> None:
    caller, searched = threading.get_ident(), []

    def search(part: slice) -> None:
        searched.append(part)
        if (threading.get_ident() == caller) == here:
            raise KeyboardInterrupt
        time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        in_pieces(search, 1000, 2, most=8)
    assert len(searched) < 60  # of more than 125


def test_threads_are_set_for_this_thread_only() -> None:
    use_threads(3)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(use_threads, 2).result()
    assert faiss.omp_get_max_threads() == 3
    use_threads(None)
    assert faiss.omp_get_max_threads() == CORES


CHILD = """
import os, threading
import numpy as np
from vecindex.ann import build, calibrate, questions, search_flat
from vecindex.arrays import MappedRows, unit_rows
from vecindex.ann.native import faiss
from vecindex.spec import FlatSpec, HnswSpec, IvfSpec

rows = unit_rows(np.random.default_rng(0).normal(size=(4000, 16)))
buffer = np.zeros(64 + rows.nbytes, np.uint8)
buffer[64:] = rows.ravel().view(np.uint8)
vectors = MappedRows(buffer[64:].view(np.float32).reshape(rows.shape), buffer)
specs = [FlatSpec("sq8"), FlatSpec("pq4"), HnswSpec(8, 20), HnswSpec(8, 20, "bf16"), IvfSpec(),
         IvfSpec(codes="sq8"), IvfSpec(codes="pq4")]
made = [build(spec, vectors, threads=4) for spec in specs]
faiss.omp_set_num_threads(4)
index = faiss.IndexFlatIP(16)
index.add(rows)
index.search(rows[:2000], 10)  # an OpenMP team exists now, which the child does not inherit

def search():
    found = [each.find(rows[:500], 10, each.grid()[0][-1], 4) for each in made]
    subset = made[1].scan.subset(np.arange(0, 4000, 3))
    return np.vstack([
        *found,
        subset.find(rows[:500], 10, 4),
        search_flat(rows, rows[:500], 10, threads=4)[1],
        search_flat(rows, rows[:1], 10)[1],
    ])

expected = search()
child = os.fork()
if child == 0:
    assert np.array_equal(search(), expected)
    found = []
    thread = threading.Thread(target=lambda: found.append(search()))
    thread.start()
    thread.join()
    assert np.array_equal(found[0], expected)
    asked = questions(rows, None, None, k=10, sample=20, seed=0)
    for spec, each in zip(specs, made):
        build(spec, vectors, threads=4)
        calibrate(each, asked)
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
