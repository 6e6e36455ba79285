"""Vectors to build temporary indexes from, with queries that are not among them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vecindex.arrays import BoolArray, Float32Array, Int64Array, unit_rows
from vecindex.bench.truth import best_scores, scores_of
from vecindex.errors import InputError

_HELD_OUT = 10  # at most one row in so many is held out


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows and queries, with what is known about them.

    Parameters
    ----------
    name : str
        Of the file or index, for the report; never a path.
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    queries : ndarray of float32, shape (q, dim)
        Unit rows.
    source : str
        Where the queries come from.
    neighbors : ndarray of int64, shape (q, t), or None
        The rows nearest to each query, best first, where they are known already.
    notes : tuple of str
        What a reader of the report should know.
    """

    name: str
    rows: Float32Array
    queries: Float32Array
    source: str
    neighbors: Int64Array | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """The hash of the rows, see `row_hash`."""
        return row_hash(self.rows)

    def truth(self, k: int, allowed: BoolArray | None = None) -> Float32Array:
        """Return the k best cosines of each query, shape (q, k), greatest first.

        Parameters
        ----------
        k : int
            At most the number of allowed rows.
        allowed : ndarray of bool, shape (n,), or None
            Rows that count; None if all do.

        Returns
        -------
        ndarray of float32, shape (q, k)
            From the known neighbours where they suffice, otherwise from all rows.
        """
        if allowed is None and self.neighbors is not None and self.neighbors.shape[1] >= k:
            known = scores_of(self.rows, self.queries, self.neighbors[:, :k])
            ordered: Float32Array = np.sort(known, axis=1)[:, ::-1]
            return ordered
        return best_scores(self.rows, self.queries, k, allowed)


def row_hash(rows: Float32Array) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of rows as stored."""
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()[:16]


def from_arrays(
    vectors: ArrayLike,
    queries: ArrayLike | None = None,
    *,
    name: str = "vectors",
    sample: int = 500,
    seed: int = 0,
) -> Dataset:
    """Return a data set of vectors; without queries, some of the vectors are held out as queries.

    Parameters
    ----------
    vectors : array_like of shape (n, dim)
        Any length but zero.
    queries : array_like of shape (q, dim), or None
        What to ask.
    name : str
        For the report.
    sample : int
        Rows to hold out when there are no queries; at most a tenth of them, at least one.
    seed : int
        Of the rows that are held out.

    Returns
    -------
    Dataset
        Of unit rows.

    Raises
    ------
    InputError
        If there are too few vectors, or no queries, or something is not a direction.
    """
    unit = unit_rows(vectors, what=name)
    if queries is not None:
        asked = unit_rows(queries, unit.shape[1], "queries")
        if not len(asked):
            raise InputError("no queries were given; at least one is needed")
        if not len(unit):
            raise InputError(f"{name} holds no rows: there is nothing to measure")
        return Dataset(name, unit, asked, "given")
    if len(unit) < 2:
        raise InputError(
            f"measuring needs at least 2 rows or queries of your own; {name} holds {len(unit)}"
        )
    held = drawn(len(unit), held_out(len(unit), sample), seed)
    return Dataset(name, np.delete(unit, held, axis=0), unit[held], "rows held out of the index")


def held_out(rows: int, sample: int) -> int:
    """Return how many of the rows to hold out when `sample` are wished for."""
    return max(1, min(sample, rows // _HELD_OUT))


def drawn(rows: int, count: int, seed: int) -> Int64Array:
    """Return rising numbers of rows, drawn by a seed without replacement; at most all."""
    chosen: Any = np.random.default_rng(seed).choice(rows, min(count, rows), replace=False)
    return np.sort(np.asarray(chosen, dtype=np.int64))
