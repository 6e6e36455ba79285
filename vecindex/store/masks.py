"""Which rows of a part a filter keeps: by columns where there are some, else by the records.

Masks are kept with the part and know nothing of removed rows, so they outlive adds and removes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vecindex.arrays import BoolArray, Int64Array
from vecindex.errors import CorruptIndexError
from vecindex.filters import Filter
from vecindex.filters.cache import ArrayCache
from vecindex.forks import new_lock
from vecindex.store.codec import DEAD_RECORD, unpack_record
from vecindex.store.columns import derive_columns, has_arrow, read_columns
from vecindex.store.files import Directory, FileEntry, MappedFile
from vecindex.store.records import RecordsFile

if TYPE_CHECKING:
    from vecindex.filters.masks import Columns

_CHUNK_ROWS = 4096
_FEW = 256  # so few new records are read one by one

Fetch = Callable[[Int64Array], list[bytes]]


def quiet(_: str) -> None:
    """Take a remark and do nothing with it."""


class SegmentMasks:
    """The masks of one segment.

    Parameters
    ----------
    directory : Directory
        Where its files are.
    entry : FileEntry or None
        What the manifest says of its columns, None if it has none.
    records : RecordsFile
        Its records.
    note : callable
        Is told why the columns cannot be used.
    """

    def __init__(
        self,
        directory: Directory,
        entry: FileEntry | None,
        records: RecordsFile,
        note: Callable[[str], object] = quiet,
    ) -> None:
        self._records = records
        self._note = note
        self.file: MappedFile | None = None
        self._problem: str | None = None
        self._columns: Columns | None = None
        self._readable = True
        self._lock = new_lock()
        self._kept: ArrayCache[Filter] = ArrayCache()
        if entry is not None:
            try:
                self.file = MappedFile(directory, entry)
            except OSError as error:  # missing, or another size: it is a cache
                self._problem = f"{entry.name}: {error}"

    def intact(self) -> bool:
        """Return whether the columns file, if there should be one, is as it was written."""
        if self.file is None:
            return self._problem is None
        try:
            self.file.check()
        except CorruptIndexError:
            return False
        return True

    def columns(self) -> Columns | None:
        """Return the segment's columns; None without pyarrow, or if a record cannot be read."""
        with self._lock:
            if self._columns is None and self._readable and has_arrow():
                self._columns = self._load()
            return self._columns

    def _load(self) -> Columns | None:
        if self.file is not None:
            try:
                return read_columns(self.file, self._records.count)
            except CorruptIndexError as error:
                self._problem = str(error)
        if self._problem is not None:
            self._note(f"columns for filters are made anew: {self._problem}")
        try:
            return derive_columns(self._records.scan())
        except CorruptIndexError:  # whoever needs that record will be told
            self._readable = False
            return None

    def keeps(self, where: Filter) -> BoolArray:
        """Return which rows a filter keeps; what it says of removed rows has no meaning."""
        mask = self._kept.get(where)
        if mask is None:
            mask = decide(where, self.columns(), self._records.get, self._records.count)
            self._kept.put(where, mask)
        return mask


class TailMasks:
    """The masks of a growing tail."""

    def __init__(self, records: list[bytes]) -> None:
        self._records = records
        self._columns: Columns | None = None
        self._lock = new_lock()
        self._kept: ArrayCache[Filter] = ArrayCache()

    def columns(self, count: int) -> Columns | None:
        """Return the columns of at least `count` rows; None as for a segment."""
        with self._lock:
            known = 0 if self._columns is None else self._columns.count
            if self._columns is None or known < count:
                if not has_arrow():
                    return None
                try:
                    self._columns = derive_columns(self._records[known:count], self._columns)
                except CorruptIndexError:
                    return None
            return self._columns

    def keeps(self, where: Filter, count: int) -> BoolArray:
        """Return which of the first `count` rows a filter keeps; only new rows are looked at."""
        mask = self._kept.get(where)
        known = 0 if mask is None else len(mask)
        if mask is None or known < count:
            columns = self.columns(count) if count - known >= _FEW else None
            fresh = decide(where, columns, self._get, count, known)
            mask = fresh if mask is None else np.concatenate([mask, fresh])
            self._kept.put(where, mask)
        return mask[:count]

    def _get(self, rows: Int64Array) -> list[bytes]:
        return [self._records[row] for row in rows.tolist()]


def decide(
    where: Filter, columns: Columns | None, fetch: Fetch, stop: int, start: int = 0
) -> BoolArray:
    """Return which of the rows from `start` to `stop` a filter keeps.

    Parameters
    ----------
    where : Filter
        The filter.
    columns : Columns or None
        Columns of at least `stop` rows; None reads all records.
    fetch : callable
        Returns the packed records of rows.
    stop : int
        One behind the last row.
    start : int
        The first row.

    Returns
    -------
    ndarray of bool, shape (stop - start,)
        What it says of removed rows has no meaning.

    Raises
    ------
    CorruptIndexError
        If a record that must be read cannot.
    """
    if columns is None:
        mask = np.zeros(stop - start, dtype=np.bool_)
        unknown = np.arange(stop - start)
    else:
        verdict = columns.evaluate(where)
        mask = verdict.true[start:stop].copy()
        undecided = verdict.unknown
        unknown = np.flatnonzero(() if undecided is None else undecided[start:stop])
    for first in range(0, len(unknown), _CHUNK_ROWS):
        rows = unknown[first : first + _CHUNK_ROWS]
        mask[rows] = [
            packed != DEAD_RECORD and where.matches(unpack_record(packed).metadata)
            for packed in fetch(rows + start)
        ]
    return mask
