"""The queries of a measurement: the caller's own, or sampled rows that may not find themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from vecindex.arrays import Float32Array, unit_rows
from vecindex.bench.metrics import Ids
from vecindex.errors import InputError
from vecindex.results import Id

if TYPE_CHECKING:
    from vecindex.index import VectorIndex


@dataclass(frozen=True, eq=False)
class Queries:
    """Unit rows to ask with, and which rows of the index they are.

    Parameters
    ----------
    vectors : ndarray of float32, shape (q, dim)
        Unit rows.
    own : ndarray of int64 or object, shape (q,), or None
        The ids of the rows that the queries were taken from; None for queries from elsewhere.
    source : str
        Where they come from, for the report.
    """

    vectors: Float32Array
    own: Ids | None
    source: str


def given_queries(index: VectorIndex, queries: ArrayLike) -> Queries:
    """Return the caller's queries, after checking that they fit the index.

    Parameters
    ----------
    index : VectorIndex
        The index.
    queries : array_like of shape (q, dim)
        Vectors.

    Returns
    -------
    Queries
        With no own rows.

    Raises
    ------
    InputError
        If there are none, or they have another dimension.
    """
    vectors = unit_rows(queries, index.dim, "queries")
    if not len(vectors):
        raise InputError("no queries were given; at least one is needed")
    return Queries(vectors, None, "given")


def sampled_queries(index: VectorIndex, sample: int, seed: int) -> Queries:
    """Return live rows of the index, drawn without replacement.

    Parameters
    ----------
    index : VectorIndex
        The index, with at least two rows.
    sample : int
        How many rows; all of them if there are fewer.
    seed : int
        Of the generator that draws.

    Returns
    -------
    Queries
        With the ids of the rows.

    Raises
    ------
    InputError
        If the index has fewer than two rows, or `sample` is below 1.
    """
    rows = len(index)
    if rows < 2:
        raise InputError(f"measuring needs at least 2 rows or queries of your own; there is {rows}")
    if sample < 1:
        raise InputError(f"sample must be at least 1, not {sample}")
    drawn = np.random.default_rng(seed).choice(rows, size=min(sample, rows), replace=False)
    wanted = set(drawn.tolist())
    ids = [record.id for row, record in enumerate(index.scan()) if row in wanted]
    records = index.get(ids, vectors=True)
    vectors = np.stack([record.vector for record in records if record.vector is not None])
    return Queries(vectors, _id_array(ids), "sampled rows, each without itself")


def _id_array(ids: Sequence[Id]) -> Ids:
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array
