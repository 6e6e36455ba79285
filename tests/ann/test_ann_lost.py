"""Every row of a graph is one that walks find, those of dense groups, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from ann_data import Mapper

from vecindex.ann import Structure, build, hnsw
from vecindex.ann.hnsw import Hnsw
from vecindex.ann.links import Links
from vecindex.arrays import Float32Array, MappedRows, unit_rows
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
