"""Columns files `columns-<n>.arrow`: a segment's metadata by key, so that filters are fast.

An Arrow IPC file of one record batch with a row for each of the segment's, as
`vecindex.filters.layout` says. It is a cache of what the records hold: without it, or without
pyarrow, filters are evaluated record by record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from vecindex.arrays import Int64Array
from vecindex.forks import before_any_fork
from vecindex.store.codec import unpack_metadata
from vecindex.store.files import Buffer, Directory, FileEntry, FileWriter, MappedFile
from vecindex.store.lending import lending

if TYPE_CHECKING:
    from vecindex.filters.masks import Columns

_CHUNK_RECORDS = 1024  # unpacked at once


def has_arrow() -> bool:
    """Return whether pyarrow can be imported; it is an extra, and imported late."""
    try:
        with before_any_fork():
            import pyarrow
            import pyarrow.compute

            from vecindex.filters import derive, masks  # noqa: F401  # so that these are there, too

            pyarrow.array([])  # the first time it imports pandas, under a lock that forks ignore
    except ImportError:
        return False
    return True


def load_arrow() -> None:
    """Import all that writing columns needs; takes half a second once, if there is pandas."""
    # Imports run Python only: searches would wait 5 ms each time. Who needs it says what is wrong.
    with lending(), suppress(Exception):
        has_arrow()


def derive_columns(records: Iterable[bytes], before: Columns | None = None) -> Columns:
    """Return the columns of packed records, behind those `before` them.

    Raises
    ------
    CorruptIndexError
        If a record cannot be read.
    """
    from vecindex.filters.batches import join
    from vecindex.filters.derive import derive
    from vecindex.filters.masks import Columns

    remaining = iter(records)
    batches = [] if before is None else [before.batch]
    while chunk := list(islice(remaining, _CHUNK_RECORDS)):
        batches.append(derive(unpack_metadata(chunk)))
    return Columns(join(batches or [derive([])]))


def join_columns(sources: Sequence[tuple[Columns, Int64Array | None]]) -> Columns:
    """Return the columns of some rows of each source; -1 is a row without metadata, None is all."""
    from vecindex.filters.batches import join, take
    from vecindex.filters.masks import Columns

    return Columns(join([c.batch if rows is None else take(c.batch, rows) for c, rows in sources]))


def write_columns(directory: Directory, name: str, columns: Columns) -> FileEntry:
    """Write a columns file and return its entry."""
    import pyarrow

    sink = _Sink()
    with pyarrow.ipc.new_file(pyarrow.PythonFile(sink, mode="w"), columns.batch.schema) as file:
        file.write_batch(columns.batch)
    writer = FileWriter(directory, name)
    try:
        for chunk in sink.chunks:
            writer.write(chunk)
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


class _Sink:
    """What pyarrow needs of a file that it writes to; keeps references, no copies."""

    closed = False

    def __init__(self) -> None:
        self.chunks: list[Buffer] = []

    def write(self, data: Buffer) -> int:
        self.chunks.append(data)
        return memoryview(data).nbytes


def read_columns(file: MappedFile, rows: int) -> Columns:
    """Return the columns of a file, without a copy of them.

    Raises
    ------
    CorruptIndexError
        If its bytes are not as written, or are not columns of so many rows.
    """
    import pyarrow

    from vecindex.filters.layout import check_batch
    from vecindex.filters.masks import Columns

    file.check()  # pyarrow only ever sees bytes whose checksum held
    try:
        reader: Any = pyarrow.ipc.open_file(pyarrow.py_buffer(file.data))
        (batch,) = (reader.get_batch(number) for number in range(reader.num_record_batches))
        check_batch(batch, rows)
    except (ValueError, OSError, pyarrow.ArrowException) as error:
        raise file.corrupt(0, f"no columns that can be used: {error}") from error
    return Columns(batch)
