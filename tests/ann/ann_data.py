"""Clustered data, every structure with its codes, and how answers are compared with the truth."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vecindex.ann import Structure, exact_search, score_rows, slots_for, top_k, write
from vecindex.arrays import (
    BoolArray,
    Float32Array,
    Int64Array,
    MappedRows,
    UInt8Array,
    unit_rows,
)
from vecindex.spec import (
    FlatParams,
    FlatSpec,
    HnswParams,
    HnswSpec,
    IvfParams,
    IvfSpec,
    Params,
    StructureSpec,
    spec_name,
)

DIM = 32
ROWS = 3000  # of a case
NEAR = 2e-6  # what float32 sums may differ by

SPECS: dict[str, StructureSpec] = {
    spec_name(spec): spec
    for spec in (
        *(FlatSpec(codes) for codes in ("bf16", "sq8", "pq4")),
        *(HnswSpec(6, 40, codes) for codes in ("float32", "bf16", "sq8", "sq4")),
        *(IvfSpec(codes=codes) for codes in ("float32", "bf16", "sq8", "pq4")),
    )
}
"""Every structure with every code that it has."""

CASES = [
    (name, dim)
    for name, spec in SPECS.items()
    # 4-bit codes take eight dimensions at a time: of these only 32 needs no padding.
    for dim in ((32, 10, 30, 33) if spec.codes == "pq4" else (32, 33))
]
"""Names of structures and dimensions to try them in."""


def generous(spec: StructureSpec) -> Params:
    """Return parameters with which every structure finds nearly everything in `ROWS` rows."""
    rescore = {"float32": None, "bf16": 3, "sq8": 4, "sq4": 8, "pq4": 80}[spec.codes]
    if isinstance(spec, FlatSpec):
        return FlatParams(rescore)
    return HnswParams(128, rescore) if isinstance(spec, HnswSpec) else IvfParams(32, rescore)


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """A structure with what it was built from; nobody may change them, and nothing can."""

    name: str
    spec: StructureSpec
    vectors: MappedRows
    queries: Float32Array
    structure: Structure

    @property
    def good(self) -> Params:
        """Give parameters with which it finds nearly everything."""
        return generous(self.spec)

    def answer(self, k: int, params: Params) -> tuple[Float32Array, Int64Array]:
        """Return its answers to its queries."""
        return answer(self.structure, self.vectors.rows, self.queries, k, params)

    @cached_property
    def truth(self) -> Int64Array:
        """Give the nearest 100 rows of each query, by numpy alone."""
        return exact_search(self.vectors.rows, self.queries, 100)[1]

    def recall(self, k: int, params: Params) -> float:
        """Return the share of the true k nearest in its answers."""
        return share(self.answer(k, params)[1], self.truth[:, :k])


Mapper = Callable[[Float32Array], MappedRows]
Loader = Callable[[Structure, StructureSpec, MappedRows], Structure]
Builder = Callable[[str, int], Case]


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


def data(structure: Structure) -> UInt8Array:
    """Return the structure's bytes."""
    pieces: list[bytes] = []
    write(structure, lambda view: pieces.append(bytes(view)))
    return np.frombuffer(b"".join(pieces), np.uint8)


def answer(
    structure: Structure, matrix: Float32Array, queries: Float32Array, k: int, params: Params
) -> tuple[Float32Array, Int64Array]:
    """Return a structure's canonical scores and rows, as the index gets them."""
    slots = slots_for(structure.codes, params, k)
    rows = structure.find(queries, slots, params)
    return top_k(score_rows(matrix, queries, rows), rows, k)


def by_cost(structure: Structure) -> list[tuple[Params, ...]]:
    """Return the groups of the structure's grid; that of a scan, which comes first there, last."""
    return sorted(structure.grid(), key=lambda group: structure.scans(group[0]))


def ends(structure: Structure) -> tuple[Params, Params]:
    """Return the cheapest and the dearest parameters of the structure's grid."""
    groups = by_cost(structure)
    return groups[0][0], groups[-1][-1]


def recall(
    matrix: Float32Array, queries: Float32Array, rows: Int64Array, live: BoolArray | None = None
) -> float:
    """Return the share of the true nearest that `rows` has, by numpy alone."""
    return share(rows, exact_search(matrix, queries, rows.shape[1], live)[1])


def share(rows: Int64Array, truth: Int64Array) -> float:
    """Return the share of the true rows that stand in the rows found."""
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
