"""Writing an index's records to a file that is there whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.format import open_memmap

from vecindex.errors import InputError, VecindexError, missing_extra
from vecindex.io.arrow_out import arrow_batches, arrow_schema
from vecindex.io.rows import Rows, chunks
from vecindex.io.strict_json import json_text
from vecindex.results import Record
from vecindex.store.files import Directory

Progress = Callable[[str, int, int | None], object]
Vectors = bool | Literal["only"]


def export(
    index: Rows,
    destination: str | Path,
    *,
    form: str | None = None,
    vectors: Vectors = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the live rows, in insertion order, to a file of the format that its suffix names.

    Parameters
    ----------
    index : VectorIndex
        An open index, or what offers the same rows.
    destination : str or Path
        `.jsonl`: a line `{"id", "text", "metadata"}` each. `.parquet` (needs
        `vecindex[arrow]`) and `.csv`: the same columns, the metadata as JSON text. `.npy`: the
        unit rows alone, float32 of shape (n, dim).
    form : str or None
        A format by its suffix, as in `".csv"`; None takes the destination's own suffix.
    vectors : bool or {"only"}
        Add a column `embedding` of unit rows, which in `.csv` is one column for each dimension,
        named `0`, `1`...; `"only"` writes nothing else. `.npy` is nothing else anyway.
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
    does: a `datetime` becomes ISO 8601 text, `bytes` become base64 text, NaN becomes null. CSV does
    not tell a missing text from an empty one. Numbers are written so that they read back to the
    same bits. `read_batches` with the metadata column `"metadata.*"` reads `.jsonl`, `.parquet` and
    `.csv` back.
    """
    destination = Path(destination)
    form = destination.suffix.lower() if form is None else form
    write = _WRITERS.get(form)
    if write is None:
        raise InputError(f"{destination}: unknown suffix; expected one of {', '.join(_WRITERS)}")
    if vectors not in (False, True, "only"):
        raise InputError(f'vectors must be False, True or "only", not {vectors!r}')
    check_free(index, destination, overwrite)
    with whole(destination) as partial:
        return write(index, partial, vectors, progress or _silent)


def _write_jsonl(index: Rows, path: Path, vectors: Vectors, progress: Progress) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for records in chunks(index, vectors=bool(vectors)):
            file.writelines(_line(record, vectors) for record in records)
            rows += len(records)
            progress("export", rows, len(index))
    return rows


def _line(record: Record, vectors: Vectors) -> str:
    fields = {"id": record.id, "text": record.text, "metadata": record.metadata}
    if vectors == "only":
        fields = {}
    if record.vector is not None:
        fields["embedding"] = record.vector.tolist()
    return json_text(fields) + "\n"


def _write_parquet(index: Rows, path: Path, vectors: Vectors, progress: Progress) -> int:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "arrow") from error
    schema, rows = arrow_schema(index, vectors), 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for batch in arrow_batches(index, schema):
            writer.write_batch(batch)
            rows += batch.num_rows
            progress("export", rows, len(index))
    return rows


def _write_csv(index: Rows, path: Path, vectors: Vectors, progress: Progress) -> int:
    names = [] if vectors == "only" else ["id", "text", "metadata"]
    dims = map(str, range(index.dim or 0)) if vectors else ()
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow([*names, *dims])
        for records in chunks(index, vectors=bool(vectors)):
            for record in records:
                # Python 3.11 and 3.12 leave a lone \r bare, where readers end the line.
                fit = quoting if "\r" in f"{record.id}{record.text}" else writer
                fit.writerow(_csv_fields(record, vectors))
            rows += len(records)
            progress("export", rows, len(index))
    return rows


def _csv_fields(record: Record, vectors: Vectors) -> list[object]:
    fields: list[object] = []
    if vectors != "only":
        metadata = None if record.metadata is None else json_text(record.metadata)
        fields = [record.id, record.text, metadata]
    if record.vector is not None:
        fields += record.vector.astype(str).tolist()  # the shortest text of the same float32
    return fields


def _write_npy(index: Rows, path: Path, _vectors: Vectors, progress: Progress) -> int:
    total, dim = len(index), index.dim or 0
    if not total:
        with path.open("wb") as file:
            np.save(file, np.empty((0, dim), dtype=np.float32))
        return 0
    array = open_memmap(path, mode="w+", dtype=np.float32, shape=(total, dim))
    rows = 0
    for records in chunks(index, vectors=True):
        chunk = [record.vector for record in records if record.vector is not None]
        if rows + len(chunk) <= total:
            array[rows : rows + len(chunk)] = chunk
        rows += len(chunk)
        progress("export", rows, total)
    array.flush()
    check_count(rows, total)
    return rows


_WRITERS = {
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".npy": _write_npy,
}


def check_count(rows: int, total: int) -> None:
    """Raise `VecindexError` if other rows were read than a file's header promises."""
    if rows != total:
        raise VecindexError(f"the index changed while it was read: {rows} rows, expected {total}")


def check_free(index: Rows, destination: Path, overwrite: bool) -> None:
    """Raise `InputError` unless a file may be written there."""
    if destination.is_dir():
        raise InputError(f"{destination} is a directory; expected the name of a file")
    if destination.exists() and not overwrite:
        raise InputError(
            f"{destination} exists; nothing was written (overwriting must be asked for)"
        )
    if destination.resolve().is_relative_to(Path(index.path).resolve()):
        raise InputError(f"{destination} lies inside the index; choose a place outside it")


@contextmanager
def whole(destination: Path) -> Iterator[Path]:
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
