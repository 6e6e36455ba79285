"""Exact neighbours, and the share of them that an answer holds; no library's own word is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vecindex.arrays import BoolArray, Float32Array
from vecindex.bench.truth import best_scores

K = 10
TIE = 1e-6
"""Scores this close count as equal: the rounding of float32 sums of a few hundred products."""


def kth_scores(
    rows: Float32Array, queries: Float32Array, k: int = K, keep: BoolArray | None = None
) -> Float32Array:
    """Return the k-th best inner product of each query, shape (q,).

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    queries : ndarray of float32, shape (q, dim)
        Unit rows, too.
    k : int
        Neighbours.
    keep : ndarray of bool, shape (n,), or None
        Rows that a filter leaves; with fewer than k of them, the last one's score counts.
    """
    count = len(rows) if keep is None else int(keep.sum())
    return best_scores(rows, queries, min(k, count), keep)[:, -1]


def recall(
    ids: Sequence[Sequence[int]],
    rows: Float32Array,
    queries: Float32Array,
    kth: Float32Array,
    keep: BoolArray | None = None,
) -> float:
    """Return the mean share of the k nearest that the answers hold, ties counted.

    A row counts if its inner product, recomputed here in float64, reaches the k-th best one within
    `TIE`, if the filter allows it, and once however often it comes. Too few rows are misses.

    Parameters
    ----------
    ids : sequence of sequences of int
        Row numbers for each query; -1 or a number out of range is no answer.
    rows, queries, kth, keep : ndarray
        As for `kth_scores`, and what it returned.
    """
    matching = len(rows) if keep is None else int(keep.sum())
    wanted = min(K, matching)
    shares = []
    for query, answer, least in zip(queries, ids, kth, strict=False):
        found = np.array(sorted({i for i in answer[:wanted] if 0 <= i < len(rows)}), dtype=np.int64)
        if keep is not None:
            found = found[keep[found]]
        scores = rows[found].astype(np.float64) @ query.astype(np.float64)
        shares.append(np.count_nonzero(scores >= least - TIE) / wanted)
    return float(np.mean(shares))
