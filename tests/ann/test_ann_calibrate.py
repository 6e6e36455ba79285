"""The operating curve: what it says of a structure is what a plain loop measures."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from ann_data import CASES, DIM, SPECS, Builder, Case, Mapper, by_cost, clustered

from vecindex.ann import (
    BuildInterrupted,
    LiveMask,
    Questions,
    Structure,
    build,
    calibrate,
    candidates_for,
    exact_search,
    questions,
    slots_for,
)
from vecindex.ann.bounds import LowerBound
from vecindex.ann.holdout import Holdout
from vecindex.results import Calibration, OperatingPoint
from vecindex.spec import Params, params_from_dict

module = import_module("vecindex.ann.calibrate")  # the function of that name hides it


@pytest.fixture(autouse=True)
def timed_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time few queries: latencies are no matter here."""
    monkeypatch.setattr(module, "_TIMED", 3)


def asked_of(case: Case, live: LiveMask | None = None, count: int | None = None) -> Questions:
    """Return its queries with the truth; rows if a number of these is given."""
    given = case.queries if count is None else None
    return questions(case.vectors.rows, live, given, k=10, sample=count or 0, seed=0)


def measured(structure: Structure, asked: Questions) -> list[list[OperatingPoint]]:
    """Return the points of all groups of the grid, none left out."""
    trial = module._Trial(structure, asked, Holdout(structure, asked.own[asked.own >= 0]))
    bound = LowerBound(asked.k, 0.99)
    return [trial.measure(group, bound) for group in structure.grid()]


class Direct:
    """Plain searches, counted query by query in Python.

    Of queries that are rows, one candidate more is asked for, and the row itself dropped.
    """

    def __init__(self, asked: Questions) -> None:
        self.asked = asked
        self.alive = np.ones(len(asked.matrix), bool) if asked.live is None else asked.live.mask
        self.least = []  # scores from here on belong to the true ten
        for query, own in zip(asked.queries, asked.own.tolist(), strict=True):
            allowed = self.alive.copy()
            if own >= 0:
                allowed[own] = False
            self.least.append(exact_search(asked.matrix, query[None], 10, allowed)[0][0, -1] - 1e-6)

    def recall(self, structure: Structure, params: Params) -> float:
        """Return the recall of searches with these parameters."""
        asked = self.asked
        itself = int(asked.source == "rows") * (1 + structure.repeats)
        slots = candidates_for(slots_for(structure.codes, params, 10), asked.live)
        slots = min(slots, structure.rows * (1 + structure.repeats))
        wide = structure.widen(params, candidates_for(10, asked.live))
        total = 0.0
        for number, (query, own) in enumerate(zip(asked.queries, asked.own.tolist(), strict=True)):
            found = structure.find(query[None], slots + itself, wide)[0].tolist()
            others = {row for row in [row for row in found if row != own][:slots] if row >= 0}
            kept = [row for row in others if self.alive[row]]
            hits = (asked.matrix[kept] @ query >= self.least[number]).sum()
            total += min(10, int(hits)) / 10
        return total / len(asked.queries)


def half_dead(case: Case) -> LiveMask:
    """Return a mask in which the rows near some queries are dead, and a third of the others."""
    live = np.random.default_rng(3).random(len(case.vectors.rows)) < 0.6
    live[case.truth[:10]] = False
    return LiveMask(live)


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_recall_is_that_of_searches(name: str, dead: bool, built: Builder) -> None:
    case = built(name, DIM)
    asked = asked_of(case, half_dead(case) if dead else None)
    first = {name: getattr(asked, name)[:25] for name in ("queries", "own", "good_enough")}
    few = replace(asked, **first)
    groups, searches = case.structure.grid(), Direct(few)
    for group, points in zip(groups, measured(case.structure, few), strict=True):
        assert [params_from_dict(case.spec.kind, point.params) for point in points] == list(group)
        for params, point in zip(group, points, strict=True):
            if case.structure.exhaustive(params):
                assert (point.recall, point.bound) == (1.0, 1.0)  # whatever was not found is dead
                continue
            # A fast scan's candidates of equal score may be others when fewer are asked for.
            ties = 0.02 if case.spec.codes == "pq4" and params != group[-1] else 1e-5
            assert point.recall == pytest.approx(searches.recall(case.structure, params), abs=ties)
            assert point.bound <= point.recall
            assert point.latency_ms > 0


@pytest.mark.parametrize("name", [name for name in SPECS if not name.startswith("hnsw")])
def test_recall_of_rows(name: str, built: Builder) -> None:
    case = built(name, DIM)
    asked = asked_of(case, half_dead(case), 40)
    searches = Direct(asked)
    for group, points in zip(case.structure.grid(), measured(case.structure, asked), strict=True):
        if not case.structure.exhaustive(group[-1]):
            truly = searches.recall(case.structure, group[-1])
            assert points[-1].recall == pytest.approx(truly, abs=0.006)


@pytest.mark.parametrize("name", [name for name in SPECS if name.startswith("hnsw")])
def test_rows_are_held_out_of_graphs(name: str, built: Builder) -> None:
    case = built(name, DIM)
    asked = asked_of(case, None, 200)
    group = by_cost(case.structure)[0]
    trial = module._Trial(case.structure, asked, Holdout(case.structure, asked.own))
    held_out = trial.measure(group, LowerBound(10, 0.99))[-1]
    assert held_out.recall < Direct(asked).recall(case.structure, group[-1]) - 0.03


