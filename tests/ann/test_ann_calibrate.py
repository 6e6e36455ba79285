"""The operating curve: honest about recall, never sure of what was not seen."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from ann_data import SPECS, Mapper, clustered, recall

from vecindex.ann import (
    BuildInterrupted,
    LiveMask,
    Structure,
    build,
    calibrate,
    candidates_for,
    exact_search,
)
from vecindex.ann.bounds import LowerBound
from vecindex.ann.holdout import Holdout
from vecindex.arrays import Float32Array, Int64Array, MappedRows
from vecindex.results import Calibration
from vecindex.spec import HnswParams, Params, params_from_dict


def curve(calibration: Calibration) -> dict[int, float]:
    """Return recall by the value of the only parameter."""
    return {next(iter(p.params.values())): p.recall for p in calibration.points}


def test_recall_is_that_of_the_queries(
    structure: Structure, vectors: MappedRows, queries: Float32Array
) -> None:
    found = calibrate(structure, vectors.rows, queries=queries)
    assert (found.kind, found.k, found.queries, found.source) == (
        structure.kind,
        10,
        100,
        "queries",
    )
    assert len(found.points) > 2
    for point in found.points:
        params = params_from_dict(structure.kind, point.params)
        rows = structure.propose(queries, 10, params)
        assert point.recall == pytest.approx(recall(vectors.rows, queries, rows), abs=1e-3)
        assert point.latency_ms > 0
    assert found.exact_ms > 0


def test_dead_rows_are_part_of_what_is_measured(
    structure: Structure, vectors: MappedRows, queries: Float32Array
) -> None:
    live = np.random.default_rng(3).random(len(vectors.rows)) < 0.7
    found = calibrate(structure, vectors.rows, live=LiveMask(live), queries=queries)
    wanted = candidates_for(10, LiveMask(live))
    for point in found.points[:3]:
        params = structure.widen(params_from_dict(structure.kind, point.params), wanted)
        rows = structure.propose(queries, wanted, params)
        kept = np.stack([(row[live[row]].tolist() + [-1] * 10)[:10] for row in rows])
        assert point.recall == pytest.approx(recall(vectors.rows, queries, kept, live), abs=1e-3)


class Scripted:
    """A structure that returns what it is told, and notes what it was asked."""

    kind = "hnsw"
    size_bytes = 0

    def __init__(self, matrix: Float32Array, wrong: float = 0.0) -> None:
        self.rows = len(matrix)
        self._matrix = matrix
        self._wrong = wrong
        self.asked: list[Float32Array] = []

    def propose(
        self, queries: Float32Array, k: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        assert threads == 1
        self.asked.append(queries)
        rows = exact_search(self._matrix, queries, k)[1]
        rows[:, int(rows.shape[1] * (1 - self._wrong)) :] = -1
        return rows

    def grid(self) -> tuple[Params, ...]:
        return tuple(HnswParams(ef) for ef in range(1, 6))

    def widen(self, params: Params, k: int) -> Params:
        return params

    def exhaustive(self, params: Params) -> bool:
        return False

    def write(self, write: object) -> None:
        raise NotImplementedError


def test_a_row_is_not_its_own_neighbour() -> None:
    matrix = clustered(300, seed=1)
    perfect = calibrate(Scripted(matrix), matrix, sample=50)
    assert perfect.source == "rows"
    assert curve(perfect) == {1: 1.0, 2: 1.0}  # perfect twice: no need to go on

    class OnlyItself(Scripted):
        def propose(self, queries, k, params, threads=None):  # type: ignore[no-untyped-def]
            rows = super().propose(queries, k, params, threads)
            rows[:, 1:] = -1
            return rows

    blind = calibrate(OnlyItself(matrix), matrix, sample=50)
    assert set(curve(blind).values()) == {0.0}
    assert {p.bound for p in blind.points} == {0.0}


def test_only_the_row_itself_is_left_out() -> None:
    # Each row has nine copies: its true ten nearest are the nine and one more.
    matrix = np.repeat(clustered(30, seed=1), 10, axis=0)
    found = calibrate(Scripted(matrix), matrix, sample=50)
    assert set(curve(found).values()) == {1.0}
    half = calibrate(Scripted(matrix, wrong=0.5), matrix, sample=50)
    # Five of eleven candidates, of which one may be the row itself.
    assert all(0.35 < value <= 0.5 for value in curve(half).values())


def test_ties_count_as_found(mapped: Mapper) -> None:
    matrix = np.repeat(clustered(20, seed=1), 50, axis=0)

    class LastOfTies(Scripted):
        def propose(self, queries, k, params, threads=None):  # type: ignore[no-untyped-def]
            rows = exact_search(self._matrix, queries, 50)[1]
            return np.ascontiguousarray(rows[:, ::-1][:, :k])

    assert set(curve(calibrate(LastOfTies(matrix), matrix, sample=50)).values()) == {1.0}


def test_a_held_out_row_is_as_hard_as_a_new_query(mapped: Mapper) -> None:
    every = clustered(6000, seed=1)
    new, old = every[:500], every[500:]
    spec, params = SPECS["hnsw"], HnswParams(16)
    without = build(spec, mapped(old))
    truly = recall(old, new, without.propose(new, 10, params))

    vectors = mapped(every)
    structure = build(spec, vectors)
    own = np.arange(500)
    others = np.stack([r[r != i][:10] for i, r in enumerate(exact_search(every, new, 11)[1])])

    def hits(rows: Int64Array, number: int) -> float:
        return len(set(rows[rows != number][:10].tolist()) & set(others[number].tolist())) / 10

    holdout = Holdout(structure, own)
    held, naive = [], []
    before = holdout.structure.propose(new, 11, params)
    for number in own.tolist():
        query = new[number : number + 1]
        naive.append(hits(structure.propose(query, 11, params)[0], number))
        with holdout.hiding(number) as hidden:
            held.append(hits(hidden.propose(query, 11, params)[0], number))
    assert np.mean(naive) > truly + 0.08  # what the copy is for
    assert abs(np.mean(held) - truly) < 0.03
    np.testing.assert_array_equal(holdout.structure.propose(new, 11, params), before)
    np.testing.assert_array_equal(structure.propose(new, 11, params), before)


def test_hidden_rows_are_not_found(structures: dict[str, Structure], vectors: MappedRows) -> None:
    hnsw = structures["hnsw"]
    rows = np.arange(0, 6000, 60)
    holdout = Holdout(hnsw, rows)
    found = 0
    for row in rows.tolist():
        with holdout.hiding(row) as hidden:
            found += row in hidden.propose(vectors.rows[row : row + 1], 10, HnswParams(64))
            assert row in hnsw.propose(vectors.rows[row : row + 1], 10, HnswParams(64))
        assert row in holdout.structure.propose(vectors.rows[row : row + 1], 10, HnswParams(64))
    assert found <= 1  # the walk's start may be among them
    assert Holdout(structures["ivf"], rows).structure is structures["ivf"]


@pytest.mark.parametrize("count", [0, 1, 2, 13])
@pytest.mark.parametrize("kind", SPECS)
def test_tiny(count: int, kind: str, mapped: Mapper, capfd: pytest.CaptureFixture[str]) -> None:
    vectors = mapped(clustered(count, seed=1))
    structure = build(SPECS[kind], vectors)
    found = calibrate(structure, vectors.rows)
    if count < 2:
        assert (found.points, found.queries, found.cheapest(0.5)) == ((), 0, None)
    else:
        assert found.points[0].recall == 1.0
        assert found.queries == count
    assert Calibration.from_dict(found.to_dict()) == found
    assert capfd.readouterr() == ("", "")


def test_no_live_rows(structure: Structure, vectors: MappedRows, queries: Float32Array) -> None:
    dead = LiveMask(np.zeros(len(vectors.rows), bool))
    assert calibrate(structure, vectors.rows, live=dead).points == ()
    assert calibrate(structure, vectors.rows, live=dead, queries=queries).points == ()


def test_rows_beyond_the_structure_do_not_count(
    structure: Structure, vectors: MappedRows, queries: Float32Array
) -> None:
    more = np.vstack([vectors.rows, queries])  # each query finds itself outside
    live = LiveMask(np.ones(len(more), bool))
    inside = calibrate(structure, vectors.rows, queries=queries)
    outside = calibrate(structure, more, live=live, queries=queries)
    assert curve(inside) == curve(outside)


class HalfBlind(Scripted):
    """Misses half of the rows, except with its third parameters, which look at every row."""

    def propose(self, queries, k, params, threads=None):  # type: ignore[no-untyped-def]
        self._wrong = 0.0 if self.exhaustive(params) else 0.5
        return super().propose(queries, k, params, threads)

    def exhaustive(self, params: Params) -> bool:
        return params == HnswParams(3)


def test_exhaustive_points_are_certain(queries: Float32Array) -> None:
    matrix = clustered(300, seed=1)
    found = calibrate(HalfBlind(matrix), matrix, queries=queries[:5])
    assert curve(found) == {1: 0.5, 2: 0.5, 3: 1.0}  # the rest cannot be better
    assert [p.bound < 0.5 for p in found.points] == [True, True, False]
    assert found.points[-1].bound == 1.0
    assert found.cheapest(1.0) == found.points[-1]


def test_ivf_is_certain_only_with_all_lists(
    structures: dict[str, Structure], vectors: MappedRows
) -> None:
    ivf = structures["ivf"]
    found = calibrate(ivf, vectors.rows, sample=2000)
    for point in found.points:
        assert (point.bound == 1.0) == ivf.exhaustive(params_from_dict("ivf", point.params))
        assert point.bound <= point.recall


def test_points_that_are_too_slow_end_the_curve(
    vectors: MappedRows, structures: dict[str, Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(10**6))  # every call takes longer than the one before
    clock = SimpleNamespace(perf_counter=lambda: float(next(times) ** 2))
    monkeypatch.setattr(import_module("vecindex.ann.calibrate"), "time", clock)
    found = calibrate(structures["hnsw"], vectors.rows, sample=20)
    assert len(found.points) < 4


def test_progress_and_stop(structure: Structure, vectors: MappedRows) -> None:
    seen: list[tuple[int, int]] = []
    calibrate(
        structure,
        vectors.rows,
        sample=20,
        progress=lambda done, total: seen.append((done, total)),
    )
    total = len(structure.grid())
    assert seen[0] == (1, total)
    assert seen[-1] == (total, total)
    with pytest.raises(BuildInterrupted):
        calibrate(structure, vectors.rows, sample=20, should_stop=lambda: True)
    answers = iter([False, False, True])
    with pytest.raises(BuildInterrupted):
        calibrate(structure, vectors.rows, sample=20, should_stop=lambda: next(answers))


def test_the_sample_is_of_live_rows_and_seeded() -> None:
    matrix = clustered(300, seed=1)
    live = np.arange(300) % 3 == 0
    asked = []
    for seed in (0, 0, 1):
        structure = Scripted(matrix)
        calibrate(structure, matrix, live=LiveMask(live), sample=20, seed=seed)
        asked.append(np.vstack(structure.asked))
    np.testing.assert_array_equal(asked[0], asked[1])
    assert not np.array_equal(asked[0], asked[2])
    alive = {row.tobytes() for row in matrix[live]}
    assert {row.tobytes() for row in asked[0]} <= alive


def test_candidates_allow_for_dead_rows() -> None:
    def mask(dead: int, rows: int = 1000) -> LiveMask:
        return LiveMask(np.arange(rows) >= dead)

    assert candidates_for(10, None) == 10
    assert candidates_for(10, mask(0)) == 10
    assert candidates_for(10, mask(1)) == 11
    assert candidates_for(10, mask(500)) == 25
    assert candidates_for(10, mask(999)) == 1000
    assert candidates_for(10, mask(1000)) == 10
    for dead in range(0, 900, 37):
        expected_live = candidates_for(20, mask(dead)) * (1000 - dead) / 1000
        assert expected_live >= 20


def test_bounds_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(400):
        # Hard queries and easy ones: misses come together, as they do in real curves.
        bound = LowerBound(10, 0.95)
        for ease in (0.3, 0.85, 0.95):
            hard = rng.random(200) < 0.5 * (1 - ease)
            recalls = rng.binomial(10, np.where(hard, 0.5, 0.5 + 0.5 * ease)) / 10
            value = bound.of(recalls.astype(np.float32))
        true = 0.5 * 0.05 * 0.5 + (1 - 0.5 * 0.05) * (0.5 + 0.5 * 0.95)
        kept += value <= true
    assert 0.93 < kept / 400 < 0.995


def test_bounds_without_a_miss() -> None:
    perfect = np.ones(200, np.float32)
    unknown = LowerBound(10, 0.95).of(perfect)
    assert 0.98 < unknown < 0.99  # each query counts once: 200 / (200 + 1.645 ** 2)
    seen = LowerBound(10, 0.95)
    seen.of(np.random.default_rng(0).binomial(10, 0.8, 200).astype(np.float32) / 10)
    assert unknown < seen.of(perfect) < 1.0  # misses were seen to come alone
    assert LowerBound(10, 0.95).of(np.ones(20_000, np.float32)) > 0.9995
    assert LowerBound(10, 0.95).of(np.zeros(200, np.float32)) == 0.0
    assert LowerBound(10, 0.99).of(perfect) < unknown
    one = LowerBound(10, 0.95).of(np.array([0.5], np.float32))
    assert 0 < one < 0.5
