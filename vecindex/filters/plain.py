"""Evaluating one record at a time: what every test means, and the oracle of the masks."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Mapping
from typing import Any

MISSING = object()
"""What `lookup` returns where there is no value."""


def lookup(metadata: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or `MISSING`; literal keys with dots go first."""
    if path in metadata:
        return metadata[path]
    cut = path.rfind(".")
    while cut >= 0:
        inner = metadata.get(path[:cut])
        if isinstance(inner, Mapping):
            value = lookup(inner, path[cut + 1 :])
            if value is not MISSING:
                return value
        cut = path.rfind(".", 0, cut)
    return MISSING


def _kind(value: Any) -> int:
    """Return a number that two values share if they may be compared, -1 for neither."""
    exact = _EXACT_KINDS.get(type(value))
    if exact is not None:
        return exact
    return next((i for i, kinds in enumerate(_KINDS) if isinstance(value, kinds)), -1)


def _same_kind(a: Any, b: Any) -> bool:
    return _kind(a) == _kind(b) >= 0


def _equal(a: Any, b: Any) -> bool:
    # Not Python's ==: there True == 1, and a list with a NaN equals itself.
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    return _same_kind(a, b) and bool(a == b)


def _in(value: Any, operand: list[Any]) -> bool:
    values = [value, *value] if isinstance(value, list | tuple) else [value]
    return any(_equal(one, other) for one in values for other in operand)


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, str):
        return isinstance(operand, str) and operand in value
    return isinstance(value, list | tuple) and any(_equal(one, operand) for one in value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, operand: Any) -> bool:
        try:
            return _same_kind(value, operand) and bool(compare(value, operand))
        except TypeError:  # a naive and an aware datetime
            return False

    return test


_KINDS: tuple[tuple[type, ...], ...] = (  # the first that fits: a bool is an int to Python
    (bool,),
    (int, float),
    (str,),
    (bytes,),
    (dt.datetime,),
    (dt.date,),
    (type(None),),
)
_EXACT_KINDS = {cls: i for i, kinds in enumerate(_KINDS) for cls in kinds}
TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$in": _in,
    "$contains": _contains,
}
