"""Canonical scores: one routine computes every score that a user sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vecindex.ann import compiled
from vecindex.ann.native import faiss, pointer
from vecindex.ann.threads import in_pieces, use_threads
from vecindex.arrays import Float32Array, Int64Array

_score_by_row = faiss.fvec_inner_products_by_idx

MOST_KEPT = 128
"""Rows that compiled searches keep: each is put in its place, beyond sorting all is quicker."""

_ONE = np.float32(1)
_FEW_ROWS = 2048  # fewer are scored sooner than a thread is started
_WIDE = 4096  # from this many candidates on, find the k-th score first and sort only the better


def score_rows(matrix: Float32Array, queries: Float32Array, rows: Int64Array) -> Float32Array:
    """Return the inner products of each query with its own list of rows.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, dim)
        C-contiguous unit rows; not modified.
    queries : ndarray of float32, shape (q, dim)
        C-contiguous unit rows.
    rows : ndarray of int64, shape (q, c)
        C-contiguous row numbers below n, -1 pads.

    Returns
    -------
    ndarray of float32, shape (q, c)
        The cosines, from -1 to 1; -inf where `rows` is -1.

    Notes
    -----
    The score of a query and a row is the same to the last bit wherever the row stands in the
    list and in the matrix. A row of 384 dimensions takes 0.1 us, ten times that if its memory
    is cold; large batches use all cores.
    """
    scores = np.empty(rows.shape, np.float32)
    if rows.size <= _FEW_ROWS:
        _score(matrix, queries, rows, scores)
    else:
        in_pieces(
            lambda part: _score(matrix, queries[part], rows[part], scores[part]),
            len(queries),
            None,
            pieces_per_thread=1,
        )
    return scores


def _score(
    matrix: Float32Array, queries: Float32Array, rows: Int64Array, scores: Float32Array
) -> None:
    count, width = rows.shape
    dim = matrix.shape[1]
    if compiled.scores is not None:
        compiled.scores.score(matrix, queries, rows, dim, scores)
        return
    use_threads(1)
    _score_by_row(
        pointer(scores), pointer(queries), pointer(matrix), pointer(rows), dim, count, width
    )
    # Unit rows are so up to rounding: a row's product with itself may come out as 1.0000001.
    np.minimum(scores, _ONE, out=scores)
    np.maximum(scores, -_ONE, out=scores, where=rows >= 0)


def top_k(scores: Float32Array, rows: Int64Array, k: int) -> tuple[Float32Array, Int64Array]:
    """Return the k best of each query's candidates, best first, ties by row number.

    Parameters
    ----------
    scores : ndarray of float32, shape (q, c)
        Scores as `score_rows` gives them.
    rows : ndarray of int64, shape (q, c)
        Their row numbers, -1 pads. A row that stands there twice counts once.
    k : int
        At least 0.

    Returns
    -------
    scores : ndarray of float32, shape (q, min(k, c))
        Falling; -inf for pads, which come last.
    rows : ndarray of int64, shape (q, min(k, c))
        Their row numbers.
    """
    k = min(k, scores.shape[1])
    if compiled.scores is not None and 0 < k <= MOST_KEPT:
        best, numbers = np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.int64)
        compiled.scores.top(
            np.ascontiguousarray(scores), np.ascontiguousarray(rows), k, best, numbers
        )
        return best, numbers
    if len(scores) == 1 and scores.shape[1] > max(_WIDE, 2 * k) and k > 0:
        kth = np.partition(scores[0], -2 * k)[-2 * k]  # of two of each row, k are left
        good = np.flatnonzero(scores[0] >= kth)
        scores, rows = scores[:, good], rows[:, good]
    scores, rows = _sorted(scores, rows)
    again = (rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] >= 0)
    if again.any():
        scores[:, 1:][again], rows[:, 1:][again] = -np.inf, -1
        scores, rows = _sorted(scores, rows)
    return scores[:, :k], rows[:, :k]


def _sorted(scores: Float32Array, rows: Int64Array) -> tuple[Float32Array, Int64Array]:
    order = np.lexsort((rows, -scores), axis=-1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def merge(
    found: Sequence[tuple[Float32Array, Int64Array]], k: int
) -> tuple[Float32Array, Int64Array]:
    """Return the k best of several answers to the same queries, as `top_k` does.

    Parameters
    ----------
    found : sequence of (ndarray of float32, ndarray of int64)
        At least one; scores and row numbers, each of shape (q, c) with a c of its own. One alone is
        returned as it is.
    k : int
        At least 0.

    Returns
    -------
    tuple of (ndarray of float32, ndarray of int64)
        Scores and row numbers.
    """
    if len(found) == 1:
        return found[0]
    scores, rows = (np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True))
    return top_k(scores, rows, k)
