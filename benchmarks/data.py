"""Vectors to measure on: from files, more of the same kind, or synthetic ones with neighbours."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np

from vecindex.arrays import Float32Array, unit_rows

_CHUNK = 50_000
_NEIGHBOURS = 8


@dataclass(frozen=True, eq=False)
class Data:
    """Rows and held-out queries of the same source, both unit rows, with a name and a hash."""

    name: str
    rows: Float32Array
    queries: Float32Array

    @property
    def sha256(self) -> str:
        """First 16 hexadecimal digits of the rows' SHA-256."""
        return hashlib.sha256(self.rows.data).hexdigest()[:16]


def add_arguments(parser: argparse.ArgumentParser, rows: int) -> None:
    """Add the options that `from_arguments` reads."""
    parser.add_argument("--vectors", type=Path, help=".npy of shape (n, dim), any float dtype")
    parser.add_argument("--queries", type=Path, help=".npy of held-out queries")
    parser.add_argument(
        "--rows",
        type=int,
        help=f"use the first ones of --vectors, or extend them; without --vectors, synthetic rows (default {rows:,})",
    )
    parser.set_defaults(synthetic_rows=rows)


def from_arguments(arguments: argparse.Namespace) -> Data:
    """Return the data that the options ask for."""
    if not arguments.vectors:
        return synthetic(arguments.rows or arguments.synthetic_rows)
    data = from_files(arguments.vectors, arguments.queries)
    rows = arguments.rows or len(data.rows)
    name = Path(data.name).stem
    if rows <= len(data.rows):
        return replace(data, name=f"{name}-{rows}", rows=data.rows[:rows])
    return larger(replace(data, name=f"{name}-extended-{rows}"), rows)


def from_files(rows: Path, queries: Path) -> Data:
    """Return the rows and queries of two `.npy` files of shape (n, dim), any float dtype."""
    return Data(
        rows.name,
        unit_rows(np.load(rows, mmap_mode="r"), what=str(rows)),
        unit_rows(np.load(queries, mmap_mode="r"), what=str(queries)),
    )


def synthetic(rows: int, dim: int = 384, queries: int = 600, seed: int = 0) -> Data:
    """Return clustered, skewed, correlated rows; uniform random ones would have no neighbours.

    Cluster sizes fall like 1/rank; each cluster spreads in few directions of its own, and all
    share a spectrum that falls from dimension to dimension, as embeddings' spectra do.
    """
    rng = np.random.default_rng(seed)
    clusters = max(20, rows // 200)
    spectrum = (1 + np.arange(dim)) ** -0.5
    centres = rng.standard_normal((clusters, dim)) * spectrum
    sizes = 1 / (1 + np.arange(clusters))
    own = rng.standard_normal((clusters, 12, dim)).astype(np.float32) * spectrum
    total = rows + queries
    member = rng.choice(clusters, size=total, p=sizes / sizes.sum())
    loads = rng.standard_normal((total, 12)) * 0.35
    points = centres[member] + 0.15 * rng.standard_normal((total, dim)) * spectrum
    for cluster in np.unique(member):
        mine = member == cluster
        points[mine] += loads[mine] @ own[cluster]
    unit = unit_rows(points)
    return Data(f"synthetic-{rows}x{dim}-seed{seed}", unit[:rows], unit[rows:])


def larger(data: Data, n: int, seed: int = 0) -> Data:
    """Return the data with `n` rows, and as many queries as before.

    Rows and queries are `extended` together, and queries drawn from all of them: so they are to the
    rows as one row is to the others. To ask the given queries would be harder than it should be:
    around each given row there are new ones that were made from it, around them there are none.
    """
    every = extended(np.concatenate([data.rows, data.queries]), n + len(data.queries), seed)
    asked = np.random.default_rng(seed).choice(len(every), len(data.queries), replace=False)
    return replace(data, rows=np.delete(every, asked, axis=0), queries=every[asked])


def extended(rows: Float32Array, n: int, seed: int = 0) -> Float32Array:
    """Return the rows followed by n - len(rows) new ones that keep their local structure.

    Each new row lies on the way from a random row to one of its near neighbours (at 20 to 80 % of
    it), and is then moved by a normal multiple (of deviation 0.5) of the difference of another such pair nearby: the first row
    and a second neighbour of it. So it leaves the line, but only in directions in which the data
    differ locally; dense regions get more rows, and sparse ones stay sparse. The near neighbours
    are among the 8 best of an inverted file over the rows (one list in 64 visited). The same rows,
    n and seed give the same result with the same versions of FAISS and numpy.

    As hard to search as real rows: hnswlib (m=16; ef 20, 40, 80) finds 0.912, 0.959, 0.984 of 24,000
    sentence embeddings extended from 8,000, and 0.901, 0.965, 0.989 of 24,000 real ones.

    Parameters
    ----------
    rows : ndarray of float32, shape (m, dim)
        Unit rows; copied.
    n : int
        Rows wanted, at least m.
    seed : int
        Of the random choices.

    Returns
    -------
    ndarray of float32, shape (n, dim)
        Unit rows, made in chunks of 50,000.
    """
    count, dim = rows.shape
    if n < count:
        raise ValueError(f"{n:,} rows wanted, fewer than the {count:,} given")
    near = _near_neighbours(rows, min(_NEIGHBOURS, count - 1))
    rng = np.random.default_rng(seed)
    result = np.empty((n, dim), dtype=np.float32)
    result[:count] = rows
    for start in range(count, n, _CHUNK):
        size = min(_CHUNK, n - start)
        first = rng.integers(count, size=size)
        second, third = (near[first, rng.integers(near.shape[1], size=size)] for _ in range(2))
        part = rng.uniform(0.2, 0.8, size=(size, 1)).astype(np.float32)
        aside = rng.normal(0, 0.5, size=(size, 1)).astype(np.float32)
        points = rows[first] + part * (rows[second] - rows[first])
        points += aside * (rows[third] - rows[first])
        result[start : start + size] = unit_rows(points)
    return result


def _near_neighbours(rows: Float32Array, k: int) -> np.ndarray:
    """Return k near neighbours of each row, itself excepted, shape (m, k)."""
    count, dim = rows.shape
    lists = max(1, int(np.sqrt(count) * 2))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(rows[:: max(1, count // (lists * 50))])
    index.add(rows)
    index.nprobe = max(4, lists // 64)
    near = np.empty((count, k), dtype=np.int64)
    for start in range(0, count, _CHUNK):
        own = np.arange(start, min(start + _CHUNK, count))
        _, found = index.search(rows[own], k + 1)
        is_own = found == own[:, None]
        drop = np.where(is_own.any(axis=1), is_own.argmax(axis=1), k)
        others = found[np.arange(k + 1) != drop[:, None]].reshape(-1, k)
        alone = np.where(others[:, :1] < 0, (own[:, None] + 1) % count, others[:, :1])
        near[own] = np.where(others < 0, alone, others)  # too few rows in the lists visited
    return near
