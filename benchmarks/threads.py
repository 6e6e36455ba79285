"""Searching beside others: do more threads answer more, and how long do adds and folds keep a search waiting?

    python -m benchmarks.threads                                       # synthetic, minutes
    python -m benchmarks.threads --vectors X.npy --queries Q.npy       # your own

Throughput: single queries from 1, 2 and 4 Python threads, which take turns. Pauses: one thread searches without a
break, alone, and beside durable adds of 1,000 rows without a break: first by a thread of the same process, then by
another process, whose rows a thread of this one takes over with `refresh`. Two thirds of the rows are there at the
beginning, the others are added, again and again under new ids. What ran during the longest searches is noted. As a
measure, the same searches beside a thread that writes nothing and only runs Python.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import result_files
from benchmarks.data import Data, add_arguments, from_arguments
from benchmarks.moments import Moment, watched
from benchmarks.timing import gather, short
from vecindex import VectorIndex
from vecindex.arrays import Float32Array

K = 10
THREADS = (1, 2, 4)
BATCH = 1000
LONG_MS = 50.0
"""A pause that nobody should meet."""

_SHOWN = 3  # of the longest searches, of each kind
_REFRESH_S = 0.01  # between two looks at what another process has written


def throughput(index: VectorIndex, queries: Float32Array, seconds: float) -> dict[str, float]:
    """Return queries a second by number of threads."""
    return {str(threads): _rate(index, queries, threads, seconds) for threads in THREADS}


def _rate(index: VectorIndex, queries: Float32Array, threads: int, seconds: float) -> float:
    start = threading.Barrier(threads)

    def ask(number: int) -> float:
        done = 0
        start.wait()
        begin = time.perf_counter()
        while (taken := time.perf_counter() - begin) < seconds:
            for _ in range(10):
                query = (number * 7919 + done) % len(queries)
                index.search_arrays(queries[query][None], K)
                done += 1
        return done / taken

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(ask, range(threads)))


class Latencies:
    """When each search of one thread began, and how long it took."""

    def __init__(self, index: VectorIndex, queries: Float32Array, seconds: float) -> None:
        gc.collect()
        self._starts: list[float] = []
        self._seconds: list[float] = []
        clock = time.perf_counter
        end = clock() + seconds
        for number in count():
            start = clock()
            if start >= end:
                break
            index.search_arrays(queries[number % len(queries)][None], K)
            self._seconds.append(clock() - start)
            self._starts.append(start)

    def figures(self) -> dict[str, float]:
        """Return percentiles in milliseconds, and how many pauses were too long."""
        times = 1e3 * np.array(self._seconds)
        p50, p99 = np.percentile(times, [50, 99])
        return {
            "searches": len(times),
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": times.max(),
            "long": float((times > LONG_MS).sum()),
        }

    def longest(self, moments: Sequence[Moment]) -> list[dict[str, Any]]:
        """Return the longest searches, with the stages that ran meanwhile."""
        found = []
        for place in np.argsort(self._seconds)[::-1][:_SHOWN].tolist():
            start, stop = self._starts[place], self._starts[place] + self._seconds[place]
            during = {
                moment.name for moment in moments if moment.start < stop and moment.end > start
            }
            found.append({"ms": short(1e3 * (stop - start)), "during": sorted(during)})
        return found


def batches(rows: Float32Array, first: int) -> Iterator[dict[str, Any]]:
    """Yield batches of ids, texts, metadata and vectors for ever; their vectors come again."""
    for number in count(first, BATCH):
        numbers = range(number, number + BATCH)
        yield {
            "ids": [f"row-{n}" for n in numbers],
            "texts": [f"Text number {n}, about as long as a sentence: {n:040d}" for n in numbers],
            "metadata": [{"n": n, "kind": "even" if n % 2 == 0 else "odd"} for n in numbers],
            "vectors": rows.take(numbers, axis=0, mode="wrap"),
        }


@contextmanager
def running(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Let a thread do something beside a block, until the event is set at its end."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def beside_a_thread(
    index: VectorIndex, rows: Float32Array, queries: Float32Array, seconds: float
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Search while another thread of this process adds."""

    def add(stop: threading.Event) -> None:
        for batch in batches(rows, len(index)):
            if stop.is_set():
                return
            index.add(**batch)

    before = len(index)
    with watched() as moments, running(add):
        seen = Latencies(index, queries, seconds)
        added = len(index) - before
    return seen.figures() | {"added": added}, seen.longest(moments)


