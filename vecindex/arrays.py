"""Shapes, dtypes and unit rows: what every array goes through on its way in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecindex.errors import DimensionError, VectorValueError

Float32Array: TypeAlias = NDArray[np.float32]
Int32Array: TypeAlias = NDArray[np.int32]
Int64Array: TypeAlias = NDArray[np.int64]
UInt8Array: TypeAlias = NDArray[np.uint8]
BoolArray: TypeAlias = NDArray[np.bool_]

HEADER_BYTES = 64
"""Bytes before the first row of a vectors file: one cache line, so that rows stay aligned."""

_BLOCK = 1024  # rows scaled together: their float64 copy stays in the processor's caches
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

    Notes
    -----
    Scaled in float64 and rounded once, so that a row of more than a few dimensions comes out the
    same to the last bit when it goes in again; times a power of two, any row does.
    """
    if type(vectors) is np.ndarray and vectors.dtype.char == "f" and vectors.shape == (1, dim):
        one = vectors[0].astype(np.float64)  # a single query: every call counts
        length = math.sqrt(np.dot(one, one))  # to the bit what vecdot gives
        if 0 < length < np.inf:
            one /= length
            scaled: Float32Array = one.astype(np.float32)[None]
            return scaled
    array = _as_matrix(vectors, what)
    if dim is not None and array.shape[1] != dim:
        raise DimensionError(
            f"{what} have dimension {array.shape[1]}, but this index has dimension {dim}"
        )
    with np.errstate(over="ignore"):  # infinity is refused below
        rows: Float32Array = np.asarray(array, dtype=np.float32, order="C")
    unit = np.empty_like(rows)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        wide = rows[block].astype(np.float64)
        lengths = np.sqrt(np.vecdot(wide, wide))
        if not (lengths.min() > 0 and lengths.max() < np.inf):  # NaN fails, too
            _refuse(rows, what)
        np.divide(wide, lengths[:, None], out=unit[block], casting="same_kind")
    return unit


def _refuse(rows: Float32Array, what: str) -> NoReturn:
    """Raise the error that names the rows which cannot be scaled."""
    bad: BoolArray = np.logical_not(np.isfinite(rows).all(axis=1))
    if bad.any():
        raise VectorValueError(f"{what} must be finite: NaN or infinity in {positions(bad)}")
    bad = np.logical_not(rows.any(axis=1))
    raise VectorValueError(
        f"{what} must not be all zeros (no direction, so no cosine): {positions(bad)}"
    )


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
