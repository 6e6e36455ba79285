"""Parts of an index: immutable segments on disk, and the tail of newer rows in memory.

Both answer the same questions, by row number within the part; `Part` is what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int64Array, MappedRows
from vecindex.filters import Filter
from vecindex.results import Id
from vecindex.store.files import Directory, MappedFile
from vecindex.store.ids import IdColumn, IdTable
from vecindex.store.manifest import SegmentEntry
from vecindex.store.masks import SegmentMasks, TailMasks, quiet
from vecindex.store.records import RecordsFile
from vecindex.store.vectors import VectorsFile

if TYPE_CHECKING:
    from vecindex.filters.masks import Columns

_FIRST_BYTES = 1 << 20  # more would stay taken: allocators keep what they had to clear once
_EMPTY_ENDS = (0xC0, 0x80)  # how msgpack ends a record with None or {} as metadata


class Part(Protocol):
    """Rows with vectors, ids and records, numbered from 0."""

    @property
    def count(self) -> int:
        """Number of rows."""

    @property
    def vectors(self) -> Float32Array:
        """Unit rows, shape (count, dim), read-only."""

    @property
    def all_ints(self) -> bool:
        """Whether every id is an int."""

    def ids(self, rows: Int64Array) -> list[Id]:
        """Return the ids of `rows`."""

    def records(self, rows: Int64Array) -> list[bytes]:
        """Return the packed records of `rows`."""

    def scan_records(self) -> Iterator[bytes]:
        """Yield all packed records in row order."""

    def find(self, ids: Sequence[Id]) -> Int64Array:
        """Return the newest row of each id, -1 where there is none."""

    def column(self) -> IdColumn:
        """Return the ids of all rows."""

    def keeps(self, where: Filter) -> BoolArray:
        """Return which rows a filter keeps, read-only; of removed rows it says nothing."""

    def columns(self) -> Columns | None:
        """Return columns of the first `count` rows' metadata, or of more; None if impossible."""

    def has_metadata(self) -> bool:
        """Return False if it seems that no record holds metadata."""

    def check_rows(self, rows: Int64Array | None = None) -> None:
        """Raise `CorruptIndexError` unless the vectors of `rows`, or all, are as written."""


class Segment:
    """One immutable segment, memory-mapped.

    Parameters
    ----------
    directory : Directory
        Where its files are.
    entry : SegmentEntry
        What the manifest says of them.
    dim : int
        Dimension of the vectors.
    note : callable
        Is told of damage to what can be done without.
    """

    def __init__(
        self,
        directory: Directory,
        entry: SegmentEntry,
        dim: int,
        note: Callable[[str], object] = quiet,
    ) -> None:
        self.entry = entry
        self.count = entry.rows
        self._vectors = VectorsFile(directory, entry.vectors, (entry.rows, dim))
        self._records = RecordsFile(directory, entry.records, entry.rows)
        self._ids = IdTable(directory, entry.ids, entry.rows)
        self._masks = SegmentMasks(directory, entry.columns, self._records, note)
        self.all_ints = self._ids.all_ints
        self.ids = self._ids.ids
        self.find = self._ids.find
        self.column = self._ids.column
        self.check_ids = self._ids.check_sections
        self.records = self._records.get
        self.scan_records = self._records.scan
        self.check_rows = self._vectors.check_rows
        self.keeps = self._masks.keeps
        self.columns = self._masks.columns
        self.columns_intact = self._masks.intact

    @property
    def mapped(self) -> MappedRows:
        """The rows together with the private mapping that they are in."""
        return self._vectors.mapped

    @property
    def vectors(self) -> Float32Array:
        """Unit rows, shape (count, dim), read-only."""
        return self._vectors.rows

    @property
    def files(self) -> list[MappedFile]:
        """The mapped files."""
        columns = [] if self._masks.file is None else [self._masks.file]
        return [self._vectors.file, self._records.file, self._ids.file, *columns]

    def has_metadata(self) -> bool:
        """Return False if it seems that no record holds metadata."""
        return self.entry.columns is not None or _any_metadata(self.scan_records())


