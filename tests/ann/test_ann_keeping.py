"""Which points of an operating curve are kept."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from vecindex.results import OperatingPoint
from vecindex.spec import IvfParams

module = import_module("vecindex.ann.calibrate")  # the function of that name hides it

POINTS = st.lists(
    st.tuples(
        st.integers(1, 6),  # latency
        st.integers(0, 6),  # recall
        st.integers(0, 6),  # how far below it the bound is
        st.booleans(),  # of a scan
    ),
    max_size=12,
)


def kept_of(raw: list[tuple[int, int, int, bool]]) -> tuple[list[OperatingPoint], ...]:
    """Return made-up points, those of scans, and what is kept of all."""
    points = [
        OperatingPoint(
            {"nprobe": n + 1, "rescore": 1 + scan}, recall / 6, max(0, recall - less) / 6, latency
        )
        for n, (latency, recall, less, scan) in enumerate(raw)
    ]
    structure = SimpleNamespace(
        grid=lambda: ((IvfParams(),),), scans=lambda params: params.rescore == 2
    )
    kept = module._worth_keeping(structure, points)
    return points, [point for point in points if point.params["rescore"] == 2], kept


@given(POINTS)
def test_what_no_cheaper_point_equals_is_kept(raw: list[tuple[int, int, int, bool]]) -> None:
    points, scans, kept = kept_of(raw)
    assert [p.latency_ms for p in kept] == sorted(p.latency_ms for p in kept)
    assert all(kept.count(point) == 1 for point in kept)
    for point in points:
        assert point in kept or point not in scans
        if point not in kept:
            cheaper = [k for k in kept if k.latency_ms <= point.latency_ms]
            assert any(k.recall >= point.recall for k in cheaper)
            assert any(k.bound >= point.bound for k in cheaper)
    for point in kept:  # and nothing for nothing
        if point not in scans:
            assert not any(p.latency_ms < point.latency_ms and _as_good(p, point) for p in points)


def _as_good(one: OperatingPoint, other: OperatingPoint) -> bool:
    return one.recall >= other.recall and one.bound >= other.bound


@given(POINTS, st.integers(0, 6))
def test_the_cheapest_for_any_target_is_kept(
    raw: list[tuple[int, int, int, bool]], target: int
) -> None:
    points, _, kept = kept_of(raw)
    promising = [point.latency_ms for point in points if point.bound >= target / 6]
    left = [point.latency_ms for point in kept if point.bound >= target / 6]
    assert min(left, default=None) == min(promising, default=None)
