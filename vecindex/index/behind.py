"""Parts that the structure does not cover, searched as if they were one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vecindex.ann import (
    Best,
    LiveMask,
    Scan,
    Wanted,
    best_of,
    merge,
    score_rows,
    search_flat,
)
from vecindex.arrays import Float32Array, Int64Array
from vecindex.forks import lazily
from vecindex.store.segment import Part


class Behind:
    """Some parts in order; rows are numbered from 0 at the first part's first row.

    Parameters
    ----------
    parts : sequence of Part
        None of them empty.
    lives : sequence of (LiveMask or None)
        Their rows that may be returned; None if all may.
    """

    def __init__(self, parts: Sequence[Part], lives: Sequence[LiveMask | None]) -> None:
        self.parts, self._lives = parts, lives
        counts = [part.count for part in parts]
        self._starts = np.cumsum([0, *counts])
        self.count = sum(counts)
        """Number of rows."""

    @lazily
    def live(self) -> LiveMask | None:
        """Rows that may be returned; None if all may."""
        if len(self.parts) == 1 or all(live is None for live in self._lives):
            return self._lives[0]
        masks = [
            np.ones(part.count, np.bool_) if live is None else live.mask
            for part, live in zip(self.parts, self._lives, strict=True)
        ]
        return LiveMask(np.concatenate(masks))

    def score(self, queries: Float32Array, rows: Int64Array) -> Float32Array:
        """Return what `score_rows` returns for a matrix of all rows."""
        if len(self.parts) == 1:
            return score_rows(self.parts[0].vectors, queries, rows)
        scores = np.full(rows.shape, -np.inf, np.float32)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number, part in enumerate(self.parts):
            mine = numbers == number
            if mine.any():
                inside = np.where(mine, rows - self._starts[number], -1)
                np.maximum(scores, score_rows(part.vectors, queries, inside), out=scores)
        return scores

    def best(
        self, scan: Scan, queries: Float32Array, slots: int, k: int, live: LiveMask | None
    ) -> Best:
        """Return the best of a scan's candidates; `live` is that of the rows that it covers."""
        wanted = Wanted(self.parts[0].vectors, queries, slots, k, live, places=True)
        if len(self.parts) == 1:
            return scan.best(wanted)
        return best_of(scan.find(queries, slots), wanted, self.score)

    def check_rows(self, rows: Int64Array) -> None:
        """Raise `CorruptIndexError` unless the vectors of these rows are as written; -1 pads."""
        for start, part in zip(self._starts.tolist(), self.parts, strict=False):
            part.check_rows(rows[(rows >= start) & (rows < start + part.count)] - start)

    def exact(
        self, queries: Float32Array, k: int, first: int = 0, stop: int | None = None
    ) -> tuple[Float32Array, Int64Array]:
        """Return scores and rows of the k nearest of the rows [first, stop)."""
        found = []
        stop = self.count if stop is None else stop
        for start, part, live in zip(self._starts.tolist(), self.parts, self._lives, strict=False):
            begin, end = max(first - start, 0), min(stop - start, part.count)
            if begin >= end:
                continue
            whole = end - begin == part.count
            part.check_rows(None if whole else np.arange(begin, end))
            some = live if whole or live is None else LiveMask(live.mask[begin:end])
            scores, rows = search_flat(part.vectors[begin:end], queries, k, some)
            found.append((scores, rows + (start + begin)))
        return merge(found, k)
