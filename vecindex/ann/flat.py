"""Exact search of a matrix of unit rows, ties by row number to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from vecindex.ann import compiled
from vecindex.ann.native import faiss, pointer
from vecindex.ann.scores import MOST_KEPT, merge, score_rows, top_k
from vecindex.ann.threads import in_pieces
from vecindex.arrays import BoolArray, Float32Array, Int64Array

_PAD = 8  # rows fetched beyond k, among which ties at the k-th place are decided
_MANY = 16  # queries from which one matrix product is faster than a scan for each
_THRESHOLD = int(faiss.cvar.distance_compute_blas_threshold)
_LARGE = 2_000_000  # floats in a matrix whose scan, half a millisecond, is worth a thread
_BLOCK = 16_384  # rows gathered at once for a batch; 25 MB at dimension 384
_UNIT_ROUNDOFF = 2.0**-24  # of float32

NO_MASK: BoolArray = np.empty(0, np.bool_)
"""What compiled code takes for: all rows may be returned."""

Found = tuple[Float32Array, Int64Array]
"""Scores and row numbers, both of shape (q, k)."""


class LiveMask:
    """Which rows may be returned: the mask, their number, and FAISS's form of both.

    Parameters
    ----------
    mask : ndarray of bool, shape (n,)
        True for live rows. Not copied: it must not change afterwards.

    Attributes
    ----------
    mask : ndarray of bool, shape (n,)
        As given.
    count : int
        The number of live rows.
    rows : ndarray of int64, shape (count,)
        Their row numbers, rising.

    Notes
    -----
    Made once per state of an index; searches on many threads may share it.
    """

    def __init__(self, mask: BoolArray) -> None:
        self.mask = mask
        self.rows: Int64Array = np.flatnonzero(mask)
        self.count = len(self.rows)
        self._bits = np.packbits(mask, bitorder="little")
        self.selector = faiss.IDSelectorBitmap(self._bits)

    def __len__(self) -> int:
        """Return the number of rows, live or not."""
        return len(self.mask)

    def head(self, rows: int) -> LiveMask:
        """Return the mask of the first `rows` rows; this very object if these are all."""
        return self if rows == len(self.mask) else LiveMask(self.mask[:rows])


def search_flat(
    matrix: Float32Array,
    queries: Float32Array,
    k: int,
    live: LiveMask | None = None,
    threads: int | None = None,
) -> Found:
    """Return the k nearest live rows of each query, exactly.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, dim)
        C-contiguous unit rows, possibly mapped; neither copied nor modified.
    queries : ndarray of float32, shape (q, dim)
        C-contiguous unit rows.
    k : int
        At least 0; may exceed the number of rows.
    live : LiveMask or None
        The rows that may be returned, of length n; None if all may.
    threads : int or None
        None takes one for a single query and all cores for a batch.

    Returns
    -------
    scores : ndarray of float32, shape (q, k')
        Canonical scores (`score_rows`), best first; k' = min(k, live rows).
    rows : ndarray of int64, shape (q, k')
        Row numbers; equal scores stand in the order of the rows, also at the last place.

    Notes
    -----
    A few queries are answered by compiled code, where there is some: as rows are of length 1, most
    can be left after half of their dimensions, by the inequality of Cauchy and Schwarz. It takes
    about three quarters of FAISS's time. Otherwise FAISS fetches some rows more than k, which are
    scored again canonically. Rows that were not fetched can at most score as the last one fetched,
    up to rounding; the few queries whose k-th score is not clearly better than that are searched
    again by scoring every live row.
    """
    alive = len(matrix) if live is None else live.count
    k = min(k, alive)
    if k == 0 or len(queries) == 0:
        return _nothing(len(queries), k)
    if len(queries) >= _MANY and live is not None and 2 * alive < len(matrix):
        return _search_gathered(matrix, queries, k, live.rows, threads)
    if compiled.scores is not None and len(queries) < _MANY and k <= MOST_KEPT:
        return _scan(compiled.scores.nearest, matrix, queries, k, live, threads)
    scores, rows, settled = _fetch(matrix, queries, k, live, threads)
    if not settled.all():
        rest = np.flatnonzero(~settled)
        every = np.arange(len(matrix)) if live is None else live.rows
        scores[rest], rows[rest] = _score_all(matrix, queries[rest], k, every, threads)
    return scores, rows


def search_rows(
    matrix: Float32Array,
    queries: Float32Array,
    k: int,
    rows: Int64Array,
    threads: int | None = None,
) -> Found:
    """Return the k nearest of the given rows for each query, exactly.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, dim)
        C-contiguous unit rows; not modified.
    queries : ndarray of float32, shape (q, dim)
        C-contiguous unit rows.
    k : int
        At least 0; may exceed the number of rows.
    rows : ndarray of int64, shape (c,)
        The row numbers to search, rising, none twice.
    threads : int or None
        None takes one for a single query and all cores for a batch.

    Returns
    -------
    scores : ndarray of float32, shape (q, k')
        Canonical scores, best first; k' = min(k, c).
    rows : ndarray of int64, shape (q, k')
        Row numbers, ties in rising order.

    Notes
    -----
    Costs in proportion to c. A batch gathers the rows block by block to use matrix products.
    """
    k = min(k, len(rows))
    if k == 0 or len(queries) == 0:
        return _nothing(len(queries), k)
    if len(queries) < _MANY:
        return _score_all(matrix, queries, k, rows, threads)
    return _search_gathered(matrix, queries, k, rows, threads)


def _nothing(queries: int, k: int) -> Found:
    return np.empty((queries, k), np.float32), np.empty((queries, k), np.int64)


def _least(floats: int) -> int:
    """Return how many queries a thread should have that scans so many floats for each."""
    return 1 if floats > _LARGE else _MANY


def _scan(
    nearest: Callable[..., None],
    matrix: Float32Array,
    queries: Float32Array,
    k: int,
    live: LiveMask | None,
    threads: int | None,
) -> Found:
    """Return what the compiled scan of all rows finds."""
    scores, rows = _nothing(len(queries), k)
    mask, dim = NO_MASK if live is None else live.mask, matrix.shape[1]
    in_pieces(
        lambda part: nearest(matrix, queries[part], dim, mask, k, scores[part], rows[part]),
        len(queries),
        threads,
        least=_least(matrix.size),
    )
    return scores, rows


def _fetch(
    matrix: Float32Array,
    queries: Float32Array,
    k: int,
    live: LiveMask | None,
    threads: int | None,
) -> tuple[Float32Array, Int64Array, BoolArray]:
    """Return FAISS's answer in canonical scores, and which queries it surely settles."""
    size, dim = matrix.shape
    alive = size if live is None else live.count
    # With a selector FAISS makes no matrix products: a batch rather drops dead rows afterwards.
    drop = live is not None and len(queries) >= _MANY
    most = size if drop else alive
    width = min(math.ceil((k + _PAD) * most / alive), most)
    near, rows = _knn(matrix, queries, width, None if drop else live, threads)
    last = near[:, -1]
    if live is not None and drop:
        rows = np.where(live.mask[rows], rows, -1)
    scores, rows = top_k(score_rows(matrix, queries, rows), rows, k)
    # Two float32 inner products of unit vectors, summed in any order, differ by less than this.
    margin = np.float32(2 * (dim + 1) * _UNIT_ROUNDOFF)
    settled = scores[:, -1] > last + margin if width < most else np.ones(len(scores), np.bool_)
    return scores, rows, settled


def _knn(
    matrix: Float32Array,
    queries: Float32Array,
    k: int,
    live: LiveMask | None,
    threads: int | None,
) -> Found:
    """Return the k nearest rows in FAISS's scores, which depend on how it sums."""
    size, dim = matrix.shape
    scores, rows = _nothing(len(queries), k)
    selector = () if live is None else (live.selector,)

    def search(part: slice) -> None:
        asked = queries[part]
        faiss.knn_inner_product(
            pointer(asked), pointer(matrix), dim, len(asked), size, k,
            pointer(scores[part]), pointer(rows[part]), *selector,
        )  # fmt: skip

    if len(queries) < _MANY:
        in_pieces(search, len(queries), threads, least=_least(matrix.size))
    else:
        with _products_from(_MANY * dim):
            in_pieces(search, len(queries), threads, least=_MANY, pieces_per_thread=1)
    return scores, rows


@contextmanager
def _products_from(floats: int) -> Iterator[None]:
    """Let FAISS multiply matrices if its queries have so many floats, for a `with` block.

    Its own limit of 128,000 makes a batch of 100 queries at dimension 384 five times slower than
    need be. The limit is the process's: a search on another thread may take the other way
    meanwhile, which changes its time and the last bits of scores that are not shown.
    """
    faiss.cvar.distance_compute_blas_threshold = min(floats, _THRESHOLD)
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = _THRESHOLD


def _score_all(
    matrix: Float32Array,
    queries: Float32Array,
    k: int,
    rows: Int64Array,
    threads: int | None,
) -> Found:
    """Score every given row for each query, one query at a time."""
    best_scores, best_rows = _nothing(len(queries), k)
    wanted = np.ascontiguousarray(rows)[None]

    def search(part: slice) -> None:
        for i in range(part.start, part.stop):
            scores = score_rows(matrix, queries[i : i + 1], wanted)
            best_scores[i], best_rows[i] = (best[0] for best in top_k(scores, wanted, k))

    in_pieces(search, len(queries), threads, least=_least(len(rows) * matrix.shape[1]))
    return best_scores, best_rows


def _search_gathered(
    matrix: Float32Array, queries: Float32Array, k: int, rows: Int64Array, threads: int | None
) -> Found:
    """Search copies of the given rows, block by block."""
    best = _nothing(len(queries), 0)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        scores, found = search_flat(matrix[block], queries, k, threads=threads)
        best = merge([best, (scores, block[found])], k)
    return best