def test_a_scan_that_is_known_is_not_measured_again(
    built: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, scan = built("ivf/pq4", DIM).structure, built("flat/pq4", DIM).structure
    asked = asked_of(built("ivf/pq4", DIM))
    known = calibrate(scan, asked)
    fresh = calibrate(lists, asked)
    measured_groups: list[Params] = []
    measure = module._Trial.measure

    def watched(trial: Any, group: Any, *rest: Any) -> Any:
        """Note what is measured."""
        measured_groups.append(group[0])
        return measure(trial, group, *rest)

    monkeypatch.setattr(module._Trial, "measure", watched)
    again = calibrate(lists, asked, scan=known)
    assert measured_groups
    assert not any(lists.scans(params) for params in measured_groups)
    nlist = lists.nlist
    scans = [{p.params["rescore"]: (p.recall, p.bound, p.latency_ms)
              for p in curve.points if p.params.get("nprobe", nlist) == nlist}
             for curve in (known, again, fresh)]  # fmt: skip
    assert scans[1] == scans[0]
    assert scans[1].keys() == scans[2].keys()
    for rescore, (recall, bound, _) in scans[1].items():
        assert (recall, bound) == pytest.approx(scans[2][rescore][:2], abs=0.01)


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_the_curve(name: str, dim: int, built: Builder) -> None:
    case = built(name, dim)
    asked = asked_of(case)
    found = calibrate(case.structure, asked)
    assert (found.kind, found.codes) == (case.spec.kind, case.spec.codes)
    assert (found.k, found.queries, found.source) == (10, 100, "queries")
    assert found.exact_ms == asked.exact_ms
    latencies = [point.latency_ms for point in found.points]
    assert latencies == sorted(latencies)
    everything = [point for points in measured(case.structure, asked) for point in points]
    recalls = {str(point.params): point.recall for point in everything}
    for point in found.points:
        assert point.recall == pytest.approx(recalls[str(point.params)], abs=1e-6)
        assert point.bound <= point.recall
    assert max(point.recall for point in found.points) > 0.99
    assert Calibration.from_dict(found.to_dict()) == found
    # Whatever a scan of all codes can promise is kept: filters need it.
    kind, scans = case.spec.kind, case.structure.scans
    needed = {str(p.params) for p in everything if scans(params_from_dict(kind, p.params))}
    assert needed <= {str(point.params) for point in found.points}
    assert bool(needed) == (case.spec.codes == "pq4")


def test_costs(plain: Case) -> None:
    asked = asked_of(plain)
    costs = calibrate(plain.structure, asked).costs
    assert costs.row_us == asked.row_us
    assert costs.call_us > 0
    assert (costs.scan_row_us is not None) == (plain.spec.codes == "pq4")
    if costs.scan_row_us is not None:
        assert 0 < costs.scan_row_us < 10


@pytest.mark.parametrize("name", ["flat/sq8", "hnsw", "ivf", "ivf/pq4"])
def test_only_all_lists_of_rows_are_certain(name: str, built: Builder) -> None:
    case = built(name, DIM)
    for points in measured(case.structure, asked_of(case)):
        for point in points:
            params = params_from_dict(case.spec.kind, point.params)
            assert (point.bound == 1.0) == case.structure.exhaustive(params)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("count", [1, 2, 11, 13, 40])
def test_few_rows(count: int, name: str, mapped: Mapper, capfd: pytest.CaptureFixture[str]) -> None:
    vectors = mapped(clustered(count, seed=1, dim=10))
    structure = build(SPECS[name], vectors)
    for given in (None, clustered(3, seed=2, dim=10)):
        asked = questions(vectors.rows, None, given, k=10, sample=20, seed=0)
        found = calibrate(structure, asked)
        if asked.empty:
            assert (found.points, found.queries, found.cheapest(0.1)) == ((), 0, None)
        else:
            assert found.queries == len(asked.queries)
            # A fast scan does not find a row whose code is the worst that there can be.
            assert max(point.recall for point in found.points) == 1.0 or count < 3
        assert Calibration.from_dict(found.to_dict()) == found
    assert capfd.readouterr() == ("", "")


def test_no_live_rows(plain: Case) -> None:
    dead = LiveMask(np.zeros(len(plain.vectors.rows), bool))
    for count in (None, 30):
        found = calibrate(plain.structure, asked_of(plain, dead, count))
        assert (found.points, found.queries) == ((), 0)


def test_progress_and_stop(plain: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_beaten", lambda *_: False)  # else the timings end the curve
    monkeypatch.setattr(module, "_SLOW_MS", 1e9)
    asked = asked_of(plain, None, 20)
    seen: list[tuple[int, int]] = []
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return False

    calibrate(plain.structure, asked, progress=lambda *done: seen.append(done), should_stop=look)
    total = len(plain.structure.grid())
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
    assert looks > 1
    for last in range(looks):
        left = iter([False] * last + [True])
        with pytest.raises(BuildInterrupted):
            calibrate(plain.structure, asked, should_stop=lambda: next(left))  # noqa: B023


def test_queries_in_chunks(built: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    case = built("ivf/pq4", DIM)
    asked = asked_of(case, half_dead(case), 90)
    whole = [[p.recall for p in points] for points in measured(case.structure, asked)]
    monkeypatch.setattr(module, "_CHUNK", 17)
    assert [[p.recall for p in points] for points in measured(case.structure, asked)] == whole
