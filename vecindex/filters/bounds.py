"""Bounds for comparing a column of numbers exactly, whatever type the other number has."""

from __future__ import annotations

import math

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def int_values(operands: list[int | float]) -> list[int]:
    """Return the operands that a 64-bit int can equal, as int."""
    whole = [int(value) for value in operands if isinstance(value, int) or value.is_integer()]
    return [value for value in whole if _INT_MIN <= value <= _INT_MAX]


def float_values(operands: list[int | float]) -> list[float]:
    """Return the operands that a float can equal, as float."""
    return [_nearest(value) for value in operands if _nearest(value) == value]


def int_bound(op: str, operand: int | float) -> tuple[str, int] | bool:
    """Return a test of 64-bit ints that holds when `op` holds for them and the operand.

    True or False is returned if it holds for all or for none.
    """
    if math.isnan(_nearest(operand)):
        return False
    upwards = op in ("$lt", "$gte")  # below 1.5 are those below 2, at most 1.5 those up to 1
    if isinstance(operand, float) and math.isinf(operand):
        bound = _INT_MAX + 1 if operand > 0 else _INT_MIN - 1
    else:
        bound = math.ceil(operand) if upwards else math.floor(operand)
    if not _INT_MIN <= bound <= _INT_MAX:
        return (bound > 0) is (op in ("$lt", "$lte"))
    return op, bound


def float_bound(op: str, operand: int | float) -> tuple[str, float]:
    """Return a test of floats that holds when `op` holds for them and the operand."""
    bound = _nearest(operand)
    if bound > operand:  # no float is between the two, nor equal to the operand
        op = "$lt" if op in ("$lt", "$lte") else "$gte"
    elif bound < operand:
        op = "$lte" if op in ("$lt", "$lte") else "$gt"
    return op, bound


def _nearest(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
