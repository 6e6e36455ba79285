"""Vectors without a model: as near to each other as those of a model, in next to no time."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from vecindex.arrays import Float32Array

_NEIGHBOURS = 8
_BLOCK = 256


class StandIn:
    """A function from texts to vectors that lie between near rows of a model's embeddings.

    A text's hash says which: on the way from a row to one of its eight nearest (at 20 to 80 % of
    it), moved aside by up to half of the way to another of these. So a text always has the same
    vector, different texts have different ones, and where the model is dense this is dense.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Embeddings of some texts, as unit rows; at least two.
    """

    def __init__(self, rows: Float32Array) -> None:
        if len(rows) < 2:
            raise ValueError(
                f"a stand-in needs the embeddings of at least 2 texts, not {len(rows)}"
            )
        self._rows = rows
        self._near = _nearest(rows, min(_NEIGHBOURS, len(rows) - 1))

    def __call__(self, texts: Sequence[str]) -> Float32Array:
        """Return the vectors of texts, shape (n, dim)."""
        hashes = (blake2b(text.encode(), digest_size=16).digest() for text in texts)
        return self.between(np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2))

    def between(self, keys: np.ndarray) -> Float32Array:
        """Return the vectors that random bits lead to.

        Parameters
        ----------
        keys : ndarray of uint64, shape (n, 2)
            Uniformly distributed.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Not of unit length.
        """
        rows, (one, other) = self._rows, keys.T
        first = one % np.uint64(len(rows))
        width = np.uint64(self._near.shape[1])
        second = self._near[first, other % width]
        third = self._near[first, (other >> np.uint64(16)) % width]
        start = rows[first]
        points = start + (0.2 + 0.6 * _share(one)) * (rows[second] - start)
        points += (_share(other) - np.float32(0.5)) * (rows[third] - start)
        return points.astype(np.float32, copy=False)


def _share(keys: np.ndarray) -> np.ndarray:
    """Return a column of numbers from 0 to 1 made of the upper 24 bits."""
    return (keys >> np.uint64(40)).astype(np.float32)[:, None] / np.float32(1 << 24)


def _nearest(rows: Float32Array, k: int) -> np.ndarray:
    """Return the k nearest other rows of each row, shape (n, k)."""
    near = np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), _BLOCK):
        products = rows[start : start + _BLOCK] @ rows.T
        own = np.arange(len(products))
        products[own, start + own] = -np.inf
        near[start : start + _BLOCK] = np.argpartition(-products, k - 1, axis=1)[:, :k]
    return near
