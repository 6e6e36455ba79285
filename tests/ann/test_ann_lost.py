"""Every row of a graph is one that walks find, those of dense groups, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from ann_data import Mapper

from vecindex.ann import Structure, build, hnsw, lost, search_flat
from vecindex.ann.base import Watch
from vecindex.ann.hnsw import Hnsw
from vecindex.ann.links import Links
from vecindex.arrays import Float32Array, Int64Array, MappedRows, unit_rows
from vecindex.spec import HnswParams, HnswSpec

Linker: TypeAlias = Callable[..., Hnsw]

GROUPS, EACH = 60, 50


@pytest.fixture(scope="module")
def dense(mapped: Mapper) -> MappedRows:
    """Give groups whose rows are much nearer to each other than to any of another group."""
    rng = np.random.default_rng(5)
    centres = np.repeat(rng.normal(size=(GROUPS, 32)), EACH, axis=0)
    return mapped(unit_rows(centres + 0.05 * rng.normal(size=centres.shape)))


def reached(structure: Structure, rows: Float32Array) -> float:
    """Return the share of rows whose group a short walk comes to."""
    near = structure.find(rows, 10, HnswParams(10))
    return float((near // EACH == np.arange(len(rows))[:, None] // EACH).any(axis=1).mean())


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Linker:
    """Give what FAISS alone links."""

    def make(spec: HnswSpec, vectors: MappedRows, base: Hnsw | None = None) -> Hnsw:
        with monkeypatch.context() as patched:
            patched.setattr(hnsw, "link_lost_rows", lambda *_: None)
            structure = build(spec, vectors, base=base)
        assert isinstance(structure, Hnsw)
        return structure

    return make


@pytest.mark.parametrize("codes", ["float32", "bf16", "sq8", "sq4"])
def test_groups_that_linking_loses_are_found(codes: str, dense: MappedRows, plain: Linker) -> None:
    spec = HnswSpec(6, 40, codes)
    linked, completed = plain(spec, dense), build(spec, dense)
    assert reached(linked, dense.rows) < 0.97
    assert reached(completed, dense.rows) == 1
    # What FAISS linked is there still, in its places; what came after it names other rows.
    assert isinstance(completed, Hnsw)
    before, after = Links(linked.index), Links(completed.index)
    np.testing.assert_array_equal(after.flat[before.flat >= 0], before.flat[before.flat >= 0])
    assert 0 < (after.flat != before.flat).sum() < len(dense.rows)
    for row, ends in enumerate(after.lowest(np.arange(len(dense.rows)))):
        named = ends[ends >= 0]
        assert (ends[: len(named)] == named).all()
        assert len(set(named.tolist()) - {row}) == len(named)


@pytest.mark.parametrize("old", [6, 30, 54])
def test_an_extension_loses_no_group(
    old: int,
    dense: MappedRows,
    mapped: Mapper,
    plain: Linker,
) -> None:
    """New rows may lead walks away from old ones."""
    spec = HnswSpec(6, 40)
    base = build(spec, mapped(dense.rows[: old * EACH].copy()))
    assert isinstance(base, Hnsw)
    assert reached(plain(spec, dense, base), dense.rows) < 1
    assert reached(build(spec, dense, base=base), dense.rows) == 1


@pytest.mark.parametrize("codes", ["float32", "sq4"])
@pytest.mark.parametrize("links", [1, 4, 5])
@pytest.mark.parametrize("listed", [True, False])
def test_a_neighbour_that_the_walk_from_a_row_misses_is_linked(
    codes: str, links: int, *, listed: bool, mapped: Mapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with few links ask lists of codes, too: here walks from every seventh row are blind."""
    vectors = mapped(unit_rows(np.random.default_rng(7).normal(size=(3000, 16))))
    rows, blind = vectors.rows, np.arange(0, len(vectors.rows), 7)
    graph = build(HnswSpec(16, 40, codes), vectors)
    assert isinstance(graph, Hnsw)
    nearest = np.full(len(rows), -2)
    nearest[blind] = search_flat(rows, rows[blind], 2)[1][:, 1]
    at = Links(graph.index)
    for row in blind.tolist():
        ends = at.of(row)
        ends[ends == nearest[row]] = ends[0]
        ends[links:] = -1
    real = graph.find

    def find(queries: Float32Array, *rest: object) -> Int64Array:
        found = real(queries, *rest)  # type: ignore[arg-type]
        itself = search_flat(rows, queries, 1)
        hidden = np.where(itself[0][:, 0] > 1 - 1e-6, nearest[itself[1][:, 0]], -2)
        return np.where(found == hidden[:, None], -1, found)

    monkeypatch.setattr(graph, "find", find)
    monkeypatch.setattr(lost, "_LISTED", len(rows) if listed else len(rows) + 1)
    lost.link_lost_rows(graph, 0, None, Watch())
    share = np.mean([nearest[row] in at.of(row) for row in blind.tolist()])
    if listed and links <= 4:  # an eighth of 32 places
        assert share > 0.6  # the others are not found by their codes
    else:
        assert share < 0.2  # those that others lost, too
