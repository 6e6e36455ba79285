"""Vectors files `vectors-<n>.f32`: a header of 64 bytes, then unit rows, little-endian float32.

`np.memmap(path, "<f4", offset=64).reshape(-1, dim)` reads one without vecindex. The header is
4s "VXV\\n", u16 format, u16 0, u64 rows, u32 dimension, zeros, u32 CRC-32 of the first 60 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from vecindex.arrays import HEADER_BYTES, Float32Array, Int64Array, MappedRows
from vecindex.store.files import Directory, FileEntry, MappedFile, write_file
from vecindex.store.frames import FORMAT

_MAGIC = b"VXV\n"
_HEADER = struct.Struct("<4sHHQI")


def write_vectors(
    directory: Directory, name: str, chunks: Iterable[Float32Array], shape: tuple[int, int]
) -> FileEntry:
    """Write a vectors file of `shape` from chunks of rows and return its entry."""
    fields = _HEADER.pack(_MAGIC, FORMAT, 0, *shape)
    return write_file(
        directory, name, fields, (chunk.data.cast("B") for chunk in chunks if len(chunk))
    )


def read_all(directory: Directory, entry: FileEntry, dim: int) -> Float32Array:
    """Return all rows of a vectors file, checked; however many it has."""
    file = VectorsFile(directory, entry, ((entry.size - HEADER_BYTES) // (4 * dim), dim))
    file.check_rows()
    return file.rows


class VectorsFile:
    """The unit rows of one segment, memory-mapped.

    Parameters
    ----------
    directory : Directory
        Where the file is.
    entry : FileEntry
        What the manifest says of it.
    shape : tuple of int
        Rows and dimension that it must have.
    """

    def __init__(self, directory: Directory, entry: FileEntry, shape: tuple[int, int]) -> None:
        # Private: a structure may put a header of its own before the rows (in memory only).
        self.file = MappedFile(directory, entry, private=True)
        self._row_bytes = shape[1] * 4
        if entry.size != HEADER_BYTES + shape[0] * self._row_bytes:
            raise self.file.corrupt(0, f"{entry.size} bytes cannot hold {shape[0]} rows")
        rows = self.file.data[HEADER_BYTES:].view("<f4").reshape(shape)
        rows.flags.writeable = False
        self._mapped = MappedRows(rows, self.file.data)

    @property
    def rows(self) -> Float32Array:
        """The rows, read-only."""
        return self._mapped.rows

    @property
    def mapped(self) -> MappedRows:
        """The rows with the mapping around them, whose header may be changed in memory."""
        self.file.check(0, HEADER_BYTES)  # while it is what the file holds
        return self._mapped

    def check_rows(self, rows: Int64Array | None = None) -> None:
        """Raise `CorruptIndexError` unless the blocks of `rows`, or all, are as written."""
        if rows is None:
            self.file.check()
        elif not self.file.all_checked:
            self.file.check_at(HEADER_BYTES, rows, self._row_bytes)
