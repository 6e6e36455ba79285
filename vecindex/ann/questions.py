"""What a calibration asks, and the truth that answers are held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import ParamSpec, TypeVar

import numpy as np

from vecindex.ann.flat import LiveMask, search_flat
from vecindex.ann.scores import score_rows, top_k
from vecindex.arrays import Float32Array, Int64Array

P = ParamSpec("P")
T = TypeVar("T")

TIE = 1e-6
"""Scores that near count as equal."""

_TIMED = 7  # queries that time an exact search
_CHOSEN = 1000  # rows that time the scoring of chosen ones
_LEAST, _MOST = 1_000, 4_000  # sampled rows
_MISSES = 10.0  # expected in the sample at the target, at least


def sample_for(target: float) -> int:
    """Return how many queries tell whether a target recall is met.

    Parameters
    ----------
    target : float
        Of recall@10, at most 1.

    Returns
    -------
    int
        The nearer the target is to 1, the more: a lower bound above 0.99 needs thousands of
        answers with hardly a miss.
    """
    return int(min(_MOST, max(_LEAST, _MISSES / max(1 - target, 1e-9))))


@dataclass(frozen=True, eq=False)
class Questions:
    """Queries with their exact answers.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, dim)
        The rows that are searched.
    live : LiveMask or None
        Which of them may be returned.
    queries : ndarray of float32, shape (q, dim)
        Unit rows.
    own : ndarray of int64, shape (q,)
        The row that a query is, which must not find itself; -1 if none.
    source : str
        `"rows"` or `"queries"`.
    k : int
        Neighbours asked for; less than was wanted if there are no more.
    target : float
        The recall that shall be promised: what comes near it is measured most precisely.
    good_enough : ndarray of float32, shape (q,)
        Scores from here on belong to the true k.
    exact_ms : float
        Median time of one exact search on one thread, in milliseconds.
    row_us : float
        Median time of scoring one chosen row, in microseconds.
    """

    matrix: Float32Array
    live: LiveMask | None
    queries: Float32Array
    own: Int64Array
    source: str
    k: int
    target: float
    good_enough: Float32Array
    exact_ms: float
    row_us: float

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask, or nothing to find."""
        return self.k == 0 or len(self.queries) == 0


def questions(
    matrix: Float32Array,
    live: LiveMask | None,
    queries: Float32Array | None,
    *,
    k: int = 10,
    target: float = 0.95,
    sample: int | None = None,
    seed: int = 0,
) -> Questions:
    """Return queries for a calibration, with the truth.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, dim)
        C-contiguous unit rows.
    live : LiveMask or None
        Which of them live; None if all do.
    queries : ndarray of float32, shape (q, dim), or None
        Unit rows to ask, all of them. None asks a sample of the live rows, each without itself.
    k : int
        Neighbours asked for.
    target : float
        The recall that shall be promised.
    sample : int or None
        Rows sampled as queries; None lets the target decide.
    seed : int
        Of the sample.

    Returns
    -------
    Questions
        Also timed: exact search, and scoring of chosen rows.
    """
    source = "rows" if queries is None else "queries"
    alive = len(matrix) if live is None else live.count
    if queries is None:
        sample = sample_for(target) if sample is None else sample
        rows = np.arange(len(matrix)) if live is None else live.rows
        own = np.random.default_rng(seed).choice(rows, min(sample, len(rows)), replace=False)
        queries = matrix[own]
    else:
        own = np.full(len(queries), -1)
    queries = np.ascontiguousarray(queries)
    itself = int(source == "rows")
    k = max(0, min(k, alive - itself))
    if not k or not len(queries):
        nothing = np.empty(len(queries), np.float32)
        return Questions(matrix, live, queries, own, source, 0, target, nothing, 0.0, 0.0)
    truth, found = search_flat(matrix, queries, k + itself, live)
    if itself:
        truth, _ = top_k(np.where(found == own[:, None], -np.inf, truth), found, k)
    good = truth[:, k - 1] - np.float32(TIE)
    exact = [
        timed(search_flat, matrix, queries[i : i + 1], k, live)[1]
        for i in range(min(_TIMED, len(queries)))
    ]
    chosen = np.random.default_rng(seed).integers(0, len(matrix), (1, _CHOSEN))
    scoring = [timed(score_rows, matrix, queries[:1], chosen + 0)[1] for _ in range(_TIMED)]
    row_us = 1e6 * median(scoring) / _CHOSEN
    exact_ms = 1e3 * median(exact)
    return Questions(matrix, live, queries, own, source, k, target, good, exact_ms, row_us)


def timed(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """Return what a call returns, and the seconds that it took."""
    start = time.perf_counter()
    value = call(*args, **kwargs)
    return value, time.perf_counter() - start
