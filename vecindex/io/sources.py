"""Reading records in batches: one function for files, data sets, tables and dicts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vecindex.errors import InputError
from vecindex.io.columnar import (
    ARRAY_COLUMNS,
    parquet_columns,
    read_array,
    read_parquet,
    read_rows,
)
from vecindex.io.columns import Columns
from vecindex.io.data_sets import (
    PREFIX,
    data_set_source,
    directory_source,
    is_data_set,
    is_name,
    named_source,
)
from vecindex.io.objects import object_source
from vecindex.io.opened import Source
from vecindex.io.records import Bad, Batch, batches
from vecindex.io.text_files import csv_header, first_object, read_csv, read_json, read_jsonl

_TEXT = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
_COLUMNAR = {".parquet": "parquet", ".npy": "npy"}

SUFFIXES = (*_TEXT, *_COLUMNAR)
"""The suffixes that are read; those of text files may be followed by `.gz`."""


def read_batches(
    source: Any,
    columns: Columns | None = None,
    batch_rows: int = 1000,
    *,
    split: str | None = None,
    skip_bad: Bad | None = None,
) -> Iterator[Batch]:
    """Yield the records of a source in batches, never holding more than one of them.

    Parameters
    ----------
    source : str, path or object
        A file, whose format follows from its suffix: `.jsonl` or `.ndjson` (one object a line),
        `.json` (one list of objects; read whole), `.csv` and `.tsv` (with a header row; every
        value is a string), each also with `.gz` behind it; `.parquet` (needs `vecindex[arrow]`);
        `.npy` (an array of vectors, with `id="row"` its row numbers as ids).
        A directory that `Dataset.save_to_disk` wrote, or of data files as `load_dataset` takes
        it. A data set on the hub, which is streamed: `"dataset:org/name"` or
        `"hf://datasets/org/name"`, with `#config` behind it if it has several.
        A `Dataset`, `IterableDataset` or dict of splits; a pandas or polars frame, an Arrow
        table or record batch reader; an array of shape (n, dim); an iterable of dicts.
    columns : Columns or None
        Which columns to take; None finds them by their plain names, see `find_columns`.
    batch_rows : int
        Records in a batch, less those left out, the last one shorter.
    split : str or None
        Which split of a data set that has several.
    skip_bad : callable or None
        Called with the error of each record that cannot be read or used, which is left out;
        `Skipped()` counts them. None raises the first such error.

    Yields
    ------
    Batch
        The columns that were asked for.

    Raises
    ------
    InputError
        If the format is unknown, a column does not exist (the message lists those that do), or a
        record cannot be read or used (the message names its place). Batches before it were
        yielded.
    MissingExtraError
        If the format needs a package that is not installed.
    OSError
        If the file cannot be opened; `HubError` if the hub cannot be reached.

    Notes
    -----
    A missing text is None: null, and NaN or NA where pandas makes it of None. A null in a
    metadata column of a table is left out; a key that a JSONL line does not have is absent there.
    Ids are of one type per source, and taken as they are, so those of a CSV file are strings;
    whole floats become integers. Vectors may be lists or arrays, or a column per dimension.
    Formats and transforms of a `Dataset` do not apply: the stored values count.

    Examples
    --------
    >>> records = [{"id": "a", "text": "first"}, {"id": "b", "text": "second"}]
    >>> for batch in read_batches(records):
    ...     print(batch.ids, batch.texts)
    ['a', 'b'] ['first', 'second']
    """
    return open_source(source, split=split).batches(columns, batch_rows, skip_bad)


def open_source(source: Any, *, split: str | None = None) -> Source:
    """Return a source with its columns known and no batch read yet.

    Parameters
    ----------
    source : str, path or object
        What `read_batches` takes.
    split : str or None
        Which split of a data set that has several.

    Returns
    -------
    Source
        To be read once. An iterator gives its first record for the names of the columns, and it
        comes again when the source is read.

    Raises
    ------
    InputError
        If it is nothing that can be read, or has no such split.
    MissingExtraError, OSError
        As for `read_batches`.
    """
    if is_data_set(source):
        return data_set_source(source, split)
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if not text.removeprefix(PREFIX):
            raise InputError("the source is empty; expected a path or the name of a data set")
        path = Path(text.removeprefix(PREFIX))
        if path.is_dir():
            return directory_source(path, split)
        if is_name(text) and not path.exists():
            return named_source(text, split)
        opened = _file_source(path)
    else:
        opened = object_source(source)
    if split is not None:
        raise InputError(f"{opened.name}: it has no splits; leave out split={split!r}")
    return opened


def column_names(source: Any, *, split: str | None = None) -> list[str]:
    """Return the names of a source's columns; for records, the keys of the first.

    Parameters
    ----------
    source : str, path or object
        What `read_batches` takes, but no iterator: that can be read only once.
    split : str or None
        Which split of a data set that has several.

    Returns
    -------
    list of str
        In the source's order.

    Raises
    ------
    InputError
        If the source is unknown, or its beginning cannot be read.
    """
    if isinstance(source, Iterator):
        raise InputError("an iterator can be read only once; use open_source, which keeps a record")
    return open_source(source, split=split).names()


def _file_source(path: Path) -> Source:
    form = _format(path)

    def names() -> list[str]:
        """Return the columns."""
        if form == "npy":
            return list(ARRAY_COLUMNS)
        if form == "parquet":
            return parquet_columns(path)
        if form in ("csv", "tsv"):
            return csv_header(path, _delimiter(form))
        if form == "jsonl":
            return list(first_object(path))
        return list(next((record for _, record in read_json(path, Columns())), {}))

    def read(columns: Columns, batch_rows: int, bad: Bad) -> Iterator[Batch]:
        """Yield the batches."""
        if form == "npy":
            return read_rows(str(path), read_array(path, (2,)), columns, batch_rows, bad)
        if form == "parquet":
            return read_parquet(path, columns, batch_rows, bad)
        if form in ("csv", "tsv"):
            located = read_csv(path, columns, _delimiter(form), bad)
        else:
            located = (read_jsonl if form == "jsonl" else read_json)(path, columns, bad)
        return batches(located, columns, batch_rows, bad)

    return Source(str(path), names, read, bare=form == "npy")


def _delimiter(form: str) -> str:
    return "\t" if form == "tsv" else ","


def _format(path: Path) -> str:
    name = path.name.lower()
    if Path(name).suffix in _COLUMNAR:
        return _COLUMNAR[Path(name).suffix]
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix in _TEXT:
        return _TEXT[suffix]
    raise InputError(
        f"{path}: unknown suffix; expected one of {', '.join(SUFFIXES)}, or text + .gz, or a data "
        f"set's name as in {PREFIX}org/name"
    )
