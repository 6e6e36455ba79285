"""The oracle: exact search in plain numpy, what every other search is compared with."""

from __future__ import annotations

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int64Array

_BLOCK = 8192  # rows multiplied at once; in float64 25 MB at dimension 384


def exact_search(
    matrix: Float32Array, queries: Float32Array, k: int, live: BoolArray | None = None
) -> tuple[Float32Array, Int64Array]:
    """Return the k nearest live rows of each query, computed without FAISS.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, dim)
        Unit rows.
    queries : ndarray of float32, shape (q, dim)
        Unit rows.
    k : int
        At least 0.
    live : ndarray of bool, shape (n,), or None
        False for rows that must not be returned; None if all may.

    Returns
    -------
    scores : ndarray of float32, shape (q, k')
        Cosines, best first; k' = min(k, live rows).
    rows : ndarray of int64, shape (q, k')
        Row numbers, ties in rising order.

    Notes
    -----
    Sums in float64 and rounds once, so that equal rows have equal scores. Made for truth, not
    for speed: use `search_flat` for that.
    """
    asked = queries.astype(np.float64)
    allowed = np.arange(len(matrix)) if live is None else np.flatnonzero(live)
    best_scores = np.empty((len(queries), 0), np.float32)
    best_rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(allowed), _BLOCK):
        rows = allowed[start : start + _BLOCK]
        with np.errstate(invalid="ignore"):  # BLAS may raise it for lanes beyond the matrix
            scores = (asked @ matrix[rows].astype(np.float64).T).astype(np.float32)
        best_scores = np.hstack([best_scores, scores])
        best_rows = np.hstack([best_rows, np.broadcast_to(rows, scores.shape)])
        # Earlier rows stand further left, so a stable sort keeps ties in row order.
        order = np.argsort(-best_scores, axis=1, kind="stable")[:, :k]
        best_scores = np.take_along_axis(best_scores, order, 1)
        best_rows = np.take_along_axis(best_rows, order, 1)
    return best_scores, best_rows
