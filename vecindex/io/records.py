"""What readers yield: batches of texts, vectors, ids and metadata, checked record by record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import InputError
from vecindex.results import Id, Metadata

SPREAD = ".*"
"""Ending of a metadata column whose object's entries become the metadata."""

_KIND_NAMES: dict[type, str] = {int: "an integer", str: "a string"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a source hold what.

    Parameters
    ----------
    text : str or None
        The column of texts.
    id : str or None
        The column of ids; without one the index makes them.
    metadata : tuple of str
        Columns that become metadata entries of the same name. `"meta.*"` takes the object in
        column `meta` (or its JSON text) and makes each of its entries one: what `export` wrote
        is read back with `"metadata.*"`.
    vector : str or None
        The column of vectors, each a list of numbers.
    """

    text: str | None = None
    id: str | None = None
    metadata: tuple[str, ...] = ()
    vector: str | None = None

    @property
    def metadata_sources(self) -> tuple[str, ...]:
        """The columns that metadata is read from."""
        return tuple(name.removesuffix(SPREAD) for name in self.metadata)

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that every record must have."""
        return tuple(name for name in (self.text, self.id, self.vector) if name is not None)


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive records of a source, as keyword lists for `VectorIndex.add`.

    Parameters
    ----------
    texts : list of str or None, or None
        None if no text column was asked for.
    vectors : ndarray of float32, shape (n, dim), or None
        None if no vector column was asked for.
    ids : list of str or int, or None
        None if no id column was asked for.
    metadata : list of dict, or None
        None if no metadata column was asked for.
    first_line : int
        Where the batch begins: the line counted from 1 in text files (the record in `.json`), the
        row counted from 0 in `.parquet` and `.npy`.
    """

    texts: list[str | None] | None
    vectors: Float32Array | None
    ids: list[Id] | None
    metadata: list[Metadata] | None
    first_line: int

    def __len__(self) -> int:
        """Return the number of records."""
        for column in (self.texts, self.vectors, self.ids, self.metadata):
            if column is not None:
                return len(column)
        return 0


class Place(NamedTuple):
    """Where a record comes from; `str(place)` is how messages name it."""

    source: str
    unit: str
    number: int

    def __str__(self) -> str:
        """Return the place in words."""
        return f"{self.source}, {self.unit} {self.number}"


Located = tuple[Place, Mapping[str, Any]]


@dataclass
class Picker:
    """Takes the asked columns out of records, and holds what must stay the same in a source."""

    columns: Columns
    _id_type: type | None = field(default=None, init=False)
    _dim: int | None = field(default=None, init=False)

    def batch(self, located: list[Located]) -> Batch:
        """Return the records as a batch."""
        columns = self.columns
        return Batch(
            texts=[self.text(*one) for one in located] if columns.text else None,
            vectors=np.stack([self.vector(*one) for one in located]) if columns.vector else None,
            ids=[self.id(*one) for one in located] if columns.id else None,
            metadata=[self.metadata(*one) for one in located] if columns.metadata else None,
            first_line=located[0][0].number,
        )

    def text(self, place: Place, record: Mapping[str, Any]) -> str | None:
        """Return the record's text, None for null."""
        value = column_of(place, record, self.columns.text)
        if value is None or isinstance(value, str):
            return value
        raise InputError(f"{place}: the text must be a string, not {_shown(value)}")

    def id(self, place: Place, record: Mapping[str, Any]) -> Id:
        """Return the record's id, of the same type as the ids before it."""
        value: Id = column_of(place, record, self.columns.id)
        kind = type(value)
        if kind not in _KIND_NAMES:
            raise InputError(f"{place}: the id must be a string or an integer, not {_shown(value)}")
        self._id_type = self._id_type or kind
        if kind is not self._id_type:
            raise InputError(
                f"{place}: the id {_shown(value)} is {_KIND_NAMES[kind]}, but the first id is "
                f"{_KIND_NAMES[self._id_type]}; one column holds one type"
            )
        return value

    def vector(self, place: Place, record: Mapping[str, Any]) -> Float32Array:
        """Return the record's vector, as long as the vectors before it."""
        value = column_of(place, record, self.columns.vector)
        row = as_vector(place, value)
        self._dim = self._dim or len(row)
        if len(row) != self._dim:
            raise InputError(
                f"{place}: the vector has dimension {len(row)}, those before it have {self._dim}"
            )
        return row

    def metadata(self, place: Place, record: Mapping[str, Any]) -> Metadata:
        """Return the asked entries that the record has."""
        entries: Metadata = {}
        for name in self.columns.metadata:
            source = name.removesuffix(SPREAD)
            if source == name and name in record:
                entries[name] = record[name]
            elif source != name:
                entries.update(_spread(place, source, record.get(source)))
        return entries


def batches(located: Iterable[Located], columns: Columns, batch_rows: int) -> Iterator[Batch]:
    """Yield the records in batches of `batch_rows`, the last one shorter."""
    picker = Picker(columns)
    stream = iter(located)
    while chunk := list(islice(stream, batch_rows)):
        yield picker.batch(chunk)


def column_of(place: Place, record: Mapping[str, Any], name: str | None) -> Any:
    """Return the value of a column that the record must have."""
    if name is None or name not in record:
        raise no_column(str(place), [name or ""], record)
    return record[name]


def no_column(source: str, missing: Iterable[str], there: Iterable[str]) -> InputError:
    """Return the error for columns that a source does not have, listing what it has."""
    names = [repr(name) for name in missing]
    have = ", ".join(there) or "nothing"
    word = "column" if len(names) == 1 else "columns"
    return InputError(f"{source}: there is no {word} {', '.join(names)}; there is: {have}")


def as_vector(place: Place, value: Any) -> Float32Array:
    """Return a list of numbers, or its JSON text as CSV files hold it, as a float32 row."""
    if isinstance(value, str):
        value = _from_json(place, value)
    try:
        row = np.array(value)
    except ValueError:
        row = np.array(None)
    if not isinstance(value, list) or row.dtype.kind not in "fiu" or row.ndim != 1 or not row.size:
        raise InputError(f"{place}: the vector must be a list of numbers, not {_shown(value)}")
    with np.errstate(over="ignore"):  # beyond float32 is infinity, which the index refuses by row
        return row.astype(np.float32)


def _spread(place: Place, source: str, value: Any) -> Metadata:
    if isinstance(value, str):
        value = _from_json(place, value)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{place}: column {source!r} must hold an object, not {_shown(value)}")
    return value


def _from_json(place: Place, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON: {_shown(text)} ({error})") from error


def _shown(value: Any) -> str:
    """Return a value's start as messages show it."""
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
