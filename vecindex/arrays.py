"""Shapes, dtypes and unit rows: what every array goes through on its way in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecindex.errors import DimensionError, VectorValueError

Float32Array: TypeAlias = NDArray[np.float32]
Int64Array: TypeAlias = NDArray[np.int64]
UInt8Array: TypeAlias = NDArray[np.uint8]
BoolArray: TypeAlias = NDArray[np.bool_]

HEADER_BYTES = 64
"""Bytes before the first row of a vectors file: one cache line, so that rows stay aligned."""

_SAFE_SQUARE = 1e-24  # squared lengths from here to its inverse lose nothing in float32
_ONE = np.float32(1)
_ROUNDING = 4 * np.finfo(np.float32).eps  # more than scaling leaves of a squared length's error
_SHOWN = 10  # positions named in a message; the rest is counted


@dataclass(frozen=True, eq=False)
class MappedRows:
    """Unit rows in a private, copy-on-write mapping of a vectors file.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Read-only view of the rows.
    buffer : ndarray of uint8, shape (HEADER_BYTES + n * dim * 4,)
        The whole file, header first. Writable without changing the file: a structure may put
        a header of its own into the first `HEADER_BYTES` bytes.
    """

    rows: Float32Array
    buffer: UInt8Array


def positions(bad: BoolArray) -> str:
    """Return the positions that are True as text, the first ten by number."""
    where = np.flatnonzero(bad)
    shown = ", ".join(str(i) for i in where[:_SHOWN])
    more = f" and {len(where) - _SHOWN} more" if len(where) > _SHOWN else ""
    return f"{'row' if len(where) == 1 else 'rows'} {shown}{more}"


def unit_rows(vectors: ArrayLike, dim: int | None = None, what: str = "vectors") -> Float32Array:
    """Return the rows scaled to length 1, after checking that they can be.

    Parameters
    ----------
    vectors : array_like of shape (n, dim)
        Any numeric dtype; never modified.
    dim : int or None
        The dimension that the rows must have; None takes what comes.
    what : str
        How messages call the array.

    Returns
    -------
    ndarray of float32, shape (n, dim)
        C-contiguous, a new array, every row of Euclidean length 1.

    Raises
    ------
    DimensionError
        If the array is not two-dimensional, has no columns, or has another dimension than `dim`.
    VectorValueError
        If a row holds NaN or an infinity, or is all zeros: the message names the positions.
    """
    array = _as_matrix(vectors, what)
    if dim is not None and array.shape[1] != dim:
        raise DimensionError(
            f"{what} have dimension {array.shape[1]}, but this index has dimension {dim}"
        )
    if len(array) == 1 and array.dtype == np.float32:  # a single query: every call counts
        one = np.array(array, order="C")
        square = np.dot(one[0], one[0])  # to the bit what vecdot gives
        if _SAFE_SQUARE < square < 1 / _SAFE_SQUARE:
            if abs(square - _ONE) > _ROUNDING:  # a unit row keeps its bits
                one *= _ONE / np.sqrt(square)
            return one
    with np.errstate(over="ignore", invalid="ignore"):  # looked at below
        rows: Float32Array = np.asarray(array, dtype=np.float32, order="C")
        squares = np.vecdot(rows, rows)
    ends = (squares.min(), squares.max()) if len(squares) else ()
    for square in ends:
        if not _SAFE_SQUARE < square < 1 / _SAFE_SQUARE:  # NaN fails, too
            return _scaled(rows, what)
    scales = _ONE / np.sqrt(squares)
    scales[np.abs(squares - _ONE) <= _ROUNDING] = _ONE  # a unit row keeps its bits
    unit: Float32Array = rows * scales[:, None]
    return unit


def _scaled(rows: Float32Array, what: str) -> Float32Array:
    """Return unit rows though a square may over- or underflow in float32, or refuse them."""
    bad: BoolArray = np.logical_not(np.isfinite(rows).all(axis=1))
    if bad.any():
        raise VectorValueError(f"{what} must be finite: NaN or infinity in {positions(bad)}")
    greatest = np.abs(rows).max(axis=1)
    if not greatest.all():
        raise VectorValueError(
            f"{what} must not be all zeros (no direction, so no cosine): {positions(greatest == 0)}"
        )
    wide = rows.astype(np.float64)
    scaled: Float32Array = (wide / np.linalg.norm(wide, axis=1)[:, None]).astype(np.float32)
    return scaled


def _as_matrix(vectors: ArrayLike, what: str) -> NDArray[Any]:
    try:
        array = np.asarray(vectors)
    except ValueError as error:
        raise DimensionError(_ragged(vectors, what)) from error
    if array.dtype.kind not in "fiu":
        raise DimensionError(f"{what} must be numbers, not {array.dtype}")
    if array.ndim != 2:
        raise DimensionError(f"{what} must have shape (n, dim), not {array.shape}")
    if array.shape[1] == 0:
        raise DimensionError(f"{what} must have at least one dimension, not shape {array.shape}")
    return array


def _ragged(vectors: ArrayLike, what: str) -> str:
    """Name the first row whose length differs from the first row's."""
    if isinstance(vectors, Sequence) and not isinstance(vectors, str | bytes):
        lengths = [len(row) if isinstance(row, Sequence | np.ndarray) else 1 for row in vectors]
        for position, length in enumerate(lengths):
            if length != lengths[0]:
                return (
                    f"{what} must have rows of one dimension: row {position} has {length}, "
                    f"row 0 has {lengths[0]}"
                )
    return f"{what} cannot be read as an array of shape (n, dim)"
