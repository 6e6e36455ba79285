"""Clustered data, and how answers are compared with the truth."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vecindex.ann import Structure, exact_search, score_rows, top_k
from vecindex.arrays import (
    BoolArray,
    Float32Array,
    Int64Array,
    MappedRows,
    UInt8Array,
    unit_rows,
)
from vecindex.spec import HnswSpec, IvfSpec, Params

Mapper = Callable[[Float32Array], MappedRows]
Loader = Callable[[Structure, MappedRows], Structure]

DIM = 32
NEAR = 2e-6  # what float32 sums may differ by
SPECS = {"hnsw": HnswSpec(m=6, ef_construction=40), "ivf": IvfSpec()}


def clustered(count: int, seed: int, dim: int = DIM, clusters: int = 20) -> Float32Array:
    """Return unit rows around cluster centres, in few dimensions with a little noise in all."""
    fixed = np.random.default_rng(99)
    centres = fixed.normal(size=(clusters, dim))
    spread = fixed.normal(size=(16, dim))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(clusters, size=count)]
    rows = rows + 0.5 * rng.normal(size=(count, 16)) @ spread + 0.1 * rng.normal(size=(count, dim))
    return unit_rows(rows)


def read_mapped(path: Path) -> UInt8Array:
    """Return a file's bytes as a read-only mapping."""
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def answer(
    structure: Structure, matrix: Float32Array, queries: Float32Array, k: int, params: Params
) -> tuple[Float32Array, Int64Array]:
    """Return a structure's canonical scores and rows, as the index gets them."""
    rows = structure.propose(queries, k, params)
    return top_k(score_rows(matrix, queries, rows), rows, k)


def recall(
    matrix: Float32Array, queries: Float32Array, rows: Int64Array, live: BoolArray | None = None
) -> float:
    """Return the share of the true nearest that `rows` has, by numpy alone."""
    _, truth = exact_search(matrix, queries, rows.shape[1], live)
    hits = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), truth.tolist(), strict=True)]
    return sum(hits) / truth.size


def assert_exact(
    found: tuple[Float32Array, Int64Array],
    matrix: Float32Array,
    queries: Float32Array,
    k: int,
    live: BoolArray | None = None,
) -> None:
    """Assert that this is the exact answer, as far as float32 can tell rows apart."""
    scores, rows = found
    true_scores, true_rows = exact_search(matrix, queries, k, live)
    assert rows.shape == scores.shape == true_rows.shape
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(scores, true_scores, rtol=0, atol=NEAR)
    own_scores = np.einsum("qd,qkd->qk", queries.astype(np.float64), matrix[rows])
    np.testing.assert_allclose(scores, own_scores, rtol=0, atol=NEAR)
    assert live is None or live[rows].all()
    assert all(len(set(row)) == len(row) for row in rows.tolist())
    falling = np.diff(scores) < 0
    assert (falling | ((np.diff(scores) == 0) & (np.diff(rows) > 0))).all()
    # Where the truth leaves no doubt, the very rows.
    gaps = np.abs(np.diff(true_scores, axis=1))
    sure = np.ones(rows.shape, bool)
    sure[:, 1:] &= (gaps > NEAR) | (gaps == 0)
    sure[:, :-1] &= (gaps > NEAR) | (gaps == 0)
    sure[:, -1] = False
    np.testing.assert_array_equal(rows[sure], true_rows[sure])
