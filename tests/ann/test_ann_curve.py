"""The operating curve of structures that do as they are told: what counts, and where it ends."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ann_data import clustered

from vecindex.ann import LiveMask, Questions, calibrate, exact_search, questions
from vecindex.ann.rescored import Rescored
from vecindex.arrays import Float32Array, Int64Array
from vecindex.results import Calibration, Costs
from vecindex.spec import IvfParams, Params

module = import_module("vecindex.ann.calibrate")  # the function of that name hides it


class Scripted(Rescored):
    """A structure that knows the truth, tells a part of it, and notes what it was asked."""

    kind, codes, scan, repeats, size_bytes = "ivf", "sq8", None, False, 0

    def __init__(self, matrix: Float32Array, told: int = 10**6, groups: int = 5) -> None:
        self.matrix, self.told, self.groups = matrix, told, groups
        self.rows = len(matrix)
        self.asked: list[tuple[int, int, Params]] = []

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        self.asked.append((len(queries), slots, params))
        rows = exact_search(self.matrix, queries, slots)[1]
        rows[:, self.told :] = -1
        return rows

    def grid(self) -> tuple[tuple[Params, ...], ...]:
        return tuple(tuple(IvfParams(n, r) for r in (1, 2, 4)) for n in range(1, self.groups + 1))

    def widen(self, params: Params, k: int) -> Params:
        return params

    def exhaustive(self, params: Params) -> bool:
        return False

    def scans(self, params: Params) -> bool:
        return False


def of_rows(matrix: Float32Array, sample: int = 50, live: LiveMask | None = None) -> Questions:
    """Return sampled rows as questions."""
    return questions(matrix, live, None, k=10, sample=sample, seed=0)


def recalls(found: Calibration) -> set[float]:
    """Return the recalls on a curve."""
    return {point.recall for point in found.points}


@pytest.fixture(autouse=True)
def everything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no point out."""
    monkeypatch.setattr(module, "_worth_keeping", lambda _, points: points)
    monkeypatch.setattr(module, "_TIMED", 3)


def test_a_row_is_not_its_own_neighbour() -> None:
    matrix = clustered(300, seed=1)
    perfect = calibrate(Scripted(matrix), of_rows(matrix))
    assert perfect.source == "rows"
    assert [point.recall for point in perfect.points] == [1.0] * 6  # two groups are enough

    class OnlyItself(Scripted):
        repeats = True

        def find(self, queries, slots, params, threads=None):  # type: ignore[no-untyped-def]
            rows = super().find(queries, slots, params, threads)
            rows[:, 1] = rows[:, 0]  # twice, as structures with repeats may
            rows[:, 2:] = -1
            return rows

    blind = calibrate(OnlyItself(matrix), of_rows(matrix))
    assert recalls(blind) == {0.0}
    assert {point.bound for point in blind.points} == {0.0}
    given = questions(matrix, None, matrix[:50].copy(), k=10, sample=0, seed=0)
    assert recalls(calibrate(OnlyItself(matrix), given)) == {np.float32(0.1)}


def test_only_the_row_itself_is_left_out() -> None:
    # Each row has nine copies: its true ten nearest are the nine and one more.
    matrix = np.repeat(clustered(30, seed=1), 10, axis=0)
    assert recalls(calibrate(Scripted(matrix), of_rows(matrix))) == {1.0}
    # Five candidates are told, of which one may be the row itself.
    half = calibrate(Scripted(matrix, told=5), of_rows(matrix))
    assert all(0.4 <= point.recall < 0.5 for point in half.points)


def test_a_row_found_twice_counts_once() -> None:
    matrix = clustered(300, seed=1)

    class Twice(Scripted):
        repeats = True

        def find(self, queries, slots, params, threads=None):  # type: ignore[no-untyped-def]
            return np.repeat(super().find(queries, slots, params), 2, axis=1)[:, :slots]

    asked = questions(matrix, None, clustered(40, seed=2), k=10, sample=0, seed=0)
    found = calibrate(Twice(matrix), asked)
    for point in found.points:
        assert point.recall == {1: 0.5, 2: 1.0, 4: 1.0}[point.params["rescore"]]
    for point in calibrate(Twice(matrix), of_rows(matrix)).points:
        assert 0.4 <= point.recall <= 0.5 if point.params["rescore"] == 1 else point.recall == 1.0


