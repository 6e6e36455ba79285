"""Records files `rows-<n>.vxr`: msgpack records in small checksummed blocks.

A file is a header of 64 bytes, blocks of 16 records, and a table of block offsets::

    header   4s "VXR\\n", u16 format, u16 records a block, u64 records, zeros,
             u32 CRC-32 of the first 60 bytes
    block    u32 CRC-32 of the rest, u32 bytes of the rest, u32 end offsets of its records within
             the payload (one per record), payload
    table    u64 offsets of the blocks and of the table, then u32 CRC-32 of them
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate, islice, pairwise

import numpy as np

from vecindex.arrays import Int64Array
from vecindex.checksum import crc32
from vecindex.errors import CorruptIndexError
from vecindex.store.files import Directory, FileEntry, MappedFile, write_file
from vecindex.store.frames import ALIGN, FORMAT

_MAGIC = b"VXR\n"
_HEADER = struct.Struct("<4sHHQ")
_BLOCK = struct.Struct("<II")
RECORDS_PER_BLOCK = 16
_BOUNDS = struct.Struct("<QQ")
_FULL = struct.Struct(f"<{RECORDS_PER_BLOCK}I")


def write_records(
    directory: Directory, name: str, records: Iterable[bytes], count: int
) -> FileEntry:
    """Write a records file of `count` packed records and return its entry."""
    fields = _HEADER.pack(_MAGIC, FORMAT, RECORDS_PER_BLOCK, count)
    return write_file(directory, name, fields, _blocks_and_table(records))


def _blocks_and_table(records: Iterable[bytes]) -> Iterator[bytes]:
    offsets = [ALIGN]  # behind the header
    for block in _blocks(records):
        yield block
        offsets.append(offsets[-1] + len(block))
    table = np.array(offsets, dtype="<u8").tobytes()
    yield table + struct.pack("<I", crc32(table))


def _blocks(records: Iterable[bytes]) -> Iterator[bytes]:
    remaining = iter(records)
    while block := list(islice(remaining, RECORDS_PER_BLOCK)):
        yield _block(block)


def _block(records: list[bytes]) -> bytes:
    payload = b"".join(records)
    ends = struct.pack(f"<{len(records)}I", *accumulate(map(len, records)))
    rest = ends + payload
    return _BLOCK.pack(crc32(rest), len(rest)) + rest


class RecordsFile:
    """Random and sequential access to the packed records of one segment.

    Parameters
    ----------
    directory : Directory
        Where the file is.
    entry : FileEntry
        What the manifest says of it.
    count : int
        Records that it must hold.
    """

    def __init__(self, directory: Directory, entry: FileEntry, count: int) -> None:
        self.file = MappedFile(directory, entry)
        self.count = count
        self._blocks = -(-count // RECORDS_PER_BLOCK)
        table_start = self._table_start = entry.size - (self._blocks + 1) * 8 - 4
        if table_start < ALIGN:
            raise self.file.corrupt(0, f"it is too small for {count} records")
        self._data = self.file.data.data  # a memoryview: slices of it cost a tenth of an array's
        self._table = self._data[table_start : entry.size - 4]

    def get(self, rows: Int64Array) -> list[bytes]:
        """Return the packed records of `rows`, in that order."""
        out = []
        ends: tuple[int, ...]
        block, ends, payload = -1, (0,), b""
        for row in rows.tolist():
            if row // RECORDS_PER_BLOCK != block:
                block = row // RECORDS_PER_BLOCK
                ends, payload = self._read(block)
            slot = row % RECORDS_PER_BLOCK
            out.append(payload[ends[slot] : ends[slot + 1]])
        return out

    def scan(self) -> Iterator[bytes]:
        """Yield all packed records in row order."""
        for block in range(self._blocks):
            ends, payload = self._read(block)
            for start, stop in pairwise(ends):
                yield payload[start:stop]

    def _read(self, block: int) -> tuple[tuple[int, ...], bytes]:
        """Return a block's record bounds and payload, checked."""
        # The manifest's checksums, too: a block at another one's place has its own right.
        self.file.check(self._table_start + block * 8, self._table_start + block * 8 + 16)
        start, stop = _BOUNDS.unpack_from(self._table, block * 8)
        if not (start >= ALIGN and start + _BLOCK.size <= stop <= self._table_start):
            raise self.file.corrupt(self._table_start + block * 8, "bad block table")
        self.file.check(start, stop)
        return self._unpack(block, start, stop)

    def salvage(self, *, alone: bool) -> Iterator[list[bytes] | None]:
        """Yield the records of each block that is whole, None for any other.

        `alone` asks only a block's own checksum, which holds at another one's place, too: compare
        the ids of its records. Otherwise what is around it must be as written.
        """
        end = ALIGN  # of the block before, where the next one begins if the table is damaged
        for block in range(self._blocks):
            found = None
            listed = _BOUNDS.unpack_from(self._table, block * 8)
            for start, stop in (listed, self._bounds_at(end)) if alone else (listed,):
                if not (start >= ALIGN and start + _BLOCK.size <= stop <= self._table_start):
                    continue
                end = stop
                with suppress(CorruptIndexError):
                    ends, payload = self._unpack(block, start, stop) if alone else self._read(block)
                    found = [payload[first:last] for first, last in pairwise(ends)]
                    break
            yield found

    def _bounds_at(self, start: int) -> tuple[int, int]:
        """Return where a block that begins at `start` says that it ends."""
        if start + _BLOCK.size > self._table_start:
            return 0, 0
        return start, start + _BLOCK.size + int(_BLOCK.unpack_from(self._data, start)[1])

    def _unpack(self, block: int, start: int, stop: int) -> tuple[tuple[int, ...], bytes]:
        crc, size = _BLOCK.unpack_from(self._data, start)
        rest = self._data[start + _BLOCK.size : stop].tobytes()
        count = min(RECORDS_PER_BLOCK, self.count - block * RECORDS_PER_BLOCK)
        if size != len(rest) or size < 4 * count or crc32(rest) != crc:
            raise self.file.corrupt(start, f"checksum mismatch in the block of records {block}")
        ends = _FULL if count == RECORDS_PER_BLOCK else struct.Struct(f"<{count}I")
        return (0, *ends.unpack_from(rest)), rest[count * 4 :]
