"""Measure what recall and what latency a structure's parameters give on these very rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import ParamSpec

import numpy as np

from vecindex.ann.base import Progress, ShouldStop, Structure, Watch
from vecindex.ann.bounds import LowerBound
from vecindex.ann.flat import LiveMask, search_flat
from vecindex.ann.holdout import Holdout
from vecindex.ann.scores import score_rows, top_k
from vecindex.arrays import Float32Array, Int64Array
from vecindex.results import Calibration, OperatingPoint
from vecindex.spec import Params

P = ParamSpec("P")

_TIE = 1e-6  # scores that near count as equal
_ENOUGH_BOUND = 0.9995  # nobody needs parameters beyond
_FEW_TIMINGS = 7  # queries that time a search whose recall is 1 by construction
_SLOW_MS = 1.0  # below, searching is so cheap that timings decide nothing


def candidates_for(k: int, live: LiveMask | None) -> int:
    """Return how many candidates to ask of a structure so that k of them should be live.

    Parameters
    ----------
    k : int
        Live rows wanted.
    live : LiveMask or None
        The live rows among those that the structure covers; None if all are.

    Returns
    -------
    int
        k if all rows live; otherwise so many more as dead rows are expected among the k, and
        half as many again, at least one. Searches and their calibration use the same number.
    """
    dead = 0 if live is None else len(live) - live.count
    if live is None or dead == 0 or live.count == 0:
        return k
    return min(len(live), k + -(-3 * k * dead // (2 * live.count)))


def calibrate(  # noqa: PLR0913 - each is a choice of its own, and all but two have a default
    structure: Structure,
    vectors: Float32Array,
    *,
    live: LiveMask | None = None,
    queries: Float32Array | None = None,
    k: int = 10,
    sample: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Calibration:
    """Return the structure's operating curve, measured against exact search.

    Parameters
    ----------
    structure : Structure
        What to measure.
    vectors : ndarray of float32, shape (n, dim)
        C-contiguous unit rows, at least those that the structure covers; only these are searched.
    live : LiveMask or None
        Which of the n rows, or of the covered rows, live; None if all do.
    queries : ndarray of float32, shape (q, dim), or None
        Unit rows to ask, all of them. None asks a sample of the live rows themselves, each as if
        it were not there (`Holdout`): it counts neither as its own neighbour nor as a result.
    k : int
        Neighbours asked for.
    sample : int
        Rows sampled as queries.
    seed : int
        Of the sample.
    confidence : float
        Of each point's lower bound, one-sided.
    progress : callable or None
        Called with points measured and points in total.
    should_stop : callable or None
        Polled between points; True ends the work.

    Returns
    -------
    Calibration
        Points by rising cost, as far as more cost still bought recall; none if there is no
        neighbour to ask for.

    Raises
    ------
    BuildInterrupted
        If `should_stop` said so.

    Notes
    -----
    One query at a time on one thread, scored as a search scores it; dead rows are dropped after
    the structure has proposed them, as a search does. A point that looks at every row is exact
    by construction: its recall and bound are 1. See `LowerBound` for the other bounds.
    """
    matrix = vectors[: structure.rows]
    live = None if live is None else live.head(structure.rows)
    source = "rows" if queries is None else "queries"
    if queries is None:
        queries, own = _sample_rows(matrix, live, sample, seed)
    else:
        queries, own = np.ascontiguousarray(queries), np.full(len(queries), -1)
    watch = Watch(progress, should_stop)
    watch.check()
    trial = _trial(Holdout(structure, own[own >= 0]), matrix, live, queries, own, k)
    points: tuple[OperatingPoint, ...] = ()
    exact_ms = 0.0
    if trial.k > 0 and len(queries) > 0:
        exact_ms = trial.exact_ms()
        points = tuple(_climb(trial, LowerBound(trial.k, confidence), exact_ms, watch))
    asked = len(queries) if points else 0
    return Calibration(structure.kind, k, asked, source, exact_ms, points)


def _sample_rows(
    matrix: Float32Array, live: LiveMask | None, sample: int, seed: int
) -> tuple[Float32Array, Int64Array]:
    """Return sampled live rows as queries, and their numbers."""
    rows = np.arange(len(matrix)) if live is None else live.rows
    chosen = np.random.default_rng(seed).choice(rows, min(sample, len(rows)), replace=False)
    return np.ascontiguousarray(matrix[chosen]), chosen


def _climb(
    trial: _Trial, bound: LowerBound, exact_ms: float, watch: Watch
) -> Iterator[OperatingPoint]:
    """Yield points by rising cost until more cost buys nothing."""
    grid = trial.holdout.structure.grid()
    perfect = 0
    for number, params in enumerate(grid):
        watch.check()
        if trial.holdout.structure.exhaustive(params):
            point = OperatingPoint(asdict(params), 1.0, 1.0, trial.latency_ms(params))
        else:
            recalls, latency_ms = trial.measure(params)
            point = OperatingPoint(
                asdict(params), float(recalls.mean()), bound.of(recalls), latency_ms
            )
        yield point
        watch.report(number + 1, len(grid))
        perfect += point.recall == 1.0
        slow = point.latency_ms > exact_ms > _SLOW_MS  # exact search is better than what follows
        if point.bound >= _ENOUGH_BOUND or perfect == 2 or slow:
            watch.report(len(grid), len(grid))
            return


def _trial(
    holdout: Holdout,
    matrix: Float32Array,
    live: LiveMask | None,
    queries: Float32Array,
    own: Int64Array,
    k: int,
) -> _Trial:
    """Search the truth, a row itself not being part of it."""
    itself = int((own >= 0).any())
    alive = len(matrix) if live is None else live.count
    k = max(0, min(k, alive - itself))
    truth, rows = search_flat(matrix, queries, k + itself, live)
    if itself:
        truth, _ = top_k(np.where(rows == own[:, None], -np.inf, truth), rows, k)
    worst = truth[:, k - 1] if k else np.empty(len(queries), np.float32)
    return _Trial(holdout, matrix, live, queries, own, k, worst - np.float32(_TIE))


@dataclass(frozen=True, eq=False)
class _Trial:
    """What every point is measured with."""

    holdout: Holdout
    matrix: Float32Array
    live: LiveMask | None
    queries: Float32Array
    own: Int64Array  # (q,) the row that a query is, -1 if none
    k: int
    good_enough: Float32Array  # (q,) scores from here on belong to the true k

    def measure(self, params: Params) -> tuple[Float32Array, float]:
        """Return each query's recall, shape (q,), and the median latency in milliseconds."""
        found, seconds = self._run(params, len(self.queries))
        hits = np.array(
            [(s >= least).sum() for s, least in zip(found, self.good_enough, strict=True)]
        )
        return (hits / self.k).astype(np.float32), 1000 * median(seconds)

    def latency_ms(self, params: Params) -> float:
        """Return the median latency in milliseconds over a few queries."""
        return 1000 * median(self._run(params, _FEW_TIMINGS)[1])

    def exact_ms(self) -> float:
        """Return the median latency of exact search in milliseconds."""
        count = min(_FEW_TIMINGS, len(self.queries))
        return 1000 * median(_timed(self._ask_exactly, i)[1] for i in range(count))

    def _run(self, params: Params, count: int) -> tuple[list[Float32Array], list[float]]:
        wanted = candidates_for(self.k, self.live)
        wide = self.holdout.structure.widen(params, wanted)
        self._ask(0, wide, wanted)  # warms caches up
        count = min(count, len(self.queries))
        runs = []
        for number in range(count):
            with self.holdout.hiding(int(self.own[number])):
                runs.append(_timed(self._ask, number, wide, wanted))
        return [scores for scores, _ in runs], [seconds for _, seconds in runs]

    def _ask(self, number: int, params: Params, wanted: int) -> Float32Array:
        """Return the scores found for one query, the query's own row left out."""
        query, own = self.queries[number : number + 1], self.own[number]
        rows = self.holdout.structure.propose(query, wanted + int(own >= 0), params, 1)
        if self.live is not None:
            rows = np.where(self.live.mask[rows], rows, -1)
        if own >= 0:
            rows = np.where(rows == own, -1, rows)
        scores: Float32Array = top_k(score_rows(self.matrix, query, rows), rows, self.k)[0][0]
        return scores

    def _ask_exactly(self, number: int) -> Float32Array:
        return search_flat(self.matrix, self.queries[number : number + 1], self.k, self.live)[0]


def _timed(
    call: Callable[P, Float32Array], *args: P.args, **kwargs: P.kwargs
) -> tuple[Float32Array, float]:
    start = time.perf_counter()
    value = call(*args, **kwargs)
    return value, time.perf_counter() - start
