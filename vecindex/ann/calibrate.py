"""Measure what recall and what latency a structure's parameters give on these very rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

import numpy as np

from vecindex.ann.base import Progress, ShouldStop, Structure, Watch, slots_for
from vecindex.ann.bounds import LowerBound
from vecindex.ann.candidates import candidates_for
from vecindex.ann.holdout import Holdout
from vecindex.ann.questions import Questions, timed
from vecindex.ann.rescored import Wanted
from vecindex.ann.scores import score_rows, top_k
from vecindex.arrays import BoolArray, Float32Array, Int64Array
from vecindex.results import Calibration, Costs, OperatingPoint
from vecindex.spec import Params

_ENOUGH_BOUND = 0.9995  # nobody needs parameters beyond
_TIMED = 25  # queries that time a setting
_SLOW_MS = 1.0  # below, searching is so cheap that timings decide nothing
_PILOT = 300  # queries that every group is measured with
_CLOSELY = 4  # groups that are measured with all queries: the first that come near the target
_NEAR = 0.01  # recall below the target
_BEYOND = (0.95, 0.99)  # recalls that are asked for of indexes for less, too
_TRIES = 2  # groups likewise that seem to meet one of these: the pilot bounds none beyond 0.9926
_CHUNK = 500  # queries whose candidates are in memory at once


def calibrate(
    structure: Structure,
    asked: Questions,
    *,
    confidence: float = 0.99,
    scan: Calibration | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Calibration:
    """Return the structure's operating curve, measured against exact search.

    Parameters
    ----------
    structure : Structure
        What to measure.
    asked : Questions
        Queries with their truth, over the rows that the structure covers. Those that are rows are
        asked as if they were not there (`Holdout`): none finds itself.
    confidence : float
        Of each point's lower bound, one-sided.
    scan : Calibration or None
        Of a `FlatScan` by these questions, if the structure's own scan is the same: its points are
        taken instead of measured again.
    progress : callable or None
        Called with groups of points measured and groups in total.
    should_stop : callable or None
        Polled between groups; True ends the work.

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
    Candidates are scored, and removed rows dropped, as a search does it. Points that differ in
    `rescore` only share one search, as fewer candidates are the first of more; of such a group
    the cheapest and the dearest are timed, one query at a time on one thread, and those between
    are reckoned from these. A point that scores every row is exact by construction: its recall
    and bound are 1. See `LowerBound` for the other bounds.
    """
    watch = Watch(progress, should_stop)
    watch.check()
    points: list[OperatingPoint] = []
    costs = Costs(asked.row_us, 0.0)
    if not asked.empty:
        trial = _Trial(structure, asked, Holdout(structure, asked.own[asked.own >= 0]))
        points = list(_climb(trial, confidence, () if scan is None else scan.points, watch))
        costs = trial.costs(costs)
    return Calibration(
        kind=structure.kind,
        codes=structure.codes,
        k=10,
        queries=len(asked.queries) if points else 0,
        source=asked.source,
        confidence=confidence,
        exact_ms=asked.exact_ms,
        costs=costs,
        points=tuple(_worth_keeping(structure, points)),
    )


def _worth_keeping(structure: Structure, points: list[OperatingPoint]) -> list[OperatingPoint]:
    """Return by rising cost what no cheaper point equals, and all points of a scan."""
    kept: list[OperatingPoint] = []
    recall = bound = -1.0
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.bound, -point.recall)):
        better = point.recall > recall or point.bound > bound
        if better or structure.scans(_params(structure, point)):
            kept.append(point)
        recall, bound = max(recall, point.recall), max(bound, point.bound)
    return kept


def _params(structure: Structure, point: OperatingPoint) -> Params:
    sample = structure.grid()[0][0]
    return type(sample)(**point.params)


def _climb(
    trial: _Trial, confidence: float, known: Sequence[OperatingPoint], watch: Watch
) -> Iterator[OperatingPoint]:
    """Yield points, group after group, until more cost buys nothing."""
    by_rescore = {point.params["rescore"]: point for point in known}
    grid = trial.structure.grid()
    scanned: list[OperatingPoint] = []
    bound, exact_ms = trial.bound(confidence), trial.asked.exact_ms
    target, queries = trial.asked.target, len(trial.asked.queries)
    near, beyond = _CLOSELY, {level: _TRIES for level in _BEYOND if level > target}
    perfect, beaten = 0, 0
    for number, group in enumerate(grid):
        watch.check()
        if trial.structure.scans(group[0]):
            if known:
                scanned = [replace(by_rescore[p.rescore or 0], params=_plain(p)) for p in group]
            else:
                scanned = trial.measure(group, trial.bound(confidence))  # errs in ways of its own
            yield from scanned
            watch.report(number + 1, len(grid))
            continue
        points = trial.measure(group, bound, _PILOT)
        recall = max(point.recall for point in points)
        likely = bound.expected(recall, queries)
        seem = [level for level, tries in beyond.items() if tries and likely >= level]
        if seem or (near > 0 and recall > target - _NEAR):
            points, near = trial.measure(group, bound), near - 1
        for level in seem:
            met = max(point.bound for point in points) >= level
            beyond[level] = 0 if met else beyond[level] - 1
        yield from points
        watch.report(number + 1, len(grid))
        best = max(points, key=lambda point: point.recall)
        perfect += best.recall == 1.0
        beaten += all(_beaten(point, scanned) for point in points)
        slow = min(p.latency_ms for p in points) > exact_ms > _SLOW_MS  # exact is better then
        if best.bound >= _ENOUGH_BOUND or perfect == 2 or beaten == 2 or slow:
            break
    watch.report(len(grid), len(grid))


def _beaten(point: OperatingPoint, others: Sequence[OperatingPoint]) -> bool:
    """Return whether another point is both quicker and better."""
    return any(o.latency_ms <= point.latency_ms and o.recall >= point.recall for o in others)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A structure, and what every group of points is measured with."""

    structure: Structure
    asked: Questions
    holdout: Holdout

    def bound(self, confidence: float) -> LowerBound:
        """Return fresh bounds."""
        return LowerBound(self.asked.k, confidence)

    def measure(
        self, group: Sequence[Params], bound: LowerBound, most: int | None = None
    ) -> list[OperatingPoint]:
        """Return the points of parameters that differ in `rescore` only, by so many queries."""
        dearest = group[-1]
        slots = [self._slots(params) for params in group]
        if self.structure.exhaustive(dearest):
            seconds = self._time(dearest, slots[-1])
            return [OperatingPoint(_plain(dearest), 1.0, 1.0, 1e3 * seconds)]
        if self.holdout.rewires:
            good, seconds = self._one_by_one(dearest, slots[-1], most)
            times = [self._time(group[0], slots[0]) if len(group) > 1 else seconds, seconds]
        else:
            good = self._in_batches(dearest, slots[-1], most)
            times = [self._time(group[i], slots[i]) for i in (0, -1)]
        found = np.cumsum(good, axis=1)
        between = np.interp(slots, [slots[0], max(slots[-1], slots[0] + 1)], times)
        points = []
        for params, width, latency in zip(group, slots, between.tolist(), strict=True):
            hits = found[:, min(width, found.shape[1]) - 1]
            recalls = (np.minimum(hits, self.asked.k) / self.asked.k).astype(np.float32)
            points.append(
                OperatingPoint(
                    _plain(params), float(recalls.mean()), bound.of(recalls), 1e3 * latency
                )
            )
        return points

    def _slots(self, params: Params) -> int:
        slots = slots_for(self.structure.codes, params, self.asked.k)
        most = self.structure.rows * (1 + self.structure.repeats)
        return min(candidates_for(slots, self.asked.live), most)

    def _in_batches(self, params: Params, slots: int, most: int | None) -> BoolArray:
        """Return which candidates belong to the true k, shape (q, slots), ranked by the codes."""
        asked = self.asked
        found = []
        count = len(asked.queries[:most])
        for start in range(0, count, _CHUNK):
            part = slice(start, min(start + _CHUNK, count))
            rows = self._find(asked.queries[part], asked.own[part], slots, params, None)
            scores = score_rows(asked.matrix, asked.queries[part], rows)
            found.append(_first_hits(scores >= asked.good_enough[part, None], rows))
        return np.concatenate(found)

    def _one_by_one(self, params: Params, slots: int, most: int | None) -> tuple[BoolArray, float]:
        """Return the same for a graph that hides each query's row, and the median seconds."""
        asked, found, seconds = self.asked, [], []
        for number, own in enumerate(asked.own[:most].tolist()):
            query = asked.queries[number : number + 1]
            with self.holdout.hiding(own):
                rows, time = timed(self._find, query, asked.own[[number]], slots, params, 1)
            scores, more = timed(score_rows, asked.matrix, query, rows)
            found.append(scores >= asked.good_enough[number])
            seconds.append(time + more)
        return np.concatenate(found), median(seconds)

    def _find(
        self,
        queries: Float32Array,
        own: Int64Array,
        slots: int,
        params: Params,
        threads: int | None,
    ) -> Int64Array:
        """Return candidates as ranked, without dead rows and without the query's own row."""
        copies = int(self.asked.source == "rows")
        if self._repeats(params):
            copies *= 2
        wide = self.structure.widen(params, candidates_for(self.asked.k, self.asked.live))
        rows = self.holdout.structure.find(queries, slots + copies, wide, threads)
        for _ in range(copies):
            rows = _without(rows, own)
        return np.ascontiguousarray(self._living(rows)[:, :slots])

    def _time(self, params: Params, slots: int) -> float:
        """Return the median seconds of one query."""
        asked = self.asked
        wide = self.structure.widen(params, candidates_for(asked.k, asked.live))
        count = min(_TIMED, len(asked.queries))
        runs = [
            timed(self._search, asked.queries[i : i + 1], slots, wide)[1]
            for i in (0, *range(count))
        ]
        return median(runs[1:])  # the first warms caches up

    def _search(self, query: Float32Array, slots: int, params: Params) -> Float32Array:
        """Search as searches do."""
        asked = self.asked
        wanted = Wanted(asked.matrix, query, slots, asked.k, asked.live)
        return self.structure.best(wanted, params, 1).scores

    def _living(self, rows: Int64Array) -> Int64Array:
        live = self.asked.live
        return rows if live is None else np.where(live.mask[rows] & (rows >= 0), rows, -1)

    def _repeats(self, params: Params) -> bool:
        return self.structure.repeats and not self.structure.scans(params)

    def costs(self, known: Costs) -> Costs:
        """Return the costs with those of the structure's scan."""
        asked = self.asked
        few = asked.own[:1].clip(0)[None]
        calls = [
            timed(lambda: top_k(score_rows(asked.matrix, asked.queries[:1], few), few, 1))[1]
            for _ in range(_TIMED)
        ]
        call_us, scan_us = 1e6 * median(calls), None
        if self.structure.scan is not None:
            scan = self.structure.scan
            runs = [timed(scan.find, asked.queries[i % len(asked.queries)][None], 10, 1)[1]
                    for i in range(_TIMED)]  # fmt: skip
            scan_us = 1e6 * median(runs) / scan.count
        return Costs(known.row_us, call_us, scan_us)


def _plain(params: Params) -> dict[str, int]:
    """Return the parameters that are set."""
    return {name: value for name, value in asdict(params).items() if value is not None}


def _without(rows: Int64Array, own: Int64Array) -> Int64Array:
    """Return one column less: without the first place of `own`, or without the last."""
    there = rows == own[:, None]
    place = np.where(there.any(axis=1), there.argmax(axis=1), rows.shape[1] - 1)
    columns = np.arange(rows.shape[1] - 1)
    return np.take_along_axis(rows, columns + (columns >= place[:, None]), 1)


def _first_hits(good: BoolArray, rows: Int64Array) -> BoolArray:
    """Return `good` without the later places of a row that stands there several times."""
    asking, places = np.nonzero(good)
    _, first = np.unique(np.stack([asking, rows[asking, places]]), axis=1, return_index=True)
    hits = np.zeros(good.shape, np.bool_)
    hits[asking[first], places[first]] = True
    return hits
