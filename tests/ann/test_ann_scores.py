"""Canonical scores are the same to the last bit wherever a row was found."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import DIM, SPECS, Builder, answer, clustered

from vecindex.ann import score_rows, search_flat, top_k
from vecindex.arrays import Float32Array, Int64Array

pytestmark = pytest.mark.usefixtures("way")


def test_the_same_bits_from_every_structure(built: Builder) -> None:
    cases = [built(name, DIM) for name in SPECS]
    matrix, queries = cases[0].vectors.rows, cases[0].queries
    every = np.arange(len(matrix))[None]
    for number in range(0, len(queries), 3):
        query = queries[number : number + 1]
        by_row = score_rows(matrix, query, every)[0]
        found = [
            search_flat(matrix, query, 10),
            *(answer(case.structure, matrix, query, 10, case.good) for case in cases),
        ]
        for scores, rows in found:
            np.testing.assert_array_equal(scores[0], by_row[rows[0]])


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 7, 8, 12, 17, 100, 384, 769])
def test_the_same_bits_in_any_list(dim: int) -> None:
    rng = np.random.default_rng(dim)
    matrix = clustered(300, seed=1, dim=dim)
    asked = clustered(3, seed=2, dim=dim)
    every = score_rows(matrix, asked, np.tile(np.arange(300), (3, 1)))
    truth = asked.astype(np.float64) @ matrix.T.astype(np.float64)
    np.testing.assert_allclose(every, truth, rtol=0, atol=3e-7)
    for width in range(1, 30):
        rows = rng.integers(300, size=(3, width))
        np.testing.assert_array_equal(
            score_rows(matrix, asked, rows), np.take_along_axis(every, rows, 1)
        )
    shuffled = rng.permutation(300)
    moved = score_rows(matrix[shuffled], asked, np.tile(np.arange(300), (3, 1)))
    np.testing.assert_array_equal(moved, every[:, shuffled])


def test_pads_score_least() -> None:
    matrix = clustered(5, seed=1)
    rows = np.array([[2, -1, 0], [-1, -1, -1]])
    scores = score_rows(matrix, matrix[:2], rows)
    assert np.isneginf(scores).tolist() == [[False, True, False], [True, True, True]]
    best, numbers = top_k(scores, rows, 3)
    assert numbers[0].tolist() == [0, 2, -1]
    assert best[0, 0] == pytest.approx(1.0)


def best_first(scores: Float32Array, rows: Int64Array, k: int) -> list[list[int]]:
    """Sort with Python alone."""
    return [
        [row for _, row in sorted(zip((-s).tolist(), r.tolist(), strict=True))][:k]
        for s, r in zip(scores, rows, strict=True)
    ]


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("width", [1, 2, 10, 64, 65, 5000])
@pytest.mark.parametrize("values", [3, 10**9])  # many ties, and hardly any
@pytest.mark.parametrize("k", [0, 1, 7, 9000])
def test_top_k_sorts_by_score_then_row(queries: int, width: int, values: int, k: int) -> None:
    rng = np.random.default_rng(width)
    scores = (rng.integers(values, size=(queries, width)) / values).astype(np.float32)
    rows = np.stack([rng.permutation(width) for _ in range(queries)])
    best, numbers = top_k(scores, rows, k)
    assert numbers.tolist() == best_first(scores, rows, k)
    for i in range(queries):
        by_row = np.empty(width, np.float32)
        by_row[rows[i]] = scores[i]
        np.testing.assert_array_equal(best[i], by_row[numbers[i]])


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("k", [1, 10, 60, 500, 4000])
def test_a_row_that_stands_twice_counts_once(queries: int, k: int) -> None:
    rng = np.random.default_rng(k)
    twice = np.concatenate([np.arange(3000), np.arange(3000), np.full(3000, -1)])
    rows = rng.permuted(np.tile(twice, (queries, 1)), axis=1)
    values = (rng.integers(40, size=3000) / 40).astype(np.float32)
    scores = np.where(rows >= 0, values[rows], -np.inf).astype(np.float32)
    best, numbers = top_k(scores, rows, k)
    assert best.shape == numbers.shape == (queries, k)
    for mine, row, score in zip(numbers.tolist(), rows.tolist(), best, strict=True):
        once = sorted({number for number in row if number >= 0}, key=lambda n: (-values[n], n))[:k]
        assert mine == once + [-1] * (k - len(once))
        np.testing.assert_array_equal(score[: len(once)], values[once])
        assert np.isneginf(score[len(once) :]).all()


def test_scores_stay_cosines() -> None:
    row = np.full((1, 5), 1 / np.sqrt(5), np.float32) * np.float32(1 + 1e-6)
    matrix = np.concatenate([row, -row])
    scores = score_rows(matrix, row, np.array([[0, 1, -1]]))
    assert scores.tolist() == [[1.0, -1.0, -np.inf]]


def test_top_k_of_sorted_candidates() -> None:
    scores = np.array([[0.9, 0.5, 0.1]], np.float32)
    assert top_k(scores, np.array([[7, 3, 5]]), 2)[1].tolist() == [[7, 3]]
    tied = np.array([[0.9, 0.5, 0.5]], np.float32)
    assert top_k(tied, np.array([[7, 5, 3]]), 2)[1].tolist() == [[7, 3]]
