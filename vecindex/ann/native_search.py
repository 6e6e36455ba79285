"""Structures that are one FAISS index: search it, write it."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecindex.ann.base import WriteBytes
from vecindex.ann.native import pointer, write_index
from vecindex.ann.threads import in_pieces
from vecindex.arrays import Float32Array, Int64Array


class NativeIndex:
    """A finished FAISS index whose labels are row numbers.

    Parameters
    ----------
    index : faiss.Index
        Not changed any more by anyone.
    keep : tuple
        Whatever the index points into.
    """

    def __init__(self, index: Any, keep: tuple[Any, ...] = ()) -> None:
        self.index, self._keep = index, keep
        self._search = index.search_c
        self.rows: int = index.ntotal

    def search(
        self, queries: Float32Array, slots: int, params: Any, threads: int | None
    ) -> Int64Array:
        """Return the labels of the best `slots` for each query, -1 pads; `params` are FAISS's."""
        rows = np.empty((len(queries), slots), np.int64)
        scores = np.empty((len(queries), slots), np.float32)
        options = () if params is None else (params,)

        def search(part: slice) -> None:
            """Search for some of the queries, on the thread that calls."""
            asked = queries[part]
            self._search(
                len(asked), pointer(asked), slots, pointer(scores[part]), pointer(rows[part]),
                *options,
            )  # fmt: skip

        in_pieces(search, len(queries), threads)
        return rows

    def write(self, write: WriteBytes) -> None:
        """Give the index's bytes to `write`, piece by piece; its errors pass unchanged."""
        write_index(self.index, write)
