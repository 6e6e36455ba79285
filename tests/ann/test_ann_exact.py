"""The oracle itself, against sorting in Python."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import clustered

from vecindex.ann import exact, exact_search


@pytest.mark.parametrize("block", [7, 100, 8192])
@pytest.mark.parametrize("k", [0, 1, 9, 1000])
def test_against_python(block: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_BLOCK", block)
    matrix = np.repeat(clustered(60, seed=1), 3, axis=0)
    asked = clustered(4, seed=2)
    live = np.random.default_rng(3).random(len(matrix)) < 0.8
    scores, rows = exact_search(matrix, asked, k, live)
    for query, mine, score in zip(asked, rows, scores, strict=True):
        true = [
            (-float(np.float32(np.dot(query.astype(np.float64), row.astype(np.float64)))), number)
            for number, row in enumerate(matrix)
            if live[number]
        ]
        expected = sorted(true)[:k]
        assert mine.tolist() == [number for _, number in expected]
        np.testing.assert_allclose(score, [-s for s, _ in expected], rtol=0, atol=1e-7)


def test_empty() -> None:
    scores, rows = exact_search(np.empty((0, 5), np.float32), clustered(2, seed=1, dim=5), 3)
    assert scores.shape == rows.shape == (2, 0)
