"""Vectors to measure on: from files, or synthetic ones that have neighbours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vecindex.arrays import Float32Array, unit_rows


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
