"""Id tables `ids-<n>.vxi`: row to id and id to row, both memory-mapped, nothing read at open.

A header of 64 bytes, then sections, each padded with zeros to 64 bytes::

    header   4s "VXI\\n", u16 format, u16 kind, u64 rows n, u64 live rows m, u64 key bytes,
             zeros, u32 CRC-32 of the first 60 bytes
    kind 0 (every id is an int)
             i64[n] ids by row; i64[m] ids of live rows, sorted; u32[m] their rows
    kind 1   u64[n+1] bounds of the keys; the keys (msgpack) by row;
             u32[m] hashes of live rows' keys, sorted; u32[m] their rows

A key's hash is its CRC-32. At a million rows every ten-thousandth lookup meets another key of the
same hash; keys are compared, so that costs a comparison.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecindex.arrays import BoolArray, Int64Array, UInt8Array
from vecindex.checksum import crc32
from vecindex.forks import lazily
from vecindex.results import Id
from vecindex.store.codec import pack_ids, unpack_ids, unpack_joined_ids
from vecindex.store.files import Directory, FileEntry, MappedFile, write_file
from vecindex.store.frames import ALIGN, FORMAT

_MAGIC = b"VXI\n"
_HEADER = struct.Struct("<4sHHQQQ")
_INTS, _KEYS = 0, 1
_CHUNK = 4096
_FEW = 64  # rows that are looked up faster one by one than by numpy

UInt32Array = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class IdColumn:
    """The ids of some rows in row order: as ints, or as keys with their hashes.

    Parameters
    ----------
    ints : ndarray of int64, shape (n,), or None
        The ids when all are ints.
    keys : list of bytes
        The packed ids otherwise.
    hashes : ndarray of uint64, shape (n,)
        Hashes of the keys; of no meaning for rows that are not live.
    """

    ints: Int64Array | None
    keys: list[bytes]
    hashes: UInt32Array

    @classmethod
    def of(cls, ids: Sequence[Id]) -> IdColumn:
        """Return the column of the given ids."""
        if all(type(value) is int for value in ids):
            return cls(np.array(ids, dtype=np.int64), [], np.empty(0, dtype=np.uint32))
        keys = pack_ids(ids)
        return cls(None, keys, hash_keys(keys))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.keys) if self.ints is None else len(self.ints)

    def as_keys(self) -> IdColumn:
        """Return the same ids as keys."""
        return self if self.ints is None else _keyed(self.ints.tolist())

    def take(self, keep: BoolArray) -> IdColumn:
        """Return the column of the rows where `keep` is True."""
        if self.ints is not None:
            return IdColumn(self.ints[keep], [], self.hashes)
        keys = [key for key, kept in zip(self.keys, keep.tolist(), strict=True) if kept]
        return IdColumn(None, keys, self.hashes[keep])

    @classmethod
    def concatenate(cls, columns: Sequence[IdColumn]) -> IdColumn:
        """Return one column of all rows."""
        columns = [column for column in columns if len(column)]
        if all(column.ints is not None for column in columns):
            ints = [column.ints for column in columns if column.ints is not None]
            empty = np.empty(0, dtype=np.int64)
            return cls(np.concatenate([empty, *ints]), [], np.empty(0, dtype=np.uint32))
        columns = [column.as_keys() for column in columns]
        keys = [key for column in columns for key in column.keys]
        if not any(_is_str(key) for key in keys):  # the last str is gone
            return cls.of(unpack_ids(keys))
        return cls(None, keys, np.concatenate([column.hashes for column in columns]))


def _is_str(key: bytes) -> bool:
    # msgpack: 0xa0 to 0xbf and 0xd9 to 0xdb begin a str.
    return 0xA0 <= key[0] <= 0xBF or 0xD9 <= key[0] <= 0xDB


def _keyed(ids: Sequence[Id]) -> IdColumn:
    keys = pack_ids(ids)
    return IdColumn(None, keys, hash_keys(keys))


def hash_keys(keys: Sequence[bytes]) -> UInt32Array:
    """Return the hashes of packed ids."""
    return _each(crc32, keys, np.uint32)


def _each(function: Callable[[bytes], int], keys: Sequence[bytes], dtype: Any) -> NDArray[Any]:
    """Return what a function says of each key, without holding the interpreter for all at once."""
    found = np.empty(len(keys), dtype=dtype)
    for start in range(0, len(keys), _CHUNK):
        some = keys[start : start + _CHUNK]
        found[start : start + _CHUNK] = np.fromiter(map(function, some), dtype, len(some))
    return found


class Wanted(list[Id]):
    """Ids to be looked up; their keys and hashes are made once, and only if a table needs them."""

    @lazily
    def keys(self) -> list[bytes]:
        """The packed ids."""
        return pack_ids(self)

    @lazily
    def hashes(self) -> UInt32Array:
        """The hashes of the keys."""
        return hash_keys(self.keys)

    @lazily
    def order(self) -> Int64Array:
        """The order that sorts the hashes."""
        return np.argsort(self.hashes)


def write_ids(directory: Directory, name: str, column: IdColumn, live: BoolArray) -> FileEntry:
    """Write the id table of a segment, whose removed rows can be found by nobody."""
    rows = np.flatnonzero(live).astype("<u4")
    if column.ints is not None:
        values: NDArray[Any] = column.ints[rows]
        forward: list[NDArray[Any]] = [column.ints.astype("<i8")]
        key_bytes = 0
    else:
        values = column.hashes[rows]
        blob = np.frombuffer(b"".join(column.keys), dtype=np.uint8)
        bounds = np.zeros(len(column) + 1, dtype="<u8")
        np.cumsum(_each(len, column.keys, np.uint64), out=bounds[1:])
        forward = [bounds, blob]
        key_bytes = len(blob)
    order = np.argsort(values, kind="stable")
    kind = _KEYS if column.ints is None else _INTS
    fields = _HEADER.pack(_MAGIC, FORMAT, kind, len(column), len(rows), key_bytes)
    sections = [*forward, values[order], rows[order]]
    padded = (section.tobytes() + bytes(-section.nbytes % ALIGN) for section in sections)
    return write_file(directory, name, fields, padded)


class IdTable:
    """The memory-mapped id table of one segment.

    Parameters
    ----------
    directory : Directory
        Where the file is.
    entry : FileEntry
        What the manifest says of it.
    count : int
        Rows that it must have.
    """

    def __init__(self, directory: Directory, entry: FileEntry, count: int) -> None:
        self.file = MappedFile(directory, entry)
        self.count = count
        self.file.check(0, ALIGN)
        if entry.size < ALIGN:
            raise self.file.corrupt(0, "it is too small for an id table")
        magic, _, kind, rows, live, key_bytes = _HEADER.unpack_from(
            self.file.data[:ALIGN].tobytes()
        )
        if magic != _MAGIC or rows != count or kind not in (_INTS, _KEYS):
            raise self.file.corrupt(0, "this is not the id table of its segment")
        self.all_ints = kind == _INTS
        self._end = ALIGN
        if self.all_ints:
            self._ints = self._section("<i8", rows)
        else:
            self._bounds = self._section("<u8", rows + 1)
            self._keys: UInt8Array = self._section("u1", key_bytes)
        self._sorted = self._section("<i8" if self.all_ints else "<u4", live)
        self._rows = self._section("<u4", live)

    def _section(self, dtype: str, count: int) -> NDArray[Any]:
        size = np.dtype(dtype).itemsize * count
        if self._end + size > self.file.entry.size:
            raise self.file.corrupt(0, "its sections do not fit")
        section = self.file.data[self._end : self._end + size].view(dtype)
        self._end += size + (-size % ALIGN)
        return section

    def check_sections(self) -> None:
        """Raise `CorruptIndexError` unless the sections agree: without it, `find` believes them."""
        self.file.check()
        rows, found = self._rows, self._sorted
        ok = len(rows) <= self.count and not (rows >= self.count).any()
        if self.all_ints:
            ok = ok and bool((found[1:] > found[:-1]).all() and (self._ints[rows] == found).all())
        else:
            bounds = self._bounds
            ok = ok and bool(bounds[0] == 0 and bounds[-1] == len(self._keys))
            ok = ok and bool((bounds[1:] > bounds[:-1]).all() and (found[1:] >= found[:-1]).all())
            ok = ok and len(np.unique(rows)) == len(rows)
            ok = ok and bool((hash_keys(self.column().keys)[rows] == found).all())
        if not ok:
            raise self.file.corrupt(ALIGN, "its sections contradict each other")

    def ids(self, rows: Int64Array) -> list[Id]:
        """Return the ids of `rows`, in that order."""
        self.file.check()
        if self.all_ints:
            ints: list[Id] = self._ints[rows].tolist()
            return ints
        if len(rows) <= _FEW:
            keys, bounds, few = self._keys.data, self._bounds.data, rows.tolist()
            return unpack_ids([keys[bounds[row] : bounds[row + 1]] for row in few])
        found: list[Id] = []
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            found += unpack_joined_ids(self._joined_keys(some), len(some))
        return found

    def _joined_keys(self, rows: Int64Array) -> bytes:
        """Return the keys of `rows` one after another, without a slice for each."""
        starts = self._bounds[rows].astype(np.int64)
        lengths = self._bounds[rows + 1].astype(np.int64) - starts
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
        keys: bytes = self._keys[places].tobytes()
        return keys

    def ints(self, rows: Int64Array) -> Int64Array:
        """Return the ids of `rows` when all ids of this table are ints."""
        self.file.check()
        return self._ints[rows]

    def live(self) -> BoolArray:
        """Return which rows can be found, shape (rows,)."""
        self.file.check()
        marks = np.zeros(self.count, dtype=np.bool_)
        marks[self._rows] = True
        return marks

    def column(self) -> IdColumn:
        """Return the ids of all rows."""
        self.file.check()
        if self.all_ints:
            return IdColumn(np.array(self._ints), [], np.empty(0, dtype=np.uint32))
        keys, bounds = self._keys.tobytes(), self._bounds.tolist()
        hashes = np.zeros(self.count, dtype=np.uint32)
        hashes[self._rows] = self._sorted
        pairs = pairwise(bounds)
        return IdColumn(None, [keys[start:stop] for start, stop in pairs], hashes)

    def find(self, ids: Sequence[Id]) -> Int64Array:
        """Return the row of each id, -1 where this table has none."""
        self.file.check()
        if not len(self._sorted):
            return np.full(len(ids), -1, dtype=np.int64)
        if self.all_ints:
            return self._find_ints(ids)
        return self._find_keys(ids if isinstance(ids, Wanted) else Wanted(ids))

    def _find_ints(self, ids: Sequence[Id]) -> Int64Array:
        found = np.full(len(ids), -1, dtype=np.int64)
        places = [place for place, value in enumerate(ids) if isinstance(value, int)]
        wanted = np.array([ids[place] for place in places], dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        rows = np.where(self._sorted[at] == wanted, self._rows[at].astype(np.int64), -1)
        found[places] = rows
        return found

    def _find_keys(self, wanted: Wanted) -> Int64Array:
        keys, hashes, order = wanted.keys, wanted.hashes, wanted.order
        at = np.empty(len(keys), dtype=np.int64)
        at[order] = np.searchsorted(self._sorted, hashes[order])  # in order: near each other
        found = np.full(len(keys), -1, dtype=np.int64)
        inside = np.minimum(at, len(self._sorted) - 1)
        for place in np.flatnonzero(self._sorted[inside] == hashes).tolist():
            found[place] = self._match(int(at[place]), hashes[place], keys[place])
        return found

    def _match(self, at: int, key_hash: np.uint32, key: bytes) -> int:
        """Return the row whose key is `key` among those of equal hash, -1 if none."""
        while at < len(self._sorted) and self._sorted[at] == key_hash:
            row = int(self._rows[at])
            if self._keys[int(self._bounds[row]) : int(self._bounds[row + 1])].tobytes() == key:
                return row
            at += 1
        return -1