def beside_python(index: VectorIndex, queries: Float32Array, seconds: float) -> dict[str, float]:
    """Search while another thread only runs Python: what any library pays for that."""

    def format_numbers(stop: threading.Event) -> None:
        while not stop.is_set():
            [str(number) for number in range(1000)]

    with running(format_numbers):
        return Latencies(index, queries, seconds).figures()


def beside_a_process(
    index: VectorIndex, rows: Path, queries: Float32Array, seconds: float
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Search while another process adds and a thread of this one refreshes."""

    def refresh(stop: threading.Event) -> None:
        while not stop.wait(_REFRESH_S):
            index.refresh()

    before = len(index)
    writer = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.threads_writer", str(index.path), str(rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert writer.stdout is not None
        writer.stdout.readline()  # it is at work
        with watched() as moments, running(refresh):
            seen = Latencies(index, queries, seconds)
            added = len(index) - before
    finally:
        writer.communicate()  # closes its stdin, which ends it
    return seen.figures() | {"added": added}, seen.longest(moments)


def measure(data: Data, spec: str, seconds: float, repeats: int, folder: Path) -> dict[str, Any]:
    """Return all figures of one structure."""
    base = len(data.rows) * 2 // 3
    others = folder / "others.npy"
    np.save(others, data.rows[base:])
    built = folder / "built.vx"
    source = batches(data.rows[:base], 0)
    with VectorIndex.create(built, spec=spec, maintenance="manual") as index:
        for _ in range(base // BATCH):
            index.add(**next(source))
        index.optimize()
        plan = str(index.explain(K))
    rates, before, python, beside, after, reading, process = ([] for _ in range(7))
    longest: list[dict[str, Any]] = []
    for _ in range(repeats):
        path = folder / "copy.vx"
        shutil.copytree(built, path)
        with VectorIndex.open(path, "r+") as index:
            index.search_arrays(data.queries, K)
            rates.append(throughput(index, data.queries, seconds))
            before.append(Latencies(index, data.queries, seconds).figures())
            python.append(beside_python(index, data.queries, seconds))
            figures, worst = beside_a_thread(index, data.rows[base:], data.queries, seconds)
            beside.append(figures)
            longest += [{"by": "thread", **one} for one in worst]
            index.maintain()
            after.append(Latencies(index, data.queries, seconds).figures())
        shutil.rmtree(path)
        shutil.copytree(built, path)
        with VectorIndex.open(path) as index:
            index.search_arrays(data.queries, K)
            reading.append(Latencies(index, data.queries, seconds).figures())
            figures, worst = beside_a_process(index, others, data.queries, seconds)
            process.append(figures)
            longest += [{"by": "process", **one} for one in worst]
        shutil.rmtree(path)
        print(f"{spec}: {rates[-1]}, p99 {before[-1]['p99_ms']:.2f} ms alone, "
              f"{beside[-1]['p99_ms']:.2f} beside a thread, {process[-1]['p99_ms']:.2f} beside a process",
              file=sys.stderr)  # fmt: skip
    shutil.rmtree(built)
    return {
        "plan": plan,
        "rates": gather(rates),
        "alone": gather(before),
        "python": gather(python),
        "thread": gather(beside),
        "alone_after": gather(after),
        "reading": gather(reading),
        "process": gather(process),
        "longest": _worst(longest, "thread") + _worst(longest, "process"),
    }


def _worst(longest: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Return the longest ones of one kind."""
    return sorted((one for one in longest if one["by"] == by), key=lambda one: -one["ms"])[:_SHOWN]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurement and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser, 60_000)
    parser.add_argument("--structures", default="flat,flat/pq4,ivf/pq4,hnsw")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=result_files.FOLDER, help="where to write")
    given = parser.parse_args(arguments)
    data = from_arguments(given)
    folder = Path(tempfile.mkdtemp(prefix="vecindex-threads-"))
    try:
        structures = {
            spec: measure(data, spec, given.seconds, given.repeats, folder)
            for spec in given.structures.split(",")
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    source = "--vectors ... --queries ..." if given.vectors else f"--rows {len(data.rows)}"
    command = f"python -m benchmarks.threads {source} --seconds {given.seconds:g}"
    result = {**result_files.facts(data, command, given.repeats), "structures": structures}
    print(f"wrote {result_files.write('threads', result, given.results).name}")


if __name__ == "__main__":
    main()