def test_ties_count_as_found() -> None:
    matrix = np.repeat(clustered(20, seed=1), 50, axis=0)

    class LastOfTies(Scripted):
        def find(self, queries, slots, params, threads=None):  # type: ignore[no-untyped-def]
            rows = exact_search(self.matrix, queries, 50)[1]
            return np.ascontiguousarray(rows[:, ::-1][:, :slots])

    assert recalls(calibrate(LastOfTies(matrix), of_rows(matrix))) == {1.0}


def test_dead_rows_do_not_count() -> None:
    matrix = clustered(300, seed=1)
    live = LiveMask(np.arange(300) % 2 == 0)

    class OnlyDead(Scripted):
        def find(self, queries, slots, params, threads=None):  # type: ignore[no-untyped-def]
            rows = super().find(queries, slots, params)
            return np.where(live.mask[rows], -1, rows)

    for asked in (
        of_rows(matrix, live=live),
        questions(matrix, live, clustered(40, seed=2), k=10, sample=0, seed=0),
    ):
        assert recalls(calibrate(OnlyDead(matrix), asked)) == {0.0}
        whole = calibrate(Scripted(matrix), asked)
        assert whole.points[-1].recall == 1.0
        assert whole.points[0].recall > 0.95  # as many more are asked for as are dead


def test_as_many_candidates_as_searches_ask_for() -> None:
    matrix = clustered(300, seed=1)
    for live, slots in ((None, 40), (LiveMask(np.arange(300) % 2 == 0), 100)):
        structure = Scripted(matrix, told=5)
        asked = questions(matrix, live, clustered(40, seed=2), k=10, sample=0, seed=0)
        calibrate(structure, asked)
        assert {wanted for count, wanted, _ in structure.asked if count == 40} == {slots}
    structure = Scripted(matrix[:30])
    asked = questions(matrix[:30], None, clustered(40, seed=2), k=10, sample=0, seed=0)
    calibrate(structure, asked)
    assert max(wanted for _, wanted, _ in structure.asked) == 30  # there are no more


class Told(Scripted):
    """Each group finds the given share of answers."""

    shares: tuple[float, ...] = ()

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        assert isinstance(params, IvfParams)
        rows = super().find(queries, slots, params)
        share = self.shares[params.nprobe - 1]
        missed = np.random.default_rng(params.nprobe).random(rows.shape) > share
        return np.where(missed, -1, rows)


