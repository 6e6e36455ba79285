"""Evaluating a filter for all rows at once, on columns; needs pyarrow.

The answer has three values: what the columns cannot tell is left to the record. It equals
`Filter.matches` for every row that it decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from vecindex.arrays import BoolArray
from vecindex.filters.batches import bits, split, valid
from vecindex.filters.compare import comparable, equals_any, has_substring, in_order
from vecindex.filters.layout import FLAGS, LISTS, SCALARS, Array
from vecindex.filters.nodes import And, Condition, Filter, Node, Not


@dataclass(frozen=True)
class Verdict:
    """For which rows a filter holds, and for which only the record can tell.

    Parameters
    ----------
    true : ndarray of bool, shape (rows,)
        It holds for sure.
    unknown : ndarray of bool, shape (rows,), or None
        None if all is known. Never true together with `true`.
    """

    true: BoolArray
    unknown: BoolArray | None = None


class Columns:
    """The columns of a part's metadata, which filters are evaluated on.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        As `vecindex.filters.layout` says.
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.count: int = batch.num_rows
        self._paths, rest = split(batch)
        self._rest = None if rest is None else bits(rest)

    def evaluate(self, where: Filter) -> Verdict:
        """Return for which rows a filter holds, as far as the columns can tell."""
        return self._evaluate(where.root)

    def _evaluate(self, node: Node) -> Verdict:
        if isinstance(node, Condition):
            return self._condition(node)
        if isinstance(node, Not):
            return _not(self._evaluate(node.part))
        if not node.parts:
            return Verdict(np.ones(self.count, dtype=np.bool_))
        return reduce(_and if isinstance(node, And) else _or, map(self._evaluate, node.parts))

    def _condition(self, test: Condition) -> Verdict:
        kinds = self._paths.get(test.path)
        if kinds is None:
            nowhere = np.zeros(self.count, dtype=np.bool_)
            if test.op == "$exists" and not test.operand:
                return _not(Verdict(nowhere, self._rest))
            return Verdict(nowhere, self._rest)
        column = _Column(kinds, self.count)
        true, unknown = _TESTS[test.op](column, test.operand)
        if unknown is not None:
            unknown &= ~true
        verdict = Verdict(true, unknown)
        return _not(verdict) if test.op == "$exists" and not test.operand else verdict


def _not(verdict: Verdict) -> Verdict:
    true = ~verdict.true
    if verdict.unknown is not None:
        true &= ~verdict.unknown
    return Verdict(true, verdict.unknown)


def _and(one: Verdict, other: Verdict) -> Verdict:
    true = one.true & other.true
    if one.unknown is None and other.unknown is None:
        return Verdict(true)
    return Verdict(true, _possible(one) & _possible(other) & ~true)


def _or(one: Verdict, other: Verdict) -> Verdict:
    true = one.true | other.true
    if one.unknown is None and other.unknown is None:
        return Verdict(true)
    return Verdict(true, (_possible(one) | _possible(other)) & ~true)


def _possible(verdict: Verdict) -> BoolArray:
    return verdict.true if verdict.unknown is None else verdict.true | verdict.unknown


class _Column:
    """The columns of one path, and what was found out about them."""

    def __init__(self, kinds: dict[str, Array], count: int) -> None:
        self.kinds = kinds
        self.true = np.zeros(count, dtype=np.bool_)
        self._unknown: list[BoolArray] = []
        self.ask_record("odd")
        self.ask_record("maybe")

    def of(self, names: dict[str, Any]) -> Iterator[tuple[str, Array]]:
        """Yield the columns of some kinds."""
        return ((kind, array) for kind, array in self.kinds.items() if kind in names)

    def add(self, array: Array, mask: BoolArray | None) -> None:
        """Put the rows of a mask among those for which the test holds, where there is a value."""
        if mask is not None:
            there = valid(array)
            self.true |= mask if there is None else mask & there

    def add_flag(self, kind: str) -> None:
        """Put the rows with a flag among those for which the test holds."""
        if kind in self.kinds:
            self.true |= bits(self.kinds[kind])

    def ask_record(self, kind: str) -> None:
        """Leave the rows with a flag to the record."""
        if kind in self.kinds:
            self._unknown.append(bits(self.kinds[kind]))

    def found(self) -> tuple[BoolArray, BoolArray | None]:
        """Return for which rows the test holds, and which are unknown."""
        return self.true, np.logical_or.reduce(self._unknown) if self._unknown else None


def _equal(column: _Column, operand: Any) -> tuple[BoolArray, BoolArray | None]:
    return _among(column, [operand])


def _in(column: _Column, operand: list[Any]) -> tuple[BoolArray, BoolArray | None]:
    _contains_any(column, operand)
    return _among(column, operand)


def _among(column: _Column, operands: list[Any]) -> tuple[BoolArray, BoolArray | None]:
    """Test whether a value as a whole equals one of the operands."""
    for kind, array in column.of(SCALARS):
        if values := comparable(kind, operands):
            column.add(array, equals_any(kind, array, values))
    if None in operands:
        column.add_flag("none")
    for value in operands:
        if isinstance(value, list):
            _add_equal_lists(column, value)
    if any(isinstance(value, dict) for value in operands):
        column.ask_record("map")
    return column.found()


def _add_equal_lists(column: _Column, wanted: list[Any]) -> None:
    if not wanted:
        column.add_flag("empty")
        return
    for kind, array in column.of(LISTS):
        offsets = array.offsets.to_numpy()
        rows = np.flatnonzero(np.diff(offsets) == len(wanted))
        for place, item in enumerate(wanted):
            if len(rows):
                same = equals_any(_item(kind), array.values, comparable(_item(kind), [item]))
                rows = rows[same[offsets[rows] + place]]
        mask = np.zeros(len(array), dtype=np.bool_)
        mask[rows] = True
        column.add(array, mask)


def _contains(column: _Column, operand: Any) -> tuple[BoolArray, BoolArray | None]:
    if isinstance(operand, str) and "str" in column.kinds:
        column.add(column.kinds["str"], has_substring(column.kinds["str"], operand))
    _contains_any(column, [operand])
    return column.found()


def _contains_any(column: _Column, operands: list[Any]) -> None:
    for kind, array in column.of(LISTS):
        if values := comparable(_item(kind), operands):
            hits = np.cumsum(equals_any(_item(kind), array.values, values))
            before = np.concatenate([[0], hits])[array.offsets.to_numpy()]
            column.add(array, before[1:] > before[:-1])


def _item(kind: str) -> str:
    """Return the kind of the items of `list<kind>`."""
    return kind[len("list<") : -1]


def _ordered(op: str) -> Callable[[_Column, Any], tuple[BoolArray, BoolArray | None]]:
    def test(column: _Column, operand: Any) -> tuple[BoolArray, BoolArray | None]:
        for kind, array in column.of(SCALARS):
            column.add(array, in_order(kind, array, op, operand))
        return column.found()

    return test


def _exists(column: _Column, _: bool) -> tuple[BoolArray, BoolArray | None]:
    """Test whether there is a value; only where there may be one it takes the record."""
    for kind, array in column.kinds.items():
        if kind not in FLAGS:
            column.add(array, np.ones(len(array), dtype=np.bool_))
        elif kind != "maybe":
            column.add_flag(kind)
    return column.found()


_TESTS: dict[str, Callable[[_Column, Any], tuple[BoolArray, BoolArray | None]]] = {
    "$eq": _equal,
    "$in": _in,
    "$contains": _contains,
    "$exists": _exists,
    **{op: _ordered(op) for op in ("$gt", "$gte", "$lt", "$lte")},
}
