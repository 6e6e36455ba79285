"""The truth that answers are held against: exact scores, computed here and not by the index."""

from __future__ import annotations

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int64Array
from vecindex.bench.metrics import TIE

_BLOCK = 16_384  # rows whose products with all queries are in memory at once
_CHECKED = 16  # queries for which given neighbours are looked over
_CLOSE = 10 * TIE  # float32 products may be summed in another order


def best_scores(
    rows: Float32Array, queries: Float32Array, k: int, allowed: BoolArray | None = None
) -> Float32Array:
    """Return the k greatest cosines of each query, found by looking at every row.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    queries : ndarray of float32, shape (q, dim)
        Unit rows.
    k : int
        At most the number of allowed rows.
    allowed : ndarray of bool, shape (n,), or None
        Rows that count; None if all do.

    Returns
    -------
    ndarray of float32, shape (q, k)
        Greatest first.
    """
    best = np.empty((len(queries), 0), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        if allowed is not None:
            block = block[allowed[start : start + _BLOCK]]
        best = np.concatenate([best, queries @ block.T], axis=1)
        if best.shape[1] > k:
            best = np.partition(best, -k, axis=1)[:, -k:]
    ordered: Float32Array = np.sort(best, axis=1)[:, ::-1]
    return ordered


def scores_of(rows: Float32Array, queries: Float32Array, numbers: Int64Array) -> Float32Array:
    """Return the cosine of each query with each of its rows.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    queries : ndarray of float32, shape (q, dim)
        Unit rows.
    numbers : ndarray of int64, shape (q, k)
        Row numbers.

    Returns
    -------
    ndarray of float32, shape (q, k)
        In the order of `numbers`.
    """
    found = np.empty(numbers.shape, dtype=np.float32)
    for query, own, out in zip(queries, numbers, found, strict=True):
        out[:] = rows[own] @ query
    return found


def are_nearest(rows: Float32Array, queries: Float32Array, neighbors: Int64Array) -> bool:
    """Return whether given neighbours are the nearest by cosine, for a few of the queries.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    queries : ndarray of float32, shape (q, dim)
        Unit rows.
    neighbors : ndarray of int64, shape (q, k)
        Row numbers.

    Returns
    -------
    bool
        False also if a number is not that of a row.
    """
    few = slice(0, _CHECKED)
    if neighbors.min() < 0 or neighbors.max() >= len(rows):
        return False
    given = np.sort(scores_of(rows, queries[few], neighbors[few]), axis=1)[:, ::-1]
    exact = best_scores(rows, queries[few], neighbors.shape[1])
    return given.shape == exact.shape and bool((np.abs(given - exact) < _CLOSE).all())
