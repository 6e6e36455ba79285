"""What readers yield: batches of texts, vectors, ids and metadata, checked record by record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import InputError
from vecindex.io.columns import SPREAD, STAR, Columns, no_column
from vecindex.io.values import (
    Place,
    as_id,
    as_metadata,
    as_text,
    as_vector,
    brief,
    from_json,
    join_numbers,
    same_dim,
)
from vecindex.results import Id, Metadata

Bad = Callable[[InputError], None]
"""Told of each record that cannot be used; it raises, or returns to leave the record out."""

Located = tuple[Place, Mapping[str, Any]]

_KIND_NAMES: dict[type, str] = {int: "an integer", str: "a string"}


def refuse(error: InputError) -> None:
    """Raise the error: no bad record is left out."""
    raise error


@dataclass
class Skipped:
    """Counts the records that a reader leaves out: give it as `skip_bad`.

    Parameters
    ----------
    keep : int
        How many of the first errors are kept.

    Attributes
    ----------
    count : int
        Records left out so far.
    errors : list of InputError
        Why the first of them were; each names its place.
    """

    keep: int = 10
    count: int = field(default=0, init=False)
    errors: list[InputError] = field(default_factory=list, init=False)

    def __call__(self, error: InputError) -> None:
        """Count one more."""
        self.count += 1
        if len(self.errors) < self.keep:
            self.errors.append(error)


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
    source : str
        How messages call the source.
    unit : str
        What `numbers` count: `"line"` from 1 in text files, `"record"` from 1 in `.json`, `"row"`
        from 0 in everything else.
    numbers : sequence of int, length n
        Where in the source each record begins.
    """

    texts: list[str | None] | None
    vectors: Float32Array | None
    ids: list[Id] | None
    metadata: list[Metadata] | None
    source: str
    unit: str
    numbers: Sequence[int]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.numbers)

    @property
    def first_line(self) -> int:
        """Where in the source the batch begins."""
        return self.numbers[0]

    def place(self, row: int) -> str:
        """Return where a record of the batch comes from, as messages name it."""
        return str(Place(self.source, self.unit, self.numbers[row]))

    def arguments(self) -> dict[str, Any]:
        """Return the columns that there are, as keyword arguments of `add` and `upsert`."""
        columns = {
            "texts": self.texts,
            "vectors": self.vectors,
            "ids": self.ids,
            "metadata": self.metadata,
        }
        return {name: column for name, column in columns.items() if column is not None}


