"""Choose a structure by trying the few that can fit, on the rows themselves."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vecindex.ann.base import BuildInterrupted, Progress, ShouldStop, Structure
from vecindex.ann.calibrate import calibrate
from vecindex.ann.flat import LiveMask
from vecindex.ann.flat_codes import FlatScan
from vecindex.ann.ivf_pq import IvfPq
from vecindex.ann.questions import Questions, questions
from vecindex.ann.structures import build
from vecindex.arrays import HEADER_BYTES, Float32Array, MappedRows
from vecindex.results import Calibration, OperatingPoint, Tried
from vecindex.spec import FlatSpec, HnswSpec, IvfSpec, OptimizeBudget, StructureSpec, spec_name

QUICK: tuple[FlatSpec | IvfSpec, ...] = (FlatSpec("pq4"), IvfSpec(codes="pq4"))
"""Structures that are built in about the time that a few thousand exact searches take."""

SLOW: tuple[HnswSpec, ...] = (HnswSpec(codes="sq4"),)
"""Structures whose building is predicted from a sample first."""

FAST_MS = 0.5
"""A search that quick leaves a graph, which takes minutes to build, little to gain."""

_SAMPLE_ROWS = 4096
_BETTER = 0.9  # a structure replaces a simpler one if it takes at most this share of its time


@dataclass(frozen=True)
class Choice:
    """What `choose` decided.

    Parameters
    ----------
    spec : FlatSpec, HnswSpec or IvfSpec
        The winner.
    structure : Structure or None
        Built over all rows; None for flat without codes.
    calibration : Calibration or None
        Of the structure.
    tried : tuple of Tried
        Everything that was considered, with the reasons.
    """

    spec: StructureSpec
    structure: Structure | None
    calibration: Calibration | None
    tried: tuple[Tried, ...]


def choose(
    vectors: MappedRows,
    *,
    target: float,
    live: LiveMask | None = None,
    queries: Float32Array | None = None,
    budget: OptimizeBudget | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Choice:
    """Return the structure with the lowest latency at the target, within the budget.

    Parameters
    ----------
    vectors : MappedRows
        The rows; kept by the structure, not copied.
    target : float
        The recall@10 that must be promised.
    live : LiveMask or None
        Which of them live; None if all do.
    queries : ndarray of float32, shape (q, dim), or None
        Unit rows to measure with; None takes rows.
    budget : OptimizeBudget or None
        Limits of building time and memory. None is the default budget, in which graphs are not
        even tried where the quick structures are fast.
    threads : int or None
        For building; None takes all cores.
    progress : callable or None
        Called with structures tried and structures in total.
    should_stop : callable or None
        Polled; True ends the work.

    Returns
    -------
    Choice
        Flat without codes if nothing else meets the target faster.

    Raises
    ------
    BuildInterrupted
        If `should_stop` said so.
    """
    asked = questions(vectors.rows, live, queries, target=target)
    race = _Race(vectors, target, asked, budget, threads, should_stop)
    names = len(QUICK) + len(SLOW)
    for done, _ in enumerate(race.run()):
        if progress is not None:
            progress(done + 1, names)
    return race.choice()


@dataclass
class _Entry:
    """A structure that was built and measured."""

    spec: StructureSpec
    structure: Structure | None
    calibration: Calibration | None
    point: OperatingPoint
    tried: Tried


class _Race:
    """One comparison of structures; the best so far is kept, the others only as figures."""

    def __init__(
        self,
        vectors: MappedRows,
        target: float,
        asked: Questions,
        budget: OptimizeBudget | None,
        threads: int | None,
        should_stop: ShouldStop | None,
    ) -> None:
        self._vectors, self._target, self._asked = vectors, target, asked
        self._eager = budget is not None
        self._budget = budget or OptimizeBudget()
        self._threads, self._should_stop = threads, should_stop
        exact = OperatingPoint({}, 1.0, 1.0, asked.exact_ms)
        self._best = _Entry(FlatSpec(), None, None, exact, _tried("flat", 0.0, 0, exact))
        self._others: list[Tried] = []

    def run(self) -> Iterator[None]:
        """Try all that can fit."""
        if self._asked.empty:
            return
        for quick in QUICK:
            self._try(quick)
            yield
        for slow in SLOW:
            reason = self._too_slow(slow)
            if reason is None:
                self._try(slow)
            else:
                self._others.append(Tried(spec_name(slow), reason))
            yield

    def _try(self, spec: StructureSpec) -> None:
        start, base = time.perf_counter(), self._best.structure

        def late() -> bool:
            """Return whether building has taken all that the budget allows."""
            return time.perf_counter() - start > self._budget.build_s

        try:
            structure = build(spec, self._vectors, threads=self._threads, base=base,
                              should_stop=lambda: self._stopped() or late())  # fmt: skip
        except BuildInterrupted:
            if not late():
                raise
            verdict = f"given up after the {self._budget.build_s:g} s of the budget"
            self._others.append(Tried(spec_name(spec), verdict))
            return
        build_s, scan = time.perf_counter() - start, None
        if isinstance(base, FlatScan) and isinstance(structure, IvfPq):  # the scan is part of both
            build_s += self._best.tried.build_s or 0.0
            scan = self._best.calibration
        calibration = calibrate(structure, self._asked, scan=scan, should_stop=self._should_stop)
        point = calibration.cheapest(self._target)
        tried = _tried(spec_name(spec), build_s, structure.size_bytes, point)
        reason = self._against(build_s, structure.size_bytes, point)
        if reason is not None or point is None:
            self._others.append(replace(tried, verdict=reason or ""))
            return
        self._others.append(self._best.tried)
        self._best = _Entry(spec, structure, calibration, point, tried)

    def _stopped(self) -> bool:
        return self._should_stop is not None and self._should_stop()

    def _against(self, build_s: float, size: int, point: OperatingPoint | None) -> str | None:
        """Return why a structure is not the best so far, None if it is."""
        limit, best = self._budget, self._best
        if point is None:
            return f"no setting promises recall {self._target:g}"
        if build_s > limit.build_s:
            return f"built in {build_s:.1f} s, over the budget of {limit.build_s:g} s"
        if limit.memory_bytes is not None and size > limit.memory_bytes:
            return f"{size:,} bytes, over the budget of {limit.memory_bytes:,}"
        if point.latency_ms > _BETTER * best.point.latency_ms:
            return f"not clearly faster than {best.tried.spec} at the target"
        return None

    def _too_slow(self, spec: HnswSpec) -> str | None:
        """Return why a graph is not built, None if it shall be."""
        best_ms = self._best.point.latency_ms
        if not self._eager and best_ms <= FAST_MS:
            return (
                f"not built: {self._best.tried.spec} takes {best_ms:.2f} ms, so a graph would gain "
                "little; give a budget to have it tried"
            )
        estimate = self._estimated_s(spec)
        if estimate > self._budget.build_s:
            return (
                f"not built: it would take about {estimate:.0f} s, over the budget of "
                f"{self._budget.build_s:g} s"
            )
        return None

    def _estimated_s(self, spec: HnswSpec) -> float:
        """Return how long building takes, from a sample: in proportion to n log n."""
        rows = self._vectors.rows
        count = min(_SAMPLE_ROWS, len(rows))
        sample = MappedRows(
            rows[:count], self._vectors.buffer[: HEADER_BYTES + rows[:count].nbytes]
        )
        start = time.perf_counter()
        build(spec, sample, threads=self._threads, should_stop=self._should_stop)
        taken = time.perf_counter() - start
        return taken * len(rows) / count * math.log(len(rows) + 1) / math.log(count + 1)

    def choice(self) -> Choice:
        """Return the winner."""
        if self._stopped():
            raise BuildInterrupted("stopped before it was finished")
        best = self._best
        verdict = f"chosen: the fastest that promises recall {self._target:g}"
        slower = f"slower than {best.tried.spec} at the target"
        others = [one if one.verdict else replace(one, verdict=slower) for one in self._others]
        tried = (replace(best.tried, verdict=verdict), *others)
        return Choice(best.spec, best.structure, best.calibration, tried)


def _tried(name: str, build_s: float, size: int, point: OperatingPoint | None) -> Tried:
    if point is None:
        return Tried(name, "", build_s, size)
    return Tried(name, "", build_s, size, point.params, point.recall, point.bound, point.latency_ms)
