"""Lower bounds of recall: right as often as they say, never sure of what was not seen."""

from __future__ import annotations

import numpy as np

from vecindex.ann.bounds import LowerBound


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
