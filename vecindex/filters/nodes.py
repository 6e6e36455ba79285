"""What a filter is made of: conditions, and logic around them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from vecindex.filters.plain import MISSING, TESTS, lookup
from vecindex.results import Metadata


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
        value = lookup(metadata, self.path)
        if self.op == "$exists":
            return (value is not MISSING) is self.operand
        return value is not MISSING and TESTS[self.op](value, self.operand)


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


def canonical_key(node: Node) -> str:
    """Return the text that is the same for filters which say the same."""
    if isinstance(node, Condition):
        values = _value_key(node.operand)
        if node.op == "$in":
            values = ",".join(sorted({_value_key(value) for value in node.operand}))
        return f"{node.op}({node.path!r},{values})"
    if isinstance(node, Not):
        return f"not({canonical_key(node.part)})"
    parts = sorted({canonical_key(part) for part in node.parts})
    return f"{type(node).__name__.lower()}({','.join(parts)})"


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
