"""What every structure with every code promises: candidates, recall, parameters."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import (
    NEAR,
    ROWS,
    SPECS,
    Builder,
    Case,
    Mapper,
    answer,
    assert_exact,
    by_cost,
    clustered,
    ends,
)

from vecindex.ann import (
    LiveMask,
    Wanted,
    build,
    lists_for,
    score_rows,
    search_flat,
    slots_for,
    top_k,
)
from vecindex.ann.codebook import padded
from vecindex.ann.ivf import search_params
from vecindex.ann.ivf_pq import IvfPq
from vecindex.arrays import Float32Array, Int64Array
from vecindex.errors import SpecError
from vecindex.spec import (
    FlatParams,
    FlatSpec,
    HnswParams,
    HnswSpec,
    IvfParams,
    IvfSpec,
    parse_spec,
)


def ordered(case: Case, slots: int) -> Int64Array:
    """Return its candidates with generous parameters."""
    return case.structure.find(case.queries, slots, case.good)


def test_recall(case: Case) -> None:
    assert case.recall(10, case.good) > 0.98
    scores, rows = case.answer(10, case.good)
    own = np.einsum("qd,qkd->qk", case.queries.astype(np.float64), case.vectors.rows[rows])
    np.testing.assert_allclose(scores, own, rtol=0, atol=2e-6)
    spec = case.spec
    assert (case.structure.kind, case.structure.codes) == (spec.kind, spec.codes)
    assert case.structure.rows == ROWS
    assert (case.structure.scan is not None) == (spec.codes == "pq4")
    assert case.structure.repeats == (case.name == "ivf/pq4")


def test_size(plain: Case) -> None:
    a_row = {"float32": 0, "bf16": 64, "sq8": 32, "sq4": 16, "pq4": 4}[plain.spec.codes]
    beside = {"flat": 2, "hnsw": 100, "ivf": 40}[plain.spec.kind]  # links, centroids, row numbers
    size = plain.structure.size_bytes / ROWS
    assert a_row < size + 0.1 < (1 + 2 * plain.structure.repeats) * a_row + beside


def test_candidates(case: Case) -> None:
    for slots in (1, 10, 57):
        rows = ordered(case, slots)
        assert rows.dtype == np.int64
        assert rows.shape == (100, slots)
        assert -1 <= rows.min() <= rows.max() < ROWS
        assert (np.diff(rows < 0, axis=1) >= 0).all()  # pads at the end
        times = [max(map(row.count, row)) for row in rows.tolist()]
        assert max(times) == 1 if not case.structure.repeats else max(times) <= 2


@pytest.mark.parametrize(("slots", "k"), [(1, 1), (10, 10), (60, 7), (40, 90), (300, 200)])
@pytest.mark.parametrize("dead", [False, True])
def test_the_best_are_the_best_of_the_candidates(
    case: Case, slots: int, k: int, dead: bool
) -> None:
    matrix, queries = case.vectors.rows, case.queries
    live = LiveMask(np.random.default_rng(k).random(ROWS) < 0.7) if dead else None
    candidates = ordered(case, slots)
    named = candidates >= 0
    kept = candidates if live is None else np.where(live.mask[candidates] & named, candidates, -1)
    scores, rows = top_k(score_rows(matrix, queries, kept), kept, k)
    width = rows.shape[1]
    for threads in (1, 3):
        wanted = Wanted(matrix, queries, slots, k, live, places=True)
        found = case.structure.best(wanted, case.good, threads)
        np.testing.assert_array_equal(found.rows[:, :width], rows)
        np.testing.assert_array_equal(found.scores[:, :width], scores)
        assert (found.rows[:, width:] == -1).all()
        assert np.isneginf(found.scores[:, width:]).all()
        np.testing.assert_array_equal(found.counts[:, 0], named.sum(axis=1))
        np.testing.assert_array_equal(found.counts[:, 1], (kept >= 0).sum(axis=1))
        assert found.places.shape == found.rows.shape
        for mine, where, among in zip(found.rows, found.places, kept, strict=True):
            assert (where[mine < 0] == -1).all()
            first = [int(np.flatnonzero(among == row)[0]) for row in mine[mine >= 0]]
            assert where[mine >= 0].tolist() == first
    one = case.structure.best(Wanted(matrix, queries[3:4], slots, k, live), case.good)
    np.testing.assert_array_equal(one.rows[:, :width], rows[3:4])
    assert one.places.shape == (1, 0)
    nothing = case.structure.best(Wanted(matrix, queries[:0], slots, k, live), case.good)
    assert len(nothing.scores) == len(nothing.rows) == 0


def test_candidates_are_best_first(case: Case) -> None:
    rows = ordered(case, 80)
    scores = score_rows(case.vectors.rows, case.queries, rows)
    error = {"float32": NEAR, "bf16": 0.01, "sq8": 0.02, "sq4": 0.3, "pq4": 2.0}[case.spec.codes]
    assert (np.diff(scores, axis=1) < error).all()
    assert (scores[:, :40].mean(axis=1) > scores[:, 40:].mean(axis=1)).mean() > 0.75


def test_fewer_slots_give_the_first_of_more(case: Case) -> None:
    many = ordered(case, 120)
    for slots in (1, 10, 21, 90):
        few = ordered(case, slots)
        if case.spec.codes != "pq4":
            np.testing.assert_array_equal(few, many[:, :slots])
            continue
        # A fast scan rounds scores to 16 bits: of those that tie at the last place, any may come.
        scores = code_scores(case)
        last = np.take_along_axis(scores, few, 1), np.take_along_axis(scores, many[:, :slots], 1)
        np.testing.assert_array_equal(*last)
        for mine, theirs, score in zip(few, many, scores, strict=True):
            better = score[mine] > score[mine[-1]]
            assert set(mine[better]) == set(theirs[:slots][better])


def code_scores(case: Case) -> Float32Array:
    """Return the scores that FAISS gives to the codes of all rows, shape (q, rows)."""
    if isinstance(case.structure, IvfPq):
        params = search_params(case.structure.own(case.good).nprobe)
        index, count = case.structure.index, 2 * ROWS
    else:
        params, index, count = None, case.structure.scan.index, ROWS
    found, rows = index.search(padded(case.queries), count, params=params)
    scores = np.full((len(found), ROWS + 1), -np.inf, np.float32)  # one more column for pads
    np.put_along_axis(scores, rows, found, 1)
    return scores[:, :ROWS]


@pytest.mark.parametrize("slots", [10, 60])
def test_a_single_query_is_as_a_batch(case: Case, slots: int) -> None:
    batch = ordered(case, slots)
    for threads in (1, 2, 4):
        again = case.structure.find(case.queries, slots, case.good, threads)
        np.testing.assert_array_equal(again, batch)
    for i in range(25):
        one = case.structure.find(case.queries[i : i + 1], slots, case.good)
        np.testing.assert_array_equal(one[0], batch[i])


def test_more_cost_gives_more_recall(case: Case) -> None:
    cheap, dear = (case.recall(10, params) for params in ends(case.structure))
    assert cheap <= dear
    assert dear >= 0.999  # at 30 dimensions float32 cannot tell one 10th row from the 11th
    if case.name not in ("flat/bf16", "flat/sq8"):
        assert 0.1 < cheap < dear - 0.05


def test_groups_of_the_grid(case: Case) -> None:
    grid = case.structure.grid()
    everything = [params for group in grid for params in group]
    assert len(set(everything)) == len(everything)
    for group in grid:
        assert {type(params) for params in group} == {type(case.good)}
        costs = [slots_for(case.spec.codes, params, 10) for params in group]
        assert costs == sorted(set(costs))
        rest = {str(params).replace(f"rescore={params.rescore}", "") for params in group}
        assert len(rest) == 1
    efforts = [
        getattr(g[0], "nprobe", getattr(g[0], "ef_search", 0)) for g in by_cost(case.structure)
    ]
    assert efforts == sorted(set(efforts))


@pytest.mark.parametrize("k", [10, 25, 100])
def test_wider_parameters_keep_recall(plain: Case, k: int) -> None:
    structure = plain.structure
    for params in [group[-1] for group in by_cost(structure)][1:6:2]:
        wide = structure.widen(params, k)
        assert wide.rescore == params.rescore
        if k == 10:
            assert wide == params
        assert (plain.answer(k, wide)[1] >= 0).all()
        assert plain.recall(k, wide) > plain.recall(10, params) - 0.02


@pytest.mark.parametrize("name", [name for name in SPECS if name.startswith("ivf")])
@pytest.mark.parametrize("k", [50, 300, 1500, ROWS])
def test_so_many_lists_that_there_are_k_rows_in_them(name: str, k: int, built: Builder) -> None:
    case = built(name, 32)
    wide = case.structure.widen(IvfParams(1), k)
    assert wide.nprobe <= case.structure.nlist
    every = case.structure.find(case.queries, 2 * ROWS, wide)
    assert all(len(set(row) - {-1}) >= k for row in every.tolist())


def test_all_lists_of_rows_are_exact(built: Builder) -> None:
    case = built("ivf", 32)
    ivf, all_of_them = case.structure, case.structure.grid()[-1][-1]
    exact = [ivf.exhaustive(params) for group in ivf.grid() for params in group]
    assert exact == [False] * (len(exact) - 1) + [True]
    assert_exact(case.answer(10, all_of_them), case.vectors.rows, case.queries, 10)


def test_only_lists_of_rows_are_exact(plain: Case) -> None:
    if plain.name == "ivf":
        return
    grid = plain.structure.grid()
    assert not any(plain.structure.exhaustive(params) for group in grid for params in group)


def test_what_scans(plain: Case) -> None:
    grid = plain.structure.grid()
    scans = [plain.structure.scans(params) for group in grid for params in group]
    if plain.spec.codes != "pq4":
        assert not any(scans)
        return
    assert scans == [True] * len(grid[0]) + [False] * (len(scans) - len(grid[0]))
    assert plain.structure.scan is not None
    by_scan = plain.structure.scan.find(plain.queries, 50)
    by_structure = plain.structure.find(plain.queries, 50, grid[0][0])
    np.testing.assert_array_equal(by_structure, by_scan)


def test_parameters_of_another_structure(plain: Case) -> None:
    others = {FlatParams(), HnswParams(), IvfParams()} - {type(plain.good)()}
    for params in others:
        for call in (
            lambda params: plain.structure.find(plain.queries, 10, params),
            lambda params: plain.structure.widen(params, 50),
        ):
            name = type(params).__name__
            with pytest.raises(SpecError, match=f"{plain.spec.kind} takes no {name}"):
                call(params)


@pytest.mark.parametrize("name", ["hnsw/pq4", "flat/float16", "ivf/pq8", "flat/", "auto/pq4"])
def test_codes_that_a_structure_does_not_have(name: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(name)
    kind, codes = name.split("/")
    for cls in (FlatSpec, HnswSpec, IvfSpec):
        if cls.kind == kind:
            with pytest.raises(SpecError, match=f"{kind} has codes float32"):
                cls(codes=codes)


@pytest.mark.parametrize("codes", ["float32", "bf16", "sq8", "pq4"])
@pytest.mark.parametrize("nlist", [None, 7, 5000])
def test_number_of_lists(codes: str, nlist: int | None) -> None:
    spec = IvfSpec(nlist, codes)
    for rows in (0, 1, 13, 38, 39, 80, 1000, 10**6):
        lists = lists_for(spec, rows)
        assert 1 <= lists <= max(rows, 1)
        if nlist is None:
            assert lists == 1 or rows / lists >= 39
    assert lists_for(IvfSpec(codes=codes), 13) == 1
    assert lists_for(IvfSpec(codes=codes), 10**6) == (1024 if codes == "pq4" else 2000)
    assert lists_for(IvfSpec(5000, codes), 10**6) == 5000


def test_as_many_lists_as_rows(mapped: Mapper, capfd: pytest.CaptureFixture[str]) -> None:
    vectors = mapped(np.repeat(clustered(20, seed=1), 3, axis=0))
    for codes in ("float32", "sq8", "pq4"):
        ivf = build(IvfSpec(60, codes), vectors)
        assert (ivf.find(vectors.rows, 3, ends(ivf)[1]) >= 0).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", SPECS)
def test_duplicates_are_all_found(name: str, mapped: Mapper) -> None:
    distinct = clustered(200, seed=1)
    rows = np.repeat(distinct, 5, axis=0)
    structure = build(SPECS[name], mapped(rows))
    _, truth = search_flat(rows, distinct, 5)
    _, found = answer(structure, rows, distinct, 5, ends(structure)[1])
    share = (found == truth).mean()
    assert share > 0.95 if structure.kind == "hnsw" else share == 1.0
