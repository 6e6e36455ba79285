"""Writing an index's records to a file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.format import open_memmap

from vecindex.errors import InputError, VecindexError, missing_extra
from vecindex.io.strict_json import json_text
from vecindex.results import Record
from vecindex.store.files import Directory

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

Progress = Callable[[str, int, int | None], None]

_ROWS = 1000  # records between two calls of `progress`, and rows in a Parquet row group


def export(
    index: VectorIndex,
    destination: str | Path,
    *,
    vectors: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the live rows, in insertion order, to a file of the format that its suffix names.

    Parameters
    ----------
    index : VectorIndex
        An open index.
    destination : str or Path
        `.jsonl`: a line `{"id", "text", "metadata"}` each. `.parquet` (needs
        `vecindex[arrow]`): the same columns, the metadata as JSON text. `.npy`: the unit rows
        alone, float32 of shape (n, dim).
    vectors : bool
        Add a column `vector` of unit rows to `.jsonl` and `.parquet`; `.npy` is nothing else.
    overwrite : bool
        Replace the destination if it exists.
    progress : callable or None
        Called as `progress(stage, done, total)` from time to time.

    Returns
    -------
    int
        The number of rows written.

    Raises
    ------
    InputError
        If the destination exists, is a directory, lies inside the index, or has another suffix;
        or if the ids are both strings and integers, which one Parquet column cannot hold.
    MissingExtraError
        If the format needs a package that is not installed.
    OSError
        If the file cannot be written.

    Notes
    -----
    The rows go to `<destination>.partial-<process id>` first, which is renamed when it is complete
    and on storage; a failed or interrupted export removes it. JSON knows fewer types than metadata
    does: a `datetime` becomes ISO 8601 text, `bytes` become base64 text, NaN becomes null.
    `read_batches` with the metadata column `"metadata.*"` reads `.jsonl` and `.parquet` back.
    """
    destination = Path(destination)
    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet, ".npy": _write_npy}
    write = writers.get(destination.suffix.lower())
    if write is None:
        raise InputError(f"{destination}: unknown suffix; expected one of {', '.join(writers)}")
    _check_free(index, destination, overwrite)
    with _whole(destination) as partial:
        return write(index, partial, vectors, progress or _silent)


def _write_jsonl(index: VectorIndex, path: Path, vectors: bool, progress: Progress) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for records in _chunks(index, vectors):
            file.writelines(_line(record) for record in records)
            rows += len(records)
            progress("export", rows, len(index))
    return rows


def _line(record: Record) -> str:
    fields = {"id": record.id, "text": record.text, "metadata": record.metadata}
    if record.vector is not None:
        fields["vector"] = record.vector.tolist()
    return json_text(fields) + "\n"


def _write_parquet(index: VectorIndex, path: Path, vectors: bool, progress: Progress) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "arrow") from error
    chunks = _chunks(index, vectors)
    first = next(chunks, [])
    id_type = type(first[0].id) if first else str
    types = {
        "id": pyarrow.int64() if id_type is int else pyarrow.string(),
        "text": pyarrow.string(),
        "metadata": pyarrow.string(),
        **({"vector": pyarrow.list_(pyarrow.float32())} if vectors else {}),
    }
    rows = 0
    with pyarrow.parquet.ParquetWriter(path, pyarrow.schema(types.items())) as writer:
        for records in chain([first] if first else [], chunks):
            columns = _columns(records, id_type)
            arrays = [pyarrow.array(columns[name], types[name]) for name in types]
            writer.write_batch(pyarrow.record_batch(arrays, names=list(types)))
            rows += len(records)
            progress("export", rows, len(index))
    return rows


def _columns(records: list[Record], id_type: type) -> dict[str, list[Any]]:
    if not all(type(record.id) is id_type for record in records):
        raise InputError("the ids are strings and integers: export to .jsonl, which can hold both")
    return {
        "id": [record.id for record in records],
        "text": [record.text for record in records],
        "metadata": [
            None if record.metadata is None else json_text(record.metadata) for record in records
        ],
        "vector": [record.vector for record in records],
    }


def _write_npy(index: VectorIndex, path: Path, _vectors: bool, progress: Progress) -> int:
    total, dim = len(index), index.dim or 0
    if not total:
        with path.open("wb") as file:
            np.save(file, np.empty((0, dim), dtype=np.float32))
        return 0
    array = open_memmap(path, mode="w+", dtype=np.float32, shape=(total, dim))
    rows = 0
    for records in _chunks(index, vectors=True):
        chunk = [record.vector for record in records if record.vector is not None]
        if rows + len(chunk) <= total:
            array[rows : rows + len(chunk)] = chunk
        rows += len(chunk)
        progress("export", rows, total)
    array.flush()
    if rows != total:
        raise VecindexError(f"the index changed while it was read: {rows} rows, expected {total}")
    return rows


def _chunks(index: VectorIndex, vectors: bool) -> Iterator[list[Record]]:
    stream = iter(index.scan(vectors=vectors))
    while records := list(islice(stream, _ROWS)):
        yield records


def _check_free(index: VectorIndex, destination: Path, overwrite: bool) -> None:
    if destination.is_dir():
        raise InputError(f"{destination} is a directory; expected the name of a file")
    if destination.exists() and not overwrite:
        raise InputError(
            f"{destination} exists; nothing was written (overwriting must be asked for)"
        )
    if destination.resolve().is_relative_to(Path(index.path).resolve()):
        raise InputError(f"{destination} lies inside the index; choose a place outside it")


@contextmanager
def _whole(destination: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `destination` only if the block ends without error."""
    partial = destination.with_name(f"{destination.name}.partial-{os.getpid()}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(destination)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    Directory(destination.parent).sync()


def _silent(_stage: str, _done: int, _total: int | None) -> None:
    """Report nothing."""
