"""Tests of whole columns: which values equal an operand, or come before it; needs pyarrow.

What is returned for a null is of no meaning.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vecindex.arrays import BoolArray
from vecindex.filters.batches import bits
from vecindex.filters.bounds import float_bound, float_values, int_bound, int_values
from vecindex.filters.derive import microseconds
from vecindex.filters.layout import SCALARS, Array

_FEW = 8  # so many comparisons cost less than a table of the values
_BINARY = {"str": str, "bytes": bytes}
_ORDER: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "$gt": (operator.gt, "greater"),
    "$gte": (operator.ge, "greater_equal"),
    "$lt": (operator.lt, "less"),
    "$lte": (operator.le, "less_equal"),
}


def comparable(kind: str, operands: Sequence[Any]) -> list[Any]:
    """Return the operands that a value of a kind can equal, as the column holds them."""
    if kind == "bool":
        return [value for value in operands if isinstance(value, bool)]
    if kind in ("int", "float"):
        found = [value for value in operands if _is_number(value)]
        return int_values(found) if kind == "int" else float_values(found)
    if kind in _BINARY:
        return [v for v in operands if isinstance(v, _BINARY[kind]) and _is_storable(v)]
    instants = [value for value in operands if isinstance(value, dt.datetime)]
    naive = kind == "naive"
    return list(microseconds(v for v in instants if (v.utcoffset() is None) is naive))


def equals_any(kind: str, array: Array, values: list[Any]) -> BoolArray:
    """Return which values of a column equal one of several that `comparable` returned."""
    if not values:
        return np.zeros(len(array), dtype=np.bool_)
    if kind in _BINARY:
        if len(values) == 1:
            return bits(pc.equal(array, pa.scalar(values[0], SCALARS[kind])))
        return bits(pc.is_in(array, value_set=pa.array(values, SCALARS[kind])))
    column = bits(array) if kind == "bool" else _numbers(array)
    if len(values) > _FEW:
        return np.isin(column, np.array(values, dtype=column.dtype))
    found: BoolArray = np.logical_or.reduce([column == value for value in values])
    return found


def in_order(kind: str, array: Array, op: str, operand: Any) -> BoolArray | None:
    """Return which values of a column are on the operand's right side; None if kinds differ."""
    compare, name = _ORDER[op]
    if kind in ("int", "float") and _is_number(operand):
        test = int_bound(op, operand) if kind == "int" else float_bound(op, operand)
        if isinstance(test, bool):
            return np.full(len(array), test)
        compare, values = _ORDER[test[0]][0], [test[1]]
    elif kind == "str" and isinstance(operand, str) and not _is_storable(operand):
        # Half a surrogate pair has a place in the order of code points, which is that of bytes.
        return in_order("bytes", array.cast(SCALARS["bytes"]), op, operand.encode(*_LENIENT))
    else:
        values = comparable(kind, [operand])
    if not values:
        return None
    if kind in _BINARY:  # by bytes of UTF-8, which is by code points
        return bits(pc.call_function(name, [array, pa.scalar(values[0], SCALARS[kind])]))
    found: BoolArray = compare(_numbers(array), values[0])
    return found


def has_substring(array: Array, text: str) -> BoolArray:
    """Return which values of a column of str have `text` in them."""
    if not _is_storable(text):
        return np.zeros(len(array), dtype=np.bool_)
    return bits(pc.match_substring(array, text))


_LENIENT = ("utf-8", "surrogatepass")


def _is_storable(value: str | bytes) -> bool:
    """Return whether a text can be UTF-8: one with half a surrogate pair equals no stored text."""
    try:
        return isinstance(value, bytes) or value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(array: Array) -> NDArray[Any]:
    dtype = np.float64 if array.type == SCALARS["float"] else np.int64
    whole = np.frombuffer(array.buffers()[1], dtype=dtype)
    return whole[array.offset : array.offset + len(array)]
