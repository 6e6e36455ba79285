"""How many threads a call uses: one for a query, all cores for a batch or a build."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from operator import itemgetter
from typing import TypeVar

from vecindex.ann.native import faiss

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use."""

_PIECE_QUERIES = 64  # enough for matrix products to be efficient
_LAST_QUERIES = 8  # a millisecond or two

_T = TypeVar("_T")

_forked = False


class _Limits(threading.local):
    most: int | None = None


_limits = _Limits()


def limit_threads(threads: int) -> None:
    """Let what this Python thread calls take at most so many cores, from now on.

    Parameters
    ----------
    threads : int
        At least 1. Work in the background sets it, so that searches find a core.
    """
    _limits.most = threads


def _granted(threads: int | None) -> int:
    if _limits.most is None:
        return threads or CORES
    return min(threads or CORES, _limits.most)


def use_threads(threads: int | None) -> None:
    """Set FAISS's own threads for the calls that follow on this Python thread.

    Parameters
    ----------
    threads : int or None
        None takes all cores. After a fork it is always one.

    Notes
    -----
    FAISS keeps the number per calling thread, so concurrent searches do not disturb each other.
    It costs 0.1 us, so every entry sets it and nobody restores it.
    """
    faiss.omp_set_num_threads(1 if _forked or threads == 1 else _granted(threads))


def in_pieces(
    search: Callable[[slice], _T],
    queries: int,
    threads: int | None,
    least: int = 16,
    pieces_per_thread: int = 4,
    most: int | None = None,
) -> list[_T]:
    """Call `search` for slices that together make up all queries, on several threads.

    Parameters
    ----------
    search : callable
        Takes a slice of the queries. Each call sees FAISS with one thread, and what it calls takes
        no further ones.
    queries : int
        Queries in all.
    threads : int or None
        At most so many threads; None takes all cores.
    least : int
        Fewer queries are not worth a thread of their own.
    pieces_per_thread : int
        More pieces balance searches of unlike length; a scan of all rows reads them once a piece,
        so it wants one.
    most : int or None
        Queries in a slice at most, and towards the end fewer and fewer, so that no thread waits
        long for another. None makes slices of one size.

    Returns
    -------
    list
        What the calls returned, in the order of the queries.

    Notes
    -----
    FAISS could do this itself, but its threads wait for each other by spinning: on a machine with
    other work to do, a batch of 600 then took two to three times as long as with these threads.
    They cost about 100 us. It also keeps searches free of OpenMP teams, which no fork survives.
    The thread that calls is one of them.
    """
    if queries == 1:
        use_threads(1)
        return [search(slice(0, 1))]
    worth = queries // least
    threads = 1 if worth <= 1 else min(_granted(threads), worth)
    if most is not None:
        edges = _falling(queries, threads, most)
    else:
        pieces = 1
        if threads > 1:
            pieces = max(threads, min(pieces_per_thread * threads, queries // _PIECE_QUERIES))
        edges = [queries * i // pieces for i in range(pieces + 1)]
    slices = [slice(start, stop) for start, stop in pairwise(edges)]
    if threads == 1:
        use_threads(1)
        return [search(piece) for piece in slices]
    left = iter(enumerate(slices))
    failed = threading.Event()

    def work() -> list[tuple[int, _T]]:
        """Search slices as long as there are any, and no search has failed or was interrupted."""
        done: list[tuple[int, _T]] = []
        with _alone():
            try:
                for number, piece in left:
                    if failed.is_set():
                        break
                    done.append((number, search(piece)))
            except BaseException:
                failed.set()
                raise
        return done

    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work) for _ in range(threads - 1)]
        found = work()
    for other in others:
        found += other.result()  # raises what a search raised
    return [answer for _, answer in sorted(found, key=itemgetter(0))]


def _falling(queries: int, threads: int, most: int) -> list[int]:
    """Return the edges of slices of `most` queries at first, and of fewer towards the end."""
    edges = [0]
    while (left := queries - edges[-1]) > 0:
        some = most if threads == 1 else min(most, max(_LAST_QUERIES, left // (2 * threads)))
        edges.append(edges[-1] + min(some, left))
    return edges


@contextmanager
def _alone() -> Iterator[None]:
    """Let this thread take one core meanwhile."""
    most, _limits.most = _limits.most, 1
    use_threads(1)
    try:
        yield
    finally:
        _limits.most = most


def _after_fork() -> None:
    # The parent's OpenMP threads do not exist in the child, which would wait for them for ever.
    global _forked  # noqa: PLW0603
    _forked = True
    use_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
