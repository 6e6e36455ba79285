"""What every structure does with its candidates: score them from the rows, keep the best."""

from __future__ import annotations

from typing import Protocol

from vecindex.ann.scores import score_rows, top_k
from vecindex.arrays import Float32Array, Int64Array
from vecindex.spec import Params

MOST_KEPT = 128
"""Compiled searches keep so many rows at most: each is put in its place, which takes longer."""


class _Finds(Protocol):
    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidates; see `Structure`."""


class Rescored:
    """A structure whose candidates are found first and scored afterwards."""

    def best(
        self: _Finds,
        matrix: Float32Array,
        queries: Float32Array,
        slots: int,
        k: int,
        params: Params,
        threads: int | None = None,
    ) -> tuple[Float32Array, Int64Array]:
        """Return scores and rows of the k best candidates; see `Structure`."""
        rows = self.find(queries, slots, params, threads)
        return top_k(score_rows(matrix, queries, rows), rows, k)