class Tail:
    """Rows that are only in the log, kept in memory; grows, and views of it stay valid.

    Parameters
    ----------
    dim : int
        Dimension of the vectors.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.buffer: Float32Array = np.empty((0, dim), dtype=np.float32)
        self.id_list: list[Id] = []
        self.record_list: list[bytes] = []
        self.masks = TailMasks(self.record_list)
        self.rows_of: dict[Id, int | tuple[int, ...]] = {}
        self.all_ints = True

    def append(
        self, count: int, ids: Sequence[Id], records: Sequence[bytes], vectors: Float32Array
    ) -> None:
        """Put rows behind the first `count`; what an interrupted call left there is dropped."""
        needed = count + len(ids)
        if needed > len(self.buffer):
            first = _FIRST_BYTES // (4 * self.dim)
            size = max(needed, 2 * len(self.buffer), first)
            grown = np.empty((size, self.dim), dtype=np.float32)
            grown[:count] = self.buffer[:count]
            self.buffer = grown
        self.buffer[count:needed] = vectors
        del self.id_list[count:], self.record_list[count:]
        self.id_list.extend(ids)
        self.record_list.extend(records)
        self.all_ints = self.all_ints and set(map(type, ids)) <= {int}
        if self.rows_of.keys().isdisjoint(ids):
            self.rows_of.update(zip(ids, range(count, needed), strict=True))
            return
        for row, value in enumerate(ids, count):
            known = self.rows_of.get(value)
            if known is None:
                self.rows_of[value] = row
            else:
                before = known if isinstance(known, tuple) else (known,)
                self.rows_of[value] = (*(r for r in before if r < count), row)


class TailView:
    """The first `count` rows of a tail, which never change.

    Parameters
    ----------
    tail : Tail
        The growing tail.
    count : int
        Rows that belong to this view.
    """

    def __init__(self, tail: Tail, count: int) -> None:
        self.tail = tail
        self.count = count
        self.vectors = tail.buffer[:count]
        self.vectors.flags.writeable = False

    @property
    def all_ints(self) -> bool:
        """Whether every id is an int."""
        return self.tail.all_ints

    def ids(self, rows: Int64Array) -> list[Id]:
        """Return the ids of `rows`."""
        return [self.tail.id_list[row] for row in rows.tolist()]

    def records(self, rows: Int64Array) -> list[bytes]:
        """Return the packed records of `rows`."""
        return [self.tail.record_list[row] for row in rows.tolist()]

    def scan_records(self) -> Iterator[bytes]:
        """Yield all packed records in row order."""
        return iter(self.tail.record_list[: self.count])

    def find(self, ids: Sequence[Id]) -> Int64Array:
        """Return the newest row of each id, -1 where there is none."""
        if not self.count:
            return np.full(len(ids), -1, dtype=np.int64)
        if self.tail.rows_of.keys().isdisjoint(ids):  # nearly always so for an add
            return np.full(len(ids), -1, dtype=np.int64)
        return np.array([self._find(value) for value in ids], dtype=np.int64)

    def _find(self, value: Id) -> int:
        known = self.tail.rows_of.get(value, -1)
        rows = known if isinstance(known, tuple) else (known,)
        for row in reversed(rows):
            # An interrupted append may have left a row number that now belongs to another id.
            if 0 <= row < self.count and self.tail.id_list[row] == value:
                return row
        return -1

    def column(self) -> IdColumn:
        """Return the ids of all rows."""
        return IdColumn.of(self.tail.id_list[: self.count])

    def keeps(self, where: Filter) -> BoolArray:
        """Return which rows a filter keeps, read-only; of removed rows it says nothing."""
        return self.tail.masks.keeps(where, self.count)

    def columns(self) -> Columns | None:
        """Return columns of the first `count` rows' metadata, or of more; None if impossible."""
        return self.tail.masks.columns(self.count)

    def has_metadata(self) -> bool:
        """Return False if it seems that no record holds metadata."""
        return _any_metadata(self.scan_records())

    def check_rows(self, rows: Int64Array | None = None) -> None:
        """Do nothing: what is in memory was checked when it was read."""


def _any_metadata(records: Iterable[bytes]) -> bool:
    # Other metadata may end so, too: then there are no columns until they are needed.
    return any(record[-1] not in _EMPTY_ENDS for record in records)