@pytest.mark.parametrize(
    ("target", "closely"),
    [
        (0.95, {3, 4, 5, 6, 9}),  # four near the target, and the first that seems to meet 0.99
        (0.9, {2, 3, 4, 5, 7, 9}),  # likewise, and the first that seems to meet 0.95
        (0.995, {9, 10}),
    ],
)
def test_what_may_be_asked_for_is_measured_with_all_queries(
    target: float, closely: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    structure = Told(matrix := clustered(300, seed=1), groups=10)
    structure.shares = (0.5, 0.93, 0.945, 0.947, 0.949, 0.951, 0.97, 0.98, 0.998, 0.999)
    queries = np.ascontiguousarray(np.repeat(clustered(100, seed=2), 10, axis=0))
    asked = questions(matrix, None, queries, k=10, target=target, sample=0, seed=0)
    monkeypatch.setattr(module, "_PILOT", 500)
    found = calibrate(structure, asked)
    counts: dict[int, int] = {}
    for count, _, params in structure.asked:
        assert isinstance(params, IvfParams)
        counts[params.nprobe] = counts.get(params.nprobe, 0) + count
    assert {number for number, count in counts.items() if count > 1000} == closely
    for level in (0.95, 0.99):
        if level >= target:
            assert found.cheapest(level) is not None


def test_exhaustive_points_are_certain() -> None:
    matrix = clustered(300, seed=1)

    class HalfBlind(Scripted):
        def exhaustive(self, params: Params) -> bool:
            return params.nprobe == 3

    asked = questions(matrix, None, clustered(5, seed=2), k=10, sample=0, seed=0)
    found = calibrate(HalfBlind(matrix, told=2), asked)
    assert [point.params["nprobe"] for point in found.points] == [1, 1, 1, 2, 2, 2, 3]
    assert [point.bound == 1.0 for point in found.points] == [False] * 6 + [True]
    assert found.cheapest(1.0) == found.points[-1]  # the rest cannot be better


def clock(monkeypatch: pytest.MonkeyPatch, costs: dict[int, float]) -> None:
    """Let searches take what is said for each `nprobe`, and 1 ms more for each ten slots."""

    def timed(call: Any, *args: Any) -> tuple[Any, float]:
        slots, params = args[1:3] if len(args) == 3 else (0, IvfParams(1))
        return call(*args), costs[params.nprobe] + slots / 10_000

    monkeypatch.setattr(module, "timed", timed)


def test_points_between_are_reckoned(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, dict.fromkeys(range(1, 6), 0.002))
    matrix = clustered(300, seed=1)
    asked = questions(matrix, None, clustered(40, seed=2), k=10, sample=0, seed=0)
    found = calibrate(Scripted(matrix, told=2), asked)
    by_rescore = {point.params["rescore"]: point.latency_ms for point in found.points}
    assert by_rescore == pytest.approx({1: 3.0, 2: 4.0, 4: 6.0})


def test_costs_of_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "timed", lambda call, *args: (call(*args), 0.003))
    matrix = clustered(300, seed=1)
    asked = questions(matrix, None, clustered(40, seed=2), k=10, sample=0, seed=0)
    asked = replace(asked, exact_ms=0.6, row_us=0.25)
    structure = Scripted(matrix)
    assert calibrate(structure, asked).costs == Costs(0.25, 3000.0, None)
    structure.scan = SimpleNamespace(count=150, find=lambda query, slots, threads: None)
    assert calibrate(structure, asked).costs == Costs(0.25, 3000.0, 20.0)


class Scanning(Scripted):
    """Its first group is a scan."""

    def scans(self, params: Params) -> bool:
        return params.nprobe == 1


def groups_of(found: Calibration) -> set[int]:
    """Return the groups that were measured."""
    return {point.params["nprobe"] for point in found.points}


@pytest.mark.parametrize("kind", [Scripted, Scanning])
@pytest.mark.parametrize(("exact_ms", "groups"), [(0.9, 5), (1.5, 1), (2.9, 2), (9.0, 5)])
def test_points_that_are_too_slow_end_the_curve(
    kind: type[Scripted], exact_ms: float, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, {number: number / 1000 for number in range(1, 6)})
    matrix = clustered(300, seed=1)

    class Better(kind):  # type: ignore[misc, valid-type]
        """The more lists, the better: no group is beaten by an earlier one."""

        def find(self, queries, slots, params, threads=None):  # type: ignore[no-untyped-def]
            self.told = params.nprobe
            return super().find(queries, slots, params)

    asked = questions(matrix, None, clustered(40, seed=2), k=10, sample=0, seed=0)
    seen: list[tuple[int, int]] = []
    found = calibrate(
        Better(matrix),
        replace(asked, exact_ms=exact_ms),  # the cheapest of the groups take 2, 3, 4 ms ...
        progress=lambda *done: seen.append(done),
    )
    if kind is Scanning and groups == 1:
        groups = 2  # a scan is measured in any case, and ends nothing
    assert groups_of(found) == set(range(1, groups + 1))
    assert seen[-1] == (5, 5)


def test_lists_that_the_scan_beats_end_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = clustered(300, seed=1)
    asked = questions(matrix, None, clustered(40, seed=2), k=10, sample=0, seed=0)
    for costs, expected in (
        ([1, 2, 3, 4, 5], {1, 2, 3}),  # twice dearer than the scan, and no better
        ([9, 1, 2, 3, 4], {1, 2, 3, 4, 5}),
        ([5, 1, 6, 2, 7], {1, 2, 3, 4, 5}),
        ([5, 1, 6, 7, 8], {1, 2, 3, 4}),
    ):
        clock(monkeypatch, {n: cost / 1000 for n, cost in enumerate(costs, 1)})
        found = calibrate(Scanning(matrix, told=2), asked)
        assert groups_of(found) == expected
        assert groups_of(calibrate(Scripted(matrix, told=2), asked)) == {1, 2, 3, 4, 5}
