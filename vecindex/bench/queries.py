"""What is asked of an index: the caller's queries, or rows that may not find themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from vecindex.arrays import Float32Array, Int64Array, unit_rows
from vecindex.bench.data import drawn
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


@dataclass(frozen=True, eq=False)
class Contents:
    """What one pass over an index gives.

    Parameters
    ----------
    sha256 : str
        First 16 hexadecimal digits of the hash of its rows, as `row_hash` gives it.
    rows : ndarray of float32, shape (n, dim), or None
        All of them, where they were asked for.
    drawn : ndarray of int64, shape (q,)
        Numbers of the rows that were drawn as queries, counted over live rows.
    queries : Queries
        Drawn, or given.
    """

    sha256: str
    rows: Float32Array | None
    drawn: Int64Array
    queries: Queries


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


def read_contents(
    index: VectorIndex, queries: ArrayLike | None, sample: int, seed: int, *, keep_rows: bool
) -> Contents:
    """Return the queries, the hash of the rows and, if wanted, the rows, in one pass.

    Parameters
    ----------
    index : VectorIndex
        The index, with at least two rows where queries are to be drawn.
    queries : array_like of shape (q, dim), or None
        The caller's; None draws rows of the index without replacement.
    sample : int
        How many rows to draw; all of them if there are fewer.
    seed : int
        Of the generator that draws.
    keep_rows : bool
        Whether to return all rows.

    Returns
    -------
    Contents
        Drawn queries know the ids of their rows.

    Raises
    ------
    InputError
        If queries must be drawn from fewer than two rows, or given ones do not fit.
    """
    count = len(index)
    given = None if queries is None else given_queries(index, queries)
    if not count:
        raise InputError("the index is empty: there is nothing to measure")
    if given is None and count < 2:
        raise InputError(
            f"measuring needs at least 2 rows or queries of your own; there is {count}"
        )
    numbers = drawn(count, sample, seed) if given is None else np.empty(0, dtype=np.int64)
    digest, wanted = hashlib.sha256(), set(numbers.tolist())
    rows = np.empty((count, index.dim or 0), dtype=np.float32) if keep_rows else None
    ids: list[Id] = []
    vectors: list[Float32Array] = []
    for number, record in enumerate(index.scan(vectors=True)):
        vector = record.vector
        assert vector is not None  # asked for
        digest.update(vector.data)
        if rows is not None:
            rows[number] = vector
        if number in wanted:
            ids.append(record.id)
            vectors.append(vector)
    asked = given or Queries(np.stack(vectors), _id_array(ids), "sampled rows, each without itself")
    return Contents(digest.hexdigest()[:16], rows, numbers, asked)


def _id_array(ids: Sequence[Id]) -> Ids:
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array
