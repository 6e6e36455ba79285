"""From metadata to columns: one pass over the records, then column by column; needs pyarrow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from vecindex.arrays import Int64Array
from vecindex.filters.batches import batch_of, flags
from vecindex.filters.layout import SCALARS, Array
from vecindex.results import Metadata

_MOST_SEEN = 4096  # paths that are looked at; keys made of data have no end
_LONG = 1024  # longer str and bytes stay in the record, or the columns would be a second copy
_MANY = 256  # so do longer lists

_NAIVE = dt.datetime(1970, 1, 1)
_AWARE = _NAIVE.replace(tzinfo=dt.timezone.utc)  # noqa: UP017
_DAY, _SECOND = 86_400, 1_000_000

Pieces: TypeAlias = list[tuple[Int64Array, Sequence[Any]]]  # rows, and the values they have


def derive(metadata: Sequence[Metadata | None]) -> Any:
    """Return the columns of some rows' metadata.

    Parameters
    ----------
    metadata : sequence of (dict or None)
        Of each row, made of plain Python values.

    Returns
    -------
    pyarrow.RecordBatch
        As `vecindex.filters.layout` says.
    """
    found, rest = _flatten(metadata)
    paths = {path: _PathColumns(len(metadata), pieces).arrays() for path, pieces in found.items()}
    return batch_of(paths, rest)


def _flatten(metadata: Sequence[Metadata | None]) -> tuple[dict[str, Pieces], Any]:
    """Return rows and values by path, and the rows of which not all paths were looked at."""
    rest = np.zeros(len(metadata), dtype=np.bool_)
    found: dict[str, Pieces] = {}
    rows = [row for row, entry in enumerate(metadata) if entry]
    level: dict[str, tuple[list[int], list[Any]]] = {"": (rows, list(filter(None, metadata)))}
    while level:
        below: dict[str, tuple[list[int], list[Any]]] = {}
        for prefix, (inside, mappings) in level.items():
            for key, own, values in _by_key(np.array(inside, dtype=np.int64), mappings):
                path = prefix + key
                if path not in found and len(found) >= _MOST_SEEN:
                    rest[own] = True
                    continue
                found.setdefault(path, []).append((own, values))
                if dict in set(map(type, values)):
                    inner = _split(own, values, type)[dict]
                    nested = below.setdefault(path + ".", ([], []))
                    nested[0].extend(inner[0].tolist())
                    nested[1].extend(inner[1])
        level = below
    return found, rest


def _by_key(
    rows: Int64Array, mappings: list[dict[str, Any]]
) -> Iterator[tuple[str, Int64Array, Sequence[Any]]]:
    """Yield keys with their rows and values; mappings with the same keys are taken at once."""
    for keys, (own, same) in _split(rows, mappings, tuple).items():
        for key in keys:
            yield key, own, list(map(itemgetter(key), same))


class _PathColumns:
    """The columns of one path."""

    def __init__(self, count: int, pieces: Pieces) -> None:
        self._count = count
        self._pieces = pieces
        self._flags: dict[str, list[Int64Array]] = {}
        self._arrays: dict[str, Array] = {}

    def arrays(self) -> dict[str, Array]:
        """Return the path's columns by kind."""
        rows, values = self._pieces[0]
        if len(self._pieces) > 1:
            rows = np.concatenate([piece[0] for piece in self._pieces])
            values = list(chain.from_iterable(piece[1] for piece in self._pieces))
            rows, values = self._without_twins(rows, values)
        for cls, (own, same) in _split(rows, values, type).items():
            self._add(cls, own, same)
        for kind, marked in self._flags.items():
            self._arrays[kind] = flags(self._count, np.concatenate(marked))
        return self._arrays

    def _without_twins(
        self, rows: Int64Array, values: Sequence[Any]
    ) -> tuple[Int64Array, Sequence[Any]]:
        """Take out rows in which several keys lead to this path, as `"a.b"` and `"a"` may."""
        twins = np.bincount(rows, minlength=self._count)[rows] > 1
        if not twins.any():
            return rows, values
        self._flag("odd", np.unique(rows[twins]))
        single = np.flatnonzero(~twins)
        return rows[single], [values[place] for place in single.tolist()]

    def _add(self, cls: type, rows: Int64Array, values: Sequence[Any]) -> None:
        if cls is dict:
            self._flag("map", rows)
        elif cls is type(None):
            self._flag("none", rows)
        elif cls is list:
            for full, (own, lists) in _split(rows, values, bool).items():
                if full:
                    self._add_lists(own, lists)
                else:
                    self._flag("empty", own)
        elif (kind := _kind_of_all(cls, values)) is not None:
            self._put(kind, rows, _array(kind, values))
        else:
            by_kind = _split(rows, values, lambda value: _kind_of_all(cls, (value,)))
            for one, (own, same) in by_kind.items():
                if one is None:
                    self._flag("odd", own)
                else:
                    self._put(one, own, _array(one, same))

    def _add_lists(self, rows: Int64Array, lists: Sequence[list[Any]]) -> None:
        items = list(chain.from_iterable(lists))
        lengths = list(map(len, lists))
        kind = _kind_of_items(items, max(lengths))
        if kind is not None:
            ends = np.cumsum([0, *lengths])
            array = pa.LargeListArray.from_arrays(pa.array(ends), _array(kind, items))
            self._put(f"list<{kind}>", rows, array)
            return
        by_kind = _split(rows, lists, lambda items: _kind_of_items(items, len(items)))
        for one, (own, same) in by_kind.items():
            if one is None:
                self._flag("odd", own)
            else:
                self._add_lists(own, same)

    def _flag(self, kind: str, rows: Int64Array) -> None:
        self._flags.setdefault(kind, []).append(rows)

    def _put(self, kind: str, rows: Int64Array, array: Array) -> None:
        if len(rows) < self._count or (np.diff(rows) < 0).any():
            places = np.full(self._count, -1, dtype=np.int64)
            places[rows] = np.arange(len(rows))
            array = array.take(pa.array(places, mask=places < 0))
        self._arrays[kind] = array


