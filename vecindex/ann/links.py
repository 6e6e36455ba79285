"""The lists of links of a graph, to be read and written where FAISS keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecindex.ann.native import faiss, view_of
from vecindex.arrays import Int32Array, Int64Array


class Links:
    """The links of a graph.

    Parameters
    ----------
    graph : faiss.IndexHNSW
        Kept alive by the caller.

    Attributes
    ----------
    flat : ndarray of int32
        A writable view of all lists one after the other, level after level for each row; -1 pads
        the end of each.
    width : int
        Links that a row has on the lowest level at most.
    """

    def __init__(self, graph: Any) -> None:
        hnsw = graph.hnsw
        self.flat: Int32Array = view_of(hnsw.neighbors, np.int32)
        self._starts = faiss.vector_to_array(hnsw.offsets).astype(np.int64)
        self._levels = faiss.vector_to_array(hnsw.cum_nneighbor_per_level).astype(np.int64)
        self.width = int(self._levels[1])

    def of(self, row: int, level: int = 0) -> Int32Array:
        """Return a row's list on a level, a view."""
        begin, end = self._starts[row] + self._levels[level : level + 2]
        return self.flat[begin:end]

    def lowest(self, rows: Int64Array) -> Int32Array:
        """Return a copy of the rows' lists on the lowest level, shape (len(rows), width)."""
        lists: Int32Array = self.flat[self._starts[rows, None] + np.arange(self.width)]
        return lists

    def place(self, slot: int) -> tuple[int, int]:
        """Return the row and the level of the list in which a place of `flat` is."""
        row = int(np.searchsorted(self._starts, slot, side="right")) - 1
        level = int(np.searchsorted(self._levels, slot - self._starts[row], side="right")) - 1
        return row, level
