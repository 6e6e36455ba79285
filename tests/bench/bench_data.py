"""Clustered rows, and reports made by hand."""

import numpy as np

from vecindex import VectorIndex
from vecindex.bench import BenchReport, BenchRow, ConditionRow

MACHINE = {"cpu": "none", "cores": 2, "memory_gb": 1.0, "system": "test"}


def rows(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Return random rows, every direction as likely."""
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def clustered(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Return rows around 20 centres, which are the same for all seeds."""
    centres = rows(20, dim, seed=99)
    rng = np.random.default_rng(seed)
    near = centres[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, dim))
    return near.astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return the rows at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(path, vectors, spec="flat", ids=None) -> VectorIndex:
    """Return an optimized index of the vectors."""
    index = VectorIndex.create(path, spec=spec, maintenance="manual")
    index.add(vectors=vectors, ids=ids)
    index.optimize()
    return index


def row(recall=0.99, p50_ms=1.0, *, structure="hnsw", name="default", k=10, error=0.001):
    """Return a row of a report."""
    return BenchRow(
        structure, name, k, f"{structure} over 100 of 100 rows", recall, error, p50_ms,
        2 * p50_ms, 3 * p50_ms, 0.1, 5000.0, 10.0, 1.5, 2_000_000, None, 1e-7,
    )  # fmt: skip


def condition(name="filter 10%", recall=1.0, returned=10, p50_ms=1.0):
    """Return a condition of a report."""
    return ConditionRow(
        "hnsw", name, 10, 50, "exact over 10 of 100 rows (filter)", 100, 10, returned, recall, 0.0,
        5.0, p50_ms, 0.5, p50_ms / 0.5, 0.1,
    )  # fmt: skip


def report(*measured, conditions=(), **facts) -> BenchReport:
    """Return a report with the facts that readers of reports need."""
    known = {
        "index": None, "data": "x.npy", "sha256": "abc", "rows": 100, "dim": 8, "queries": 50,
        "queries_sha256": "def", "query_source": "given", "repeats": 3, "target_recall": 0.95,
        "machine": MACHINE, "threads": {"single": 1, "batch": 2}, "notes": [], "structure": None,
    }  # fmt: skip
    return BenchReport({**known, **facts}, tuple(measured), tuple(conditions))