def _split(
    rows: Int64Array, values: Sequence[Any], of: Callable[[Any], Any]
) -> dict[Any, tuple[Int64Array, Sequence[Any]]]:
    """Return rows and values by what `of` says of a value."""
    classes = list(map(of, values))
    if len(set(classes)) == 1:
        return {classes[0]: (rows, values)}
    places: dict[Any, list[int]] = {}
    for place, found in enumerate(classes):
        places.setdefault(found, []).append(place)
    return {
        found: (rows[chosen], [values[place] for place in chosen])
        for found, chosen in places.items()
    }


def _kind_of_all(cls: type, values: Sequence[Any]) -> str | None:
    """Return the kind of column that can hold all values, which are of one type, if any can."""
    if cls is bool or cls is float:
        return cls.__name__
    if cls is int:
        return "int" if min(values) >= -(2**63) and max(values) < 2**63 else None
    if cls is str or cls is bytes:
        return cls.__name__ if max(map(len, values)) <= _LONG else None
    if cls is dt.datetime:
        naive = {value.utcoffset() is None for value in values}
        return ("naive" if naive.pop() else "aware") if len(naive) == 1 else None
    return None


def _kind_of_items(items: list[Any], longest: int) -> str | None:
    types = set(map(type, items))
    return _kind_of_all(types.pop(), items) if len(types) == 1 and longest <= _MANY else None


def _array(kind: str, values: Sequence[Any]) -> Array:
    if kind in ("naive", "aware"):
        instants = pa.array(np.array(list(microseconds(values)), dtype=np.int64))
        return instants.view(SCALARS[kind])
    return pa.array(values, SCALARS[kind])


def microseconds(values: Iterable[dt.datetime]) -> Iterator[int]:
    """Yield the microseconds since 1970, in UTC if a datetime is aware, exactly."""
    for value in values:
        since = value - (_NAIVE if value.utcoffset() is None else _AWARE)
        yield (since.days * _DAY + since.seconds) * _SECOND + since.microseconds
