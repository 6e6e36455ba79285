"""Reading the grammar: mappings become nodes, after checking all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vecindex.errors import FilterError
from vecindex.filters.nodes import And, Condition, Filter, Node, Not, Or, canonical_key

_MAX_DEPTH = 32  # nesting of a filter and of an operand; keeps recursion far from its limit


def parse(where: Mapping[str, Any] | Filter) -> Filter:
    """Return the filter that a mapping describes, after checking all of it.

    Parameters
    ----------
    where : mapping or Filter
        See `vecindex.filters` for the grammar. Copied: later changes do not matter.

    Returns
    -------
    Filter
        The same object if it already was one.

    Raises
    ------
    FilterError
        If an operator is unknown or an operand cannot be used; the message names its place, as in
        `where["year"]["$gte"]`.

    Examples
    --------
    >>> parse({"year": {"$gte": 2023}}).matches({"year": 2024})
    True
    """
    if isinstance(where, Filter):
        return where
    root = _parse_filter(where, "where", 0)
    return Filter(canonical_key(root), root)


def _parse_filter(where: Any, place: str, depth: int) -> Node:
    if not isinstance(where, Mapping):
        raise FilterError(f"{place} must be a mapping of keys to values, not {where!r}")
    _check_depth(place, depth)
    return _and([_parse_entry(key, value, place, depth) for key, value in where.items()])


def _parse_entry(key: Any, value: Any, place: str, depth: int) -> Node:
    if not isinstance(key, str):
        raise FilterError(f"{place} has the key {key!r}; keys must be str")
    inner = f'{place}["{key}"]'
    if key in ("$and", "$or"):
        parts = _operand_list(value, inner, "filters", empty=False)
        nodes = [_parse_filter(p, f"{inner}[{i}]", depth + 1) for i, p in enumerate(parts)]
        return _and(nodes) if key == "$and" else Or(tuple(nodes))
    if key == "$not":
        return Not(_parse_filter(value, inner, depth + 1))
    if key.startswith("$"):
        hint = f"; {key} belongs below a key of the metadata" if key in _PARSERS else ""
        raise FilterError(f"{inner}: expected a key, or one of $and, $or, $not{hint}")
    return _parse_tests(key, value, inner, depth)


def _parse_tests(path: str, value: Any, place: str, depth: int) -> Node:
    """Return the node for what stands below a key: operators, or a value that it must equal."""
    if not _has_operators(value, place):
        return Condition(path, "$eq", _plain(value, place))
    return _and([_parse_test(path, op, value[op], f'{place}["{op}"]', depth) for op in value])


def _parse_test(path: str, op: str, operand: Any, place: str, depth: int) -> Node:
    if op == "$not":
        _check_depth(place, depth)
        if not _has_operators(operand, place):
            raise FilterError(f'{place} must hold operators, as in {{"$gt": 1}}, not {operand!r}')
        return Not(_parse_tests(path, operand, place, depth + 1))
    if op not in _PARSERS:
        raise FilterError(f"{place}: unknown operator; expected one of {', '.join(_PARSERS)}, $not")
    positive, negated, check = _PARSERS[op]
    condition = Condition(path, positive, check(operand, place))
    return Not(condition) if negated else condition


def _has_operators(value: Any, place: str) -> bool:
    if not isinstance(value, Mapping):
        return False
    marked = [isinstance(key, str) and key.startswith("$") for key in value]
    if any(marked) and not all(marked):
        raise FilterError(f"{place} mixes operators with keys: {list(value)!r}")
    return any(marked)


def _check_depth(place: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise FilterError(f"{place} is nested deeper than {_MAX_DEPTH} levels")


def _and(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _operand_list(operand: Any, place: str, of: str, *, empty: bool) -> list[Any]:
    kinds = (list, tuple, set, frozenset) if empty else (list, tuple)
    if not isinstance(operand, kinds) or not (operand or empty):
        raise FilterError(
            f"{place} must be a {'' if empty else 'non-empty '}list of {of}, not {operand!r}"
        )
    return list(operand)


def _check_list(operand: Any, place: str) -> list[Any]:
    values = _operand_list(operand, place, "values", empty=True)
    return [_plain(value, f"{place}[{i}]") for i, value in enumerate(values)]


def _check_ordered(operand: Any, place: str) -> Any:
    value = _plain(operand, place)
    if not isinstance(value, int | float | str | bytes | dt.date) or isinstance(value, bool):
        raise FilterError(
            f"{place} must be a number, str, bytes, datetime or date, not {operand!r}"
        )
    return value


def _check_bool(operand: Any, place: str) -> bool:
    value = _plain(operand, place)
    if not isinstance(value, bool):
        raise FilterError(f"{place} must be True or False, not {operand!r}")
    return value


def _plain(value: Any, place: str, depth: int = 0) -> Any:
    """Return a copy made of plain Python values, the only ones that metadata can hold."""
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        value = value.item()
    if isinstance(value, dt.datetime):
        return _instant(value, place)
    if value is None or isinstance(value, bool | dt.date):
        return value
    for kind, copy in _SCALARS:
        if isinstance(value, kind):
            return copy(value)
    if isinstance(value, list | tuple | Mapping) and depth < _MAX_DEPTH:
        if not isinstance(value, Mapping):
            return [_plain(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
        return {
            _plain_key(key, place): _plain(item, f'{place}["{key}"]', depth + 1)
            for key, item in value.items()
        }
    deep = f"nested deeper than {_MAX_DEPTH} levels" if depth >= _MAX_DEPTH else repr(value)
    raise FilterError(f"{place} cannot be compared with metadata: {deep}")


def _instant(value: dt.datetime, place: str) -> dt.datetime:
    """Return the same time with a fixed offset: in a repeated hour others equal nothing."""
    try:
        return dt.datetime.fromisoformat(value.isoformat())
    except ValueError as error:  # pandas.NaT
        raise FilterError(f"{place} cannot be compared with metadata: {value!r}") from error


def _plain_key(key: Any, place: str) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise FilterError(
            f"{place} holds the key {key!r}, but is compared as a whole: its keys must be str "
            'without $. To test a nested key write it with a dot, as in {"a.b": {"$gt": 1}}'
        )
    return str.__str__(key)


_SCALARS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int),
    (float, float),
    (str, str.__str__),  # str() of an enum is its name
    (bytes, bytes),
)
_PARSERS: dict[str, tuple[str, bool, Callable[[Any, str], Any]]] = {
    # name: (the test, is it negated, the operand's check)
    "$eq": ("$eq", False, _plain),
    "$ne": ("$eq", True, _plain),
    "$neq": ("$eq", True, _plain),
    **{op: (op, False, _check_ordered) for op in ("$gt", "$gte", "$lt", "$lte")},
    "$in": ("$in", False, _check_list),
    "$nin": ("$in", True, _check_list),
    "$exists": ("$exists", False, _check_bool),
    "$contains": ("$contains", False, _plain),
}
