"""Small indexes with every kind of file in them, and how to ask them everything."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vecindex import VectorIndex

DIM = 8
QUERIES = np.random.default_rng(1).normal(size=(3, DIM)).astype(np.float32)
WHERE = {"n": {"$lt": 30}}

Answers = dict[str, Any]


def rows(first: int, count: int, *, ints: bool = False, dim: int = DIM) -> dict[str, Any]:
    """Return the arguments of an `add` of some rows, the same each time."""
    numbers = range(first, first + count)
    rng = np.random.default_rng(first)
    return {
        "ids": list(numbers) if ints else [f"id {n}" for n in numbers],
        "texts": [f"text {n}" if n % 7 else None for n in numbers],
        "vectors": rng.normal(size=(count, dim)).astype(np.float32),
        "metadata": [
            {"n": n, "at": datetime(2020, 1, 1 + n % 28, tzinfo=UTC), "in": {"tags": ["a", n]}}
            for n in numbers
        ],
    }


def make_flat(path: Path) -> None:
    """Make an index whose rows are in one segment, without anything else."""
    with VectorIndex.create(path, spec="flat", maintenance="manual") as index:
        index.add(**rows(0, 40, ints=True))
        index.optimize()


def make_full(path: Path, spec: str = "flat/pq4", indexed: int = 40) -> None:
    """Make an index with a structure, columns, queries, more segments, removed rows and a log."""
    with VectorIndex.create(path, spec=spec, maintenance="manual") as index:
        index.add(**rows(0, indexed))
        index.optimize(queries=QUERIES)
        index.remove(["id 3", "id 21"])
        index.add(**rows(1000, 10))
        index._maintenance.seal()
        index.upsert(**rows(1005, 4))
        index.remove(["id 5", "id 1002"])
        index.add(**rows(2000, 3))
        index.remove(["id 2001"])


def queries_for(index: VectorIndex) -> np.ndarray:
    """Return queries of the index's dimension, whatever somebody says that it is."""
    return QUERIES if index.dim == DIM else 1 + np.eye(3, index.dim)


def ask(index: VectorIndex) -> Answers:
    """Return answers to every kind of question; they do not depend on caches."""
    records = list(index.scan(vectors=True))
    ids = [record.id for record in records]
    queries = queries_for(index)
    found, scores = index.search_arrays(queries, k=5, exact=True)
    hits = index.search(queries, k=3, exact=True)
    return {
        "rows": [(r.id, r.text, r.metadata, r.vector.tobytes()) for r in records],
        "get": [(r.id, r.text, r.metadata) for r in index.get(ids)],
        "len": len(index),
        "exact": (found.tolist(), scores.tolist()),
        "hits": [[(h.id, h.score, h.text, h.metadata) for h in some] for some in hits],
        "where": [h.id for h in index.search(queries[0], k=3, where=WHERE)],
        "count": index.count(WHERE),
    }


def check_structure(index: VectorIndex) -> None:
    """Ask the structure; each hit must have its own score, whatever could be found."""
    queries = queries_for(index)
    entry = index._store.state.manifest.structure
    params = {} if entry is None else {"flat": {"rescore": 4}, "hnsw": {"ef_search": 32}}
    kind = "flat" if entry is None else entry.kind
    ids, scores = index.search_arrays(queries, k=5, params=params.get(kind, {}))
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    for query, found, their in zip(unit, ids.tolist(), scores, strict=True):
        vectors = np.array([r.vector for r in index.get(found, vectors=True)])
        np.testing.assert_allclose(vectors @ query, their, atol=1e-5)


def names(path: Path) -> Sequence[str]:
    """Return the names of an index's files, the lock apart."""
    return sorted(file.name for file in path.iterdir() if file.name != "LOCK")


def copied(source: Path, target: Path) -> Path:
    """Return a fresh copy of an index."""
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
    return target
