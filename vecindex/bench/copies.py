"""Temporary indexes: built from vectors, measured, and gone whatever happens."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vecindex.arrays import Float32Array, Int64Array
from vecindex.bench.workload import Progress
from vecindex.results import IndexInfo
from vecindex.spec import Spec

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

RANK = "rank"
"""Metadata of a copy's rows: their places in a random order, for filters of known selectivity."""

_PREFIX = "vecindex-bench-"  # of the directories that hold temporary indexes
_ADDED = 10_000  # rows of one call


@dataclass(frozen=True)
class Recipe:
    """What to build.

    Parameters
    ----------
    label : str
        How reports call it.
    spec : str or Spec
        The structure.
    target_recall : float
        The promise.
    """

    label: str
    spec: str | Spec
    target_recall: float


@dataclass(frozen=True)
class Cost:
    """What it takes to have a structure; None where that is not known.

    Parameters
    ----------
    build_s : float or None
        Seconds of `optimize`: the structure and its calibration.
    size_bytes : int or None
        Bytes of the directory on disk.
    memory_bytes : int or None
        Bytes of the structure in memory.
    """

    build_s: float | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None


def cost_of(info: IndexInfo, build_s: float | None = None) -> Cost:
    """Return what an index takes, by its own facts."""
    return Cost(build_s, info.size_bytes, getattr(info, "memory_bytes", None))


@dataclass(frozen=True, eq=False)
class Copy:
    """A temporary index whose ids are the numbers of the rows that it was built from.

    Parameters
    ----------
    index : VectorIndex
        Open for writing.
    cost : Cost
        What building it took.
    """

    index: VectorIndex
    cost: Cost


@contextmanager
def built(
    recipe: Recipe,
    rows: Float32Array,
    ranks: Int64Array | None = None,
    *,
    progress: Progress | None = None,
) -> Iterator[Copy]:
    """Build a temporary index for the time of the `with` block.

    Parameters
    ----------
    recipe : Recipe
        The structure.
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    ranks : ndarray of int64, shape (n,), or None
        Metadata of the rows under `RANK`; None stores no metadata.
    progress : callable or None
        Called with stages that begin with the recipe's label.

    Yields
    ------
    Copy
        Its directory is removed at the end, also after an error or Ctrl-C.
    """
    from vecindex.index import VectorIndex

    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX) as folder,
        VectorIndex.create(
            Path(folder) / "copy.vx",
            spec=recipe.spec,
            target_recall=recipe.target_recall,
            durability="os",
            maintenance="manual",
        ) as index,
    ):
        add_rows(index, rows, 0, ranks)
        start = time.perf_counter()
        index.optimize(progress=_staged(recipe.label, progress))
        yield Copy(index, cost_of(index.info(), time.perf_counter() - start))


@contextmanager
def twin(index: VectorIndex) -> Iterator[VectorIndex]:
    """Copy an index's files for the time of the `with` block, to change the copy.

    Parameters
    ----------
    index : VectorIndex
        Not written to meanwhile.

    Yields
    ------
    VectorIndex
        Open for writing.
    """
    from vecindex.index import VectorIndex

    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        path = Path(folder) / "twin.vx"
        shutil.copytree(index.path, path)
        with VectorIndex.open(path, "r+", durability="os", maintenance="manual") as other:
            yield other


def add_rows(
    index: VectorIndex, rows: Float32Array, first: int, ranks: Int64Array | None = None
) -> None:
    """Add rows whose ids count up from `first`.

    Parameters
    ----------
    index : VectorIndex
        Open for writing.
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    first : int
        The id of the first.
    ranks : ndarray of int64, shape (n,), or None
        Their metadata under `RANK`.
    """
    for start in range(0, len(rows), _ADDED):
        part = slice(start, min(start + _ADDED, len(rows)))
        options: dict[str, Any] = {}
        if ranks is not None:
            options["metadata"] = [{RANK: rank} for rank in ranks[part].tolist()]
        ids = range(first + part.start, first + part.stop)
        index.add(vectors=rows[part], ids=ids, **options)


def random_ranks(rows: int, seed: int) -> Int64Array:
    """Return the numbers from 0 to rows - 1 in an order drawn by a seed."""
    return np.random.default_rng(seed).permutation(rows).astype(np.int64)


def _staged(label: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{label}: {stage}", done, total)
