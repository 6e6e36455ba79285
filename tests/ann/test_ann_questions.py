"""What a calibration asks, and whether its truth is true."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import NEAR, clustered

from vecindex.ann import LiveMask, exact_search, questions, sample_for
from vecindex.ann.questions import TIE


@pytest.mark.parametrize("dead", [0.0, 0.4])
@pytest.mark.parametrize("source", ["rows", "queries"])
def test_the_truth(source: str, dead: float) -> None:
    matrix = clustered(500, seed=1)
    mask = np.random.default_rng(3).random(500) >= dead
    live = LiveMask(mask) if dead else None
    given = clustered(30, seed=2) if source == "queries" else None
    asked = questions(matrix, live, given, k=10, sample=40, seed=0)
    assert (asked.source, asked.k, asked.empty) == (source, 10, False)
    assert len(asked.queries) == (40 if given is None else 30)
    if given is None:
        assert len(set(asked.own.tolist())) == 40
        assert mask[asked.own].all()
        np.testing.assert_array_equal(asked.queries, matrix[asked.own])
    else:
        assert (asked.own == -1).all()
        np.testing.assert_array_equal(asked.queries, given)
    for query, own, least in zip(asked.queries, asked.own.tolist(), asked.good_enough, strict=True):
        allowed = mask.copy()
        if own >= 0:
            allowed[own] = False
        scores, _ = exact_search(matrix, query[None], 10, allowed)
        assert abs(least + TIE - scores[0, 9]) < NEAR
    assert asked.exact_ms > 0
    assert asked.row_us > 0


def test_copies_of_a_row_are_its_neighbours() -> None:
    matrix = np.repeat(clustered(30, seed=1), 11, axis=0)
    asked = questions(matrix, None, None, k=10, sample=50, seed=0)
    np.testing.assert_allclose(asked.good_enough, 1.0, rtol=0, atol=2 * TIE)


@pytest.mark.parametrize("live", [0, 1, 2, 8, 11, 50])
def test_k_is_as_large_as_can_be(live: int) -> None:
    matrix = clustered(60, seed=1)
    mask = LiveMask(np.arange(60) < live)
    given = questions(matrix, mask, clustered(3, seed=2), k=10, sample=20, seed=0)
    rows = questions(matrix, mask, None, k=10, sample=20, seed=0)
    assert given.k == min(10, live)
    assert rows.k == min(10, max(0, live - 1))
    assert len(rows.queries) == min(20, live)
    assert (given.empty, rows.empty) == (live == 0, live <= 1)


def test_nothing_to_ask() -> None:
    matrix, nothing = clustered(60, seed=1), np.empty((0, 32), np.float32)
    assert questions(matrix, None, nothing, k=10, sample=20, seed=0).empty
    assert questions(nothing, None, None, k=10, sample=20, seed=0).empty
    assert questions(nothing, None, clustered(3, seed=2), k=10, sample=20, seed=0).empty


def test_the_sample_is_seeded() -> None:
    matrix = clustered(300, seed=1)
    own = [questions(matrix, None, None, k=10, sample=20, seed=seed).own for seed in (0, 0, 1)]
    np.testing.assert_array_equal(own[0], own[1])
    assert not np.array_equal(own[0], own[2])


def test_stricter_targets_take_more_queries() -> None:
    targets = [0.01, 0.5, 0.9, 0.95, 0.98, 0.985, 0.99, 0.995, 0.997, 0.999, 0.9999, 1.0]
    counts = [sample_for(target) for target in targets]
    assert counts == sorted(counts)
    assert 500 <= counts[0] < counts[-1] == 4000
    for target, count in zip(targets, counts, strict=True):
        assert count == 4000 or count * (1 - target) > 9.99  # misses allowed at the target
