"""Unit rows: the same bits for the same direction, however a row comes in."""

from __future__ import annotations

import numpy as np
import pytest

from vecindex.arrays import unit_rows
from vecindex.errors import VectorValueError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("dim", [48, 384, 1536])
def test_a_unit_row_keeps_its_bits(rng: np.random.Generator, dim: int) -> None:
    rows = rng.standard_normal((3000, dim)).astype(np.float32)
    unit = unit_rows(rows)
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1, atol=1e-7)
    assert np.array_equal(unit_rows(unit), unit)
    assert np.array_equal(unit_rows(rows / 1024), unit)
    assert np.array_equal(unit_rows(rows.astype(np.float64)), unit)
    for number in range(50):
        assert np.array_equal(unit_rows(rows[[number]])[0], unit[number])
        assert np.array_equal(unit_rows(unit[[number]])[0], unit[number])


def test_lengths_at_the_ends_of_float32(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((4, 48)).astype(np.float32)
    unit = unit_rows(rows)
    for factor in (2.0**-80, 2.0**120):  # whose squares float32 cannot hold
        assert np.array_equal(unit_rows(rows * np.float32(factor)), unit)
        assert np.array_equal(unit_rows(rows[:1] * np.float32(factor)), unit[:1])


@pytest.mark.parametrize("count", [1, 3000])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "finite"), (1e300, "finite"), (0, "zeros")])
def test_rows_without_a_direction_are_named(
    rng: np.random.Generator, count: int, value: float, words: str
) -> None:
    rows = rng.standard_normal((count, 8))
    rows[-1] = value
    for given in (rows, rows.astype(np.float32) if value != 1e300 else rows):
        with pytest.raises(VectorValueError, match=f"{words}.*row {count - 1}$"):
            unit_rows(given)