@dataclass
class Picker:
    """Takes the asked columns out of records, and holds what must stay the same in a source."""

    columns: Columns
    bad: Bad = refuse
    dimensions: tuple[str, ...] | None = None  # of a vector over several columns, once known
    _first_id: tuple[Place, Id] | None = field(default=None, init=False)
    _dim: int | None = field(default=None, init=False)

    def batch(self, located: Sequence[Located], vectors: Float32Array | None = None) -> Batch:
        """Return the usable records as a batch; `vectors` are those of all, if checked already."""
        columns, kept, rows = self.columns, [], []
        take_vector = columns.vector is not None and vectors is None
        for position, (place, record) in enumerate(located):
            try:
                rows.append(self._row(place, record, take_vector))
            except InputError as error:
                self.bad(error)
            else:
                kept.append(position)
        if vectors is not None and len(kept) < len(vectors):
            vectors = vectors[kept]
        elif take_vector and rows:
            vectors = np.stack([row[1] for row in rows])
        return Batch(
            texts=[row[0] for row in rows] if columns.text else None,
            vectors=vectors,
            ids=[row[2] for row in rows] if columns.id else None,
            metadata=[row[3] for row in rows] if columns.metadata else None,
            source=located[0][0].source,
            unit=located[0][0].unit,
            numbers=[located[position][0].number for position in kept],
        )

    def takes(self, vectors: Float32Array) -> bool:
        """Return whether all these vectors can be used, without looking for the one that not."""
        dim = self._dim or vectors.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.vecdot(vectors, vectors)
        if vectors.shape[1] != dim or not dim or not (np.isfinite(squares) & (squares > 0)).all():
            return False
        self._dim = dim
        return True

    def _row(self, place: Place, record: Mapping[str, Any], take_vector: bool) -> tuple[Any, ...]:
        columns = self.columns
        text = as_text(place, column_of(place, record, columns.text)) if columns.text else None
        vector = self._vector(place, record) if take_vector else None
        if text is None and columns.text is not None and columns.vector is None:
            raise InputError(f"{place}: the text is missing, and there is no vector")
        record_id = self._id(place, record) if columns.id else 0
        metadata = self._metadata(place, record) if columns.metadata else None
        # Only now: a record that is left out says nothing about those after it.
        self._first_id = self._first_id or (place, record_id)
        self._dim = self._dim if vector is None else len(vector)
        return text, vector, record_id, metadata

    def _id(self, place: Place, record: Mapping[str, Any]) -> Id:
        """Return the record's id, of the same type as the ids before it."""
        value = as_id(place, column_of(place, record, self.columns.id))
        first, first_id = self._first_id or (place, value)
        if type(value) is not type(first_id):
            raise InputError(
                f"{place}: the id {brief(value)} is {_KIND_NAMES[type(value)]}, but the first id, "
                f"{brief(first_id)} in {first.unit} {first.number}, is "
                f"{_KIND_NAMES[type(first_id)]}; one column holds one type"
            )
        return value

    def _vector(self, place: Place, record: Mapping[str, Any]) -> Float32Array:
        """Return the record's vector, as long as the vectors before it."""
        if dimensions := self._dimensions(place, record):
            row = join_numbers(place, dimensions, record)
            more = f"{str(self.columns.vector).removesuffix(STAR)}{len(row)}"
            same_dim(place, len(row) + (more in record), len(row))
        else:
            row = as_vector(place, column_of(place, record, self.columns.vector))
        same_dim(place, len(row), self._dim or len(row))
        return row

    def _dimensions(self, place: Place, record: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the columns of a dimension each; none if one column holds the vectors."""
        if self.dimensions is None:
            names = self.columns.vector_columns(list(record), str(place))
            self.dimensions = () if names == (self.columns.vector,) else names
        return self.dimensions

    def _metadata(self, place: Place, record: Mapping[str, Any]) -> Metadata:
        """Return the asked entries that the record has."""
        entries: Metadata = {}
        for name in self.columns.metadata:
            source = name.removesuffix(SPREAD)
            if name == STAR:
                entries.update((key, record[key]) for key in self._others(place, record))
            elif source != name:
                entries.update(_spread(place, source, record.get(source)))
            elif name in record:
                entries[name] = record[name]
        return {name: as_metadata(place, name, value) for name, value in entries.items()}

    def _others(self, place: Place, record: Mapping[str, Any]) -> Iterator[str]:
        """Yield the columns that are neither text, id, vector nor named metadata."""
        taken = {*self.columns.required, *self.columns.metadata_sources}
        if self.columns.vector is not None:
            taken.update(self._dimensions(place, record))
        return (name for name in record if name not in taken)


def batches(
    located: Iterable[Located], columns: Columns, batch_rows: int, bad: Bad
) -> Iterator[Batch]:
    """Yield the records in batches of `batch_rows`, less those left out, the last one shorter."""
    picker = Picker(columns, bad)
    stream = iter(located)
    while chunk := list(islice(stream, batch_rows)):
        if len(batch := picker.batch(chunk)):
            yield batch


def require_seen(source: str, records: Iterable[Located], columns: Columns) -> None:
    """Check that each metadata column is in some record, reading no further than needed."""
    missing = dict.fromkeys(columns.metadata_sources)
    there: dict[str, None] = {}
    for _, record in records if missing else ():
        there |= dict.fromkeys(record)
        missing = {name: None for name in missing if name not in record}
        if not missing:
            return
    if missing and there:
        raise no_column(source, missing, there)


def column_of(place: Place, record: Mapping[str, Any], name: str | None) -> Any:
    """Return the value of a column that the record must have."""
    if name is None or name not in record:
        raise no_column(str(place), [name or ""], record)
    return record[name]


def _spread(place: Place, source: str, value: Any) -> Metadata:
    if isinstance(value, str):
        value = from_json(place, value)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{place}: column {source!r} must hold an object, not {brief(value)}")
    return value
