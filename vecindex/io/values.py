"""Single values on their way in: numbers into vectors, and what metadata can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import DimensionError, InputError, MetadataError, VectorValueError
from vecindex.results import Id

_INT_MIN, _INT_MAX, _UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1
_EXACT = 2**53  # up to here a float64 holds every integer
_LEAVES = {type(None), bool, float, bytes}
_DEEPEST = 60  # levels of lists and dicts in a metadata value; the store takes few more


class Place(NamedTuple):
    """Where a record comes from; `str(place)` is how messages name it."""

    source: str
    unit: str
    number: int

    def __str__(self) -> str:
        """Return the place in words."""
        return f"{self.source}, {self.unit} {self.number}"


def is_missing(value: Any) -> bool:
    """Return whether a value stands for none: None, NaN, and pandas' own NA and NaT."""
    if value is None:
        return True
    return type(value).__name__ in ("NAType", "NaTType") or (
        isinstance(value, float | np.floating) and math.isnan(value)
    )


def as_text(place: Place, value: Any) -> str | None:
    """Return a text, None for a missing one."""
    if isinstance(value, str):
        return _unicode(place, "the text", value)
    if is_missing(value):
        return None
    raise InputError(f"{place}: the text must be a string, not {brief(value)}")


def as_id(place: Place, value: Any) -> Id:
    """Return an id as a plain str or int.

    Whole floats become integers: that is what tables make of integers where some are missing.
    """
    if isinstance(value, str):
        return _unicode(place, "the id", str.__str__(value))
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if _INT_MIN <= value <= _INT_MAX:
            return int(value)
        raise InputError(f"{place}: the id {value} does not fit into 64 bits")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        if -_EXACT <= float(value) <= _EXACT:
            return int(value)
        raise InputError(f"{place}: the id {value!r} is a float too large to be an exact integer")
    raise InputError(f"{place}: the id must be a string or an integer, not {brief(value)}")


def as_vector(place: Place, value: Any) -> Float32Array:
    """Return a list of numbers, or its JSON text as CSV files hold it, as a float32 row."""
    if isinstance(value, str):
        value = from_json(place, value)
    try:
        row = np.array(value)
    except ValueError:
        row = np.array(None)
    if row.dtype.kind not in "fiu" or row.ndim != 1 or not row.size:
        raise InputError(f"{place}: the vector must be a list of numbers, not {brief(value)}")
    return _usable(place, row, range(len(row)))


def join_numbers(place: Place, names: Sequence[str], record: Mapping[str, Any]) -> Float32Array:
    """Return the vector whose dimensions are columns, their texts read as numbers."""
    try:
        row = np.array([float(record[name]) for name in names])
    except (KeyError, TypeError, ValueError):
        for name in names:
            _number(place, name, record.get(name))
        raise
    return _usable(place, row, names)


def same_dim(place: Place, found: int, dim: int) -> None:
    """Raise `DimensionError` unless a vector has the dimension of those before it."""
    if found != dim:
        raise DimensionError(
            f"{place}: the vector has dimension {found}, those before it have {dim}"
        )


def as_metadata(place: Place, column: str, value: Any) -> Any:
    """Return a value as metadata can hold it: dates as datetimes, NumPy's as Python's.

    Raises
    ------
    InputError
        If it cannot be stored; the message names the place and, within the value, the part.
    """
    return _plain(place, column, value, 0)


def from_json(place: Place, text: str) -> Any:
    """Return what a JSON text holds."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON: {brief(text)} ({error})") from error


def brief(value: Any) -> str:
    """Return a value's start as messages show it."""
    if value is None:
        return "null"
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"
    return text if len(text) <= 60 else text[:57] + "..."


def _usable(place: Place, row: Any, names: Iterable[Any]) -> Float32Array:
    """Return a row of numbers as float32, unless it has no direction."""
    with np.errstate(over="ignore"):  # beyond float32 is infinity
        vector: Float32Array = row.astype(np.float32)
    finite = np.isfinite(vector)
    if not finite.all():
        wrong = int(np.argmin(finite))
        name = list(names)[wrong]
        raise VectorValueError(
            f"{place}: the vector holds {row[wrong].item()!r} in dimension {name}; "
            f"expected numbers that float32 can hold"
        )
    if not vector.any():
        raise VectorValueError(f"{place}: the vector is all zeros and so has no direction")
    return vector


def _number(place: Place, name: str, value: Any) -> None:
    try:
        float(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{place}: column {name!r}, one dimension of the vector, must hold a number, "
            f"not {brief(value)}"
        ) from error


def _unicode(place: Place, what: str, text: str) -> str:
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: {what} is not valid Unicode: {text[:40]!a}") from error
    return text


def _plain(place: Place, where: str, value: Any, depth: int) -> Any:
    if type(value) in _LEAVES:
        return value
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufSU":
        return _plain(place, where, value.tolist(), depth)
    if isinstance(value, str):
        return _unicode(place, f"metadata {where}", value)
    if isinstance(value, int) and not _INT_MIN <= value <= _UINT_MAX:
        raise MetadataError(f"{place}: metadata {where}: {value} does not fit into 64 bits")
    if isinstance(value, bool | bytes | float | int):
        return value
    if isinstance(value, Mapping | list | tuple) and depth < _DEEPEST:
        return _nested(place, where, value, depth)
    return _converted(place, where, value)


def _nested(place: Place, where: str, value: Mapping[Any, Any] | Sequence[Any], depth: int) -> Any:
    if not isinstance(value, Mapping):
        return [_plain(place, f"{where}[{i}]", one, depth + 1) for i, one in enumerate(value)]
    if wrong := [key for key in value if not isinstance(key, str)]:
        raise MetadataError(
            f"{place}: metadata {where}: keys must be strings, not {brief(wrong[0])}"
        )
    return {
        _unicode(place, f"metadata {where}", key): _plain(place, f"{where}.{key}", one, depth + 1)
        for key, one in value.items()
    }


def _converted(place: Place, where: str, value: Any) -> Any:
    if is_missing(value):
        return None
    if hasattr(value, "to_pydatetime"):  # pandas; nanoseconds are lost
        return value.to_pydatetime(warn=False)
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item()
    raise MetadataError(
        f"{place}: metadata {where} cannot be stored: {brief(value)}, of type "
        f"{type(value).__name__}; expected text, numbers, true or false, datetimes, bytes, or "
        f"lists and dicts of these, at most {_DEEPEST} deep"
    )
