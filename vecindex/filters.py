"""The `where` grammar: which records a filter keeps, told record by record.

A filter is a mapping. Several keys mean *and*::

    {"topic": "premiums", "year": {"$gte": 2023, "$lt": 2026}}
    {"$or": [{"lang": {"$in": ["en", "es"]}}, {"$not": {"draft": True}}]}

========== ==================== ============================================================
operator   operand              a record is kept if its value
========== ==================== ============================================================
`$eq`      any value            equals it; `{"a": 1}` is short for `{"a": {"$eq": 1}}`
`$ne`      any value            does not equal it, or is missing; `$neq` is the same
`$gt` ...  number, str, bytes,  is of the same kind and greater; `$gte`, `$lt`, `$lte`
           datetime, date
`$in`      list                 equals one of them; of a list: it or any of its elements does
`$nin`     list                 is not `$in`, or is missing
`$contains` any value           is a list with such an element, or a str with such a substring
`$exists`  bool                 is there (None counts as there), or is not
`$not`     operators            does not pass them, or is missing
========== ==================== ============================================================

`$and` and `$or` take a list of filters, `$not` before a key takes one filter.

- A missing key passes no test but `$ne`, `$neq`, `$nin`, `$not` and `$exists: False`.
- Kinds never mix: `True` is not 1, `"1"` is not 1, None equals only None, a naive datetime is not
  comparable with an aware one. Comparing two kinds is false, never an error. An int and a float
  compare by value. NaN equals nothing, itself included.
- `"a.b"` reaches into nested mappings. A literal key that holds the dot goes first, the longest
  one at each level; lists on the way are not entered.
- `{}` keeps every record.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from vecindex.errors import FilterError
from vecindex.results import Metadata

_MISSING = object()
_MAX_DEPTH = 32  # nesting of a filter and of an operand; keeps recursion far from its limit


@dataclass(frozen=True, eq=False)
class Condition:
    """One test of one key.

    Parameters
    ----------
    path : str
        The key, with dots for nested mappings.
    op : str
        `"$eq"`, `"$gt"`, `"$gte"`, `"$lt"`, `"$lte"`, `"$in"`, `"$contains"` or `"$exists"`;
        the negative operators are `Not` around these.
    operand : object
        Plain Python values, a copy of what was given.
    """

    path: str
    op: str
    operand: Any

    def matches(self, metadata: Metadata) -> bool:
        """Return True if the test holds; a missing key passes only `$exists: False`."""
        value = _lookup(metadata, self.path)
        if self.op == "$exists":
            return (value is not _MISSING) is self.operand
        return value is not _MISSING and _TESTS[self.op](value, self.operand)


@dataclass(frozen=True, eq=False)
class And:
    """All of its parts hold; true without any."""

    parts: tuple[Node, ...]

    def matches(self, metadata: Metadata) -> bool:
        """Return True if all parts hold."""
        return all(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True, eq=False)
class Or:
    """At least one of its parts holds."""

    parts: tuple[Node, ...]

    def matches(self, metadata: Metadata) -> bool:
        """Return True if a part holds."""
        return any(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True, eq=False)
class Not:
    """Its part does not hold."""

    part: Node

    def matches(self, metadata: Metadata) -> bool:
        """Return True if the part does not hold."""
        return not self.part.matches(metadata)


Node: TypeAlias = Condition | And | Or | Not


@dataclass(frozen=True)
class Filter:
    """A checked filter; equal and hashed by `key`.

    Parameters
    ----------
    key : str
        Canonical form: filters with the same key keep the same records.
    root : Condition, And, Or or Not
        What is evaluated.
    """

    key: str
    root: Node = field(compare=False, repr=False)

    def matches(self, metadata: Metadata | None) -> bool:
        """Return True if a record is kept.

        Parameters
        ----------
        metadata : dict or None
            The record's metadata; None is a record without keys.

        Returns
        -------
        bool
            Never an error, whatever the metadata holds.
        """
        return self.root.matches({} if metadata is None else metadata)


def parse(where: Mapping[str, Any] | Filter) -> Filter:
    """Return the filter that a mapping describes, after checking all of it.

    Parameters
    ----------
    where : mapping or Filter
        See the module's text for the grammar. Copied: later changes do not matter.

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
    return Filter(_key(root), root)


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


def _plain_key(key: Any, place: str) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise FilterError(
            f"{place} holds the key {key!r}, but is compared as a whole: its keys must be str "
            'without $. To test a nested key write it with a dot, as in {"a.b": {"$gt": 1}}'
        )
    return str.__str__(key)


def _lookup(metadata: Mapping[str, Any], path: str) -> Any:
    if path in metadata:
        return metadata[path]
    cut = path.rfind(".")
    while cut >= 0:
        inner = metadata.get(path[:cut])
        if isinstance(inner, Mapping):
            value = _lookup(inner, path[cut + 1 :])
            if value is not _MISSING:
                return value
        cut = path.rfind(".", 0, cut)
    return _MISSING


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


def _key(node: Node) -> str:
    if isinstance(node, Condition):
        values = _value_key(node.operand)
        if node.op == "$in":
            values = ",".join(sorted({_value_key(value) for value in node.operand}))
        return f"{node.op}({node.path!r},{values})"
    if isinstance(node, Not):
        return f"not({_key(node.part)})"
    return f"{type(node).__name__.lower()}({','.join(sorted({_key(p) for p in node.parts}))})"


def _value_key(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_value_key, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{k!r}:{_value_key(v)}' for k, v in value.items()))}}}"
    if isinstance(value, dt.date):
        return f"{type(value).__name__}:{value.isoformat()}"
    if type(value) is int:
        return f"int:{value:x}"  # decimal digits are limited
    return repr(value)


_SCALARS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int),
    (float, float),
    (str, str.__str__),  # str() of an enum is its name
    (bytes, bytes),
)
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
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$in": _in,
    "$contains": _contains,
}
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
