"""How many candidates are asked for, and what counts of those that come twice."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vecindex.ann import LiveMask, candidates_for, slots_for
from vecindex.arrays import Int64Array
from vecindex.spec import FlatParams, HnswParams, IvfParams

calibrating = import_module("vecindex.ann.calibrate")  # the function of that name hides it
ROWS = arrays(
    np.int64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1, 9)
)


@given(ROWS, st.integers(0, 4))
def test_the_first_hit_of_each_candidate_counts(rows: Int64Array, good: int) -> None:
    # Rows below some number are hits: a row is one wherever it stands.
    hits = (rows >= 0) & (rows < good)
    found = calibrating._first_hits(hits, rows)
    for mine, row in zip(found.tolist(), rows.tolist(), strict=True):
        expected = [
            0 <= number < good and number not in row[:place] for place, number in enumerate(row)
        ]
        assert mine == expected


@given(ROWS.filter(lambda rows: rows.shape[1] > 1), st.data())
def test_a_query_without_itself(rows: Int64Array, data: st.DataObject) -> None:
    own = data.draw(arrays(np.int64, len(rows), elements=st.integers(0, 9)))
    before = rows.copy()
    found = calibrating._without(rows, own)
    np.testing.assert_array_equal(rows, before)
    for mine, row, itself in zip(found.tolist(), rows.tolist(), own.tolist(), strict=True):
        expected = row.copy()
        if itself in row:
            expected.remove(itself)
        else:
            expected.pop()
        assert mine == expected


def mask(dead: int, rows: int = 1000) -> LiveMask:
    """Return a mask with so many dead rows."""
    return LiveMask(np.arange(rows) >= dead)


def test_candidates_allow_for_dead_rows() -> None:
    assert candidates_for(10, None) == 10
    assert candidates_for(10, mask(0)) == 10
    assert candidates_for(10, mask(1)) == 11
    assert candidates_for(10, mask(500)) == 25
    assert candidates_for(10, mask(1000)) == 10
    for dead in range(1, 1000, 37):
        expected_live = candidates_for(20, mask(dead)) * (1000 - dead) / 1000
        assert 20 < expected_live <= 31
    counts = [candidates_for(20, mask(dead)) for dead in range(0, 1000, 37)]
    assert counts == sorted(counts)


@pytest.mark.parametrize("kind", [FlatParams, HnswParams, IvfParams])
def test_slots(kind: type[FlatParams] | type[HnswParams] | type[IvfParams]) -> None:
    assert slots_for("float32", kind(), 7) == 7
    assert slots_for("float32", kind(), 70) == 70
    assert slots_for("pq4", kind(rescore=1), 7) == 7
    assert slots_for("pq4", kind(rescore=5), 7) == 50  # as many as for the ten of the calibration
    assert slots_for("pq4", kind(rescore=5), 70) == 350
    for codes, usual in (("bf16", 2), ("sq8", 2), ("sq4", 4), ("pq4", 20)):
        assert slots_for(codes, kind(), 30) == usual * 30
    for k in (1, 10, 33):
        counts = [slots_for("sq8", kind(rescore=r), k) for r in range(1, 9)]
        assert counts == sorted(set(counts))
        assert counts[0] == k
