"""Exact search against plain numpy: the same rows in the same order, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import DIM, assert_exact, clustered

from vecindex.ann import LiveMask, exact_search, flat, search_flat, search_rows
from vecindex.arrays import BoolArray, Float32Array, MappedRows, unit_rows

pytestmark = pytest.mark.usefixtures("way")

BATCHES = [1, 3, 15, 16, 100]  # both sides of where batches are multiplied, split, and dead dropped


def alive(count: int, share: float, seed: int = 0) -> BoolArray:
    """Return a mask with about that share of True."""
    return np.random.default_rng(seed).random(count) < share


def few_distinct(count: int, distinct: int, seed: int = 3) -> Float32Array:
    """Return rows that are copies of a few directions, far apart from each other."""
    rng = np.random.default_rng(seed)
    return unit_rows(rng.normal(size=(distinct, DIM)))[rng.integers(distinct, size=count)]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("k", [1, 10, 150])
def test_all_rows(vectors: MappedRows, queries: Float32Array, batch: int, k: int) -> None:
    found = search_flat(vectors.rows, queries[:batch], k)
    assert_exact(found, vectors.rows, queries[:batch], k)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("share", [0.97, 0.6, 0.2, 0.001])
def test_live_rows(vectors: MappedRows, queries: Float32Array, batch: int, share: float) -> None:
    live = alive(len(vectors.rows), share)
    found = search_flat(vectors.rows, queries[:batch], 10, LiveMask(live))
    assert_exact(found, vectors.rows, queries[:batch], 10, live)


@pytest.mark.parametrize("batch", BATCHES)
def test_the_nearest_are_dead(vectors: MappedRows, queries: Float32Array, batch: int) -> None:
    asked = np.ascontiguousarray(np.repeat(queries[:1], batch, axis=0))
    live = np.ones(len(vectors.rows), bool)
    live[exact_search(vectors.rows, asked[:1], 500)[1]] = False
    found = search_flat(vectors.rows, asked, 10, LiveMask(live))
    assert_exact(found, vectors.rows, asked, 10, live)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dead", [False, True])
def test_ties_go_by_row(batch: int, dead: bool) -> None:
    matrix = few_distinct(3000, distinct=4)  # about 750 of each: ties far beyond what is fetched
    asked = clustered(batch, seed=5)
    live = alive(3000, 0.9) if dead else None
    mask = None if live is None else LiveMask(live)
    for k in (1, 10, 1000):
        scores, rows = search_flat(matrix, asked, k, mask)
        np.testing.assert_array_equal(rows, exact_search(matrix, asked, k, live)[1])
        assert_exact((scores, rows), matrix, asked, k, live)


@pytest.mark.parametrize("batch", [1, 20])
def test_ties_across_the_last_place(batch: int) -> None:
    matrix = clustered(2000, seed=7)
    asked = np.ascontiguousarray(np.repeat(matrix[:1], batch, axis=0))
    # Rows 3, 100, 1999 ... are one another's copies, worse than four better rows.
    order = exact_search(matrix, asked[:1], 60)[1][0]
    matrix = matrix.copy()
    matrix[order[4:40]] = matrix[order[4]]
    expected = [*order[:4], *sorted(order[4:40])[:6]]
    np.testing.assert_array_equal(search_flat(matrix, asked, 10)[1], [expected] * batch)


def test_every_row_the_same() -> None:
    matrix = np.repeat(clustered(1, seed=1), 5000, axis=0)
    scores, rows = search_flat(matrix, matrix[:1], 20)
    np.testing.assert_array_equal(rows[0], np.arange(20))
    assert len(set(scores[0].tolist())) == 1


@pytest.mark.parametrize("batch", [1, 20])
@pytest.mark.parametrize("count", [1, 5, 13])
def test_k_beyond_the_rows(count: int, batch: int) -> None:
    matrix, asked = clustered(count, seed=1), clustered(batch, seed=2)
    assert_exact(search_flat(matrix, asked, 100), matrix, asked, 100)
    live = np.arange(count) % 3 == 0
    assert_exact(search_flat(matrix, asked, 100, LiveMask(live)), matrix, asked, 100, live)
    only = np.arange(count)[::2]
    scores, rows = search_rows(matrix, asked, 100, only)
    assert sorted(rows[0].tolist()) == only.tolist()
    assert scores.shape == (batch, len(only))


def test_nothing_to_find() -> None:
    empty, asked = np.empty((0, DIM), np.float32), clustered(3, seed=2)
    matrix = clustered(4, seed=1)
    none_live = LiveMask(np.zeros(4, bool))
    for found in (
        search_flat(empty, asked, 10),
        search_flat(empty, asked, 10, LiveMask(np.zeros(0, bool))),
        search_flat(matrix, asked, 10, none_live),
        search_flat(matrix, asked, 0),
        search_rows(matrix, asked, 10, np.empty(0, np.int64)),
    ):
        assert found[0].shape == found[1].shape == (3, 0)
    assert search_flat(matrix, empty, 10)[0].shape == (0, 4)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("count", [1, 50, 5000])
def test_only_some_rows(
    vectors: MappedRows,
    queries: Float32Array,
    batch: int,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flat, "_BLOCK", 512)  # several blocks
    some = np.sort(np.random.default_rng(4).choice(len(vectors.rows), count, replace=False))
    mask = np.zeros(len(vectors.rows), bool)
    mask[some] = True
    found = search_rows(vectors.rows, queries[:batch], 10, some)
    assert_exact(found, vectors.rows, queries[:batch], 10, mask)


def test_scores_do_not_depend_on_the_way(vectors: MappedRows, queries: Float32Array) -> None:
    live = alive(len(vectors.rows), 0.9)
    rows = np.flatnonzero(live)
    batch, _ = search_flat(vectors.rows, queries, 10, LiveMask(live))
    for i in range(len(queries)):
        one, _ = search_flat(vectors.rows, queries[i : i + 1], 10, LiveMask(live))
        two, _ = search_rows(vectors.rows, queries[i : i + 1], 10, rows)
        np.testing.assert_array_equal(one[0], batch[i])
        np.testing.assert_array_equal(two[0], batch[i])


def test_faiss_settings_are_as_before(vectors: MappedRows, queries: Float32Array) -> None:
    from vecindex.ann.native import faiss

    search_flat(vectors.rows, queries, 10)
    assert faiss.cvar.distance_compute_blas_threshold == flat._THRESHOLD > 10_000


def test_live_mask_of_the_first_rows() -> None:
    live = LiveMask(np.array([True, False, True, True]))
    assert (len(live), live.count, live.rows.tolist()) == (4, 3, [0, 2, 3])
    assert live.head(4) is live
    assert (len(live.head(3)), live.head(3).rows.tolist()) == (3, [0, 2])
