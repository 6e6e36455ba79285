"""What every structure does with its candidates: score them from the rows, keep the best."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from vecindex.ann.flat import NO_MASK, LiveMask
from vecindex.ann.scores import MOST_KEPT, score_rows, top_k
from vecindex.ann.threads import in_pieces
from vecindex.arrays import Float32Array, Int32Array, Int64Array
from vecindex.spec import Params


class Wanted(NamedTuple):
    """What a search asks of a structure.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, dim)
        The rows that the structure covers, and perhaps more.
    queries : ndarray of float32, shape (q, dim)
        C-contiguous unit rows.
    slots : int
        Candidates of each query, at least 1; see `slots_for`.
    k : int
        How many of them are kept, at least 1.
    live : LiveMask or None
        The rows that may be kept; None if all may.
    places : bool
        Whether to tell where the kept ones stood among the candidates, which takes longer.
    """

    matrix: Float32Array
    queries: Float32Array
    slots: int
    k: int
    live: LiveMask | None = None
    places: bool = False

    @property
    def compiled(self) -> bool:
        """Whether compiled searches take it."""
        return 0 < self.k <= MOST_KEPT


class Best(NamedTuple):
    """The best of a structure's candidates.

    Parameters
    ----------
    scores : ndarray of float32, shape (q, k) or narrower
        As `score_rows` gives them, best first; -inf pads.
    rows : ndarray of int64, of that shape
        Their row numbers, none twice, ties in rising order; -1 pads.
    places : ndarray of int32, of that shape, or (q, 0) if they were not wanted
        Where each stood among the candidates, -1 for pads.
    counts : ndarray of int32, shape (q, 2)
        How many candidates there were, and how many of them might be kept.
    """

    scores: Float32Array
    rows: Int64Array
    places: Int32Array
    counts: Int32Array


Score: TypeAlias = Callable[[Float32Array, Int64Array], Float32Array]
"""What `score_rows` does for one matrix."""


class _Finds(Protocol):
    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidates; see `Structure`."""


class Rescored:
    """A structure whose candidates are found first and scored afterwards."""

    def best(self: _Finds, wanted: Wanted, params: Params, threads: int | None = None) -> Best:
        """Return the best of the candidates, by their scores; see `Structure`."""
        candidates = self.find(wanted.queries, wanted.slots, params, threads)
        return best_of(candidates, wanted)


def best_of(candidates: Int64Array, wanted: Wanted, score: Score | None = None) -> Best:
    """Return the best of candidates that were found, shape (q, slots), -1 pads.

    `score` scores them where the rows are not one matrix, that of `wanted`.
    """
    score = score or partial(score_rows, wanted.matrix)
    named = candidates >= 0
    counts = np.repeat(named.sum(axis=1, dtype=np.int32)[:, None], 2, axis=1)
    rows = candidates
    if wanted.live is not None:
        rows = np.where(wanted.live.mask[rows] & named, rows, -1)
        counts[:, 1] = (rows >= 0).sum(axis=1)
    scores, best = top_k(score(wanted.queries, rows), rows, wanted.k)
    places = _places(rows, best) if wanted.places else np.empty((len(best), 0), np.int32)
    return Best(scores, best, places, counts)


def _places(rows: Int64Array, best: Int64Array) -> Int32Array:
    """Return where each of the best stands among the rows, -1 for pads."""
    places = np.full(best.shape, -1, np.int32)
    for mine, where, there in zip(rows, places, best, strict=True):
        order = np.argsort(mine, kind="stable")  # of a row that stands there twice the first counts
        some = there >= 0
        where[some] = order[np.searchsorted(mine, there[some], sorter=order)]
    return places


def compiled_best(search: Callable[..., object], wanted: Wanted, threads: int | None) -> Best:
    """Return what a compiled search finds.

    Parameters
    ----------
    search : callable
        Takes a slice of the queries, then matrix, mask, scores, rows, counts and places to fill.
    wanted : Wanted
        As it says.
    threads : int or None
        None takes one for a single query and all cores for a batch.
    """
    count, k = len(wanted.queries), wanted.k
    scores, rows = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
    counts = np.empty((count, 2), np.int32)
    places = np.empty((count, k if wanted.places else 0), np.int32)
    mask = NO_MASK if wanted.live is None else wanted.live.mask
    if count == 1:  # FAISS, whose threads `in_pieces` sets, has no part in it
        search(slice(0, 1), wanted.matrix, mask, scores, rows, counts, places)
        return Best(scores, rows, places, counts)
    in_pieces(
        lambda part: search(
            part, wanted.matrix, mask, scores[part], rows[part], counts[part], places[part]
        ),
        count,
        threads,
    )
    return Best(scores, rows, places, counts)
