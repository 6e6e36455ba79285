"""Reading records from files in batches: one function for every format, chosen by suffix."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vecindex.errors import InputError
from vecindex.io.columnar import NPY_COLUMNS, parquet_columns, read_npy, read_parquet
from vecindex.io.records import Batch, Columns, Located, batches
from vecindex.io.text_files import csv_header, read_csv, read_json, read_jsonl

_TEXT = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
_COLUMNAR = {".parquet": "parquet", ".npy": "npy"}

SUFFIXES = (*_TEXT, *_COLUMNAR)
"""The suffixes that are read; those of text files may be followed by `.gz`."""


def read_batches(
    path: str | Path, columns: Columns | None = None, batch_rows: int = 1000
) -> Iterator[Batch]:
    """Yield the records of a file in batches, never holding more than one of them.

    The format follows from the suffix: `.jsonl` or `.ndjson` (one object a line), `.json` (one
    list of objects; read whole), `.csv` and `.tsv` (with a header row; every value is a string),
    each also with `.gz` behind it; `.parquet` (needs `vecindex[arrow]`); `.npy` (an array of
    vectors, with `id="row"` its row numbers as ids).

    Parameters
    ----------
    path : str or Path
        The file.
    columns : Columns or None
        Which columns to take; a `.npy` file needs none.
    batch_rows : int
        Records in a batch, the last one being shorter.

    Yields
    ------
    Batch
        The columns that were asked for.

    Raises
    ------
    InputError
        If the format is unknown, a column does not exist (the message lists those that do), or a
        record cannot be read (the message names file and line). Batches before it were yielded.
    MissingExtraError
        If the format needs a package that is not installed.
    OSError
        If the file cannot be opened.

    Notes
    -----
    A null text is None; a metadata key that a JSONL line does not have is absent there. Ids are
    taken as they are, so those of a CSV file are strings, and must be of one type per file.

    Examples
    --------
    >>> for batch in read_batches("faq.csv", Columns(text="question", id="id")):  # doctest: +SKIP
    ...     index.add(texts=batch.texts, ids=batch.ids)
    """
    path, columns = Path(path), columns or Columns()
    if batch_rows < 1:
        raise InputError(f"batch_rows must be at least 1, not {batch_rows}")
    form = _format(path)
    if form == "npy":
        return read_npy(path, columns, batch_rows)
    if not columns.required and not columns.metadata:
        raise InputError(f"{path}: no column was asked for; there is: {_list(path)}")
    if form == "parquet":
        return read_parquet(path, columns, batch_rows)
    return batches(_records(form, path, columns), columns, batch_rows)


def column_names(path: str | Path) -> list[str]:
    """Return the names of a file's columns; for JSON, the keys of its first record.

    Parameters
    ----------
    path : str or Path
        A file that `read_batches` reads.

    Returns
    -------
    list of str
        In the file's order.

    Raises
    ------
    InputError
        If the format is unknown, or its beginning cannot be read.
    """
    path = Path(path)
    form = _format(path)
    if form == "npy":
        return list(NPY_COLUMNS)
    if form == "parquet":
        return parquet_columns(path)
    if form in ("csv", "tsv"):
        return csv_header(path, _delimiter(form))
    first = next(islice(_records(form, path, Columns()), 1), None)
    return list(first[1]) if first else []


def _records(form: str, path: Path, columns: Columns) -> Iterator[Located]:
    if form == "jsonl":
        return read_jsonl(path, columns)
    if form == "json":
        return read_json(path, columns)
    return read_csv(path, columns, _delimiter(form))


def _delimiter(form: str) -> str:
    return "\t" if form == "tsv" else ","


def _list(path: Path) -> str:
    return ", ".join(column_names(path)) or "nothing"


def _format(path: Path) -> str:
    name = path.name.lower()
    if Path(name).suffix in _COLUMNAR:
        return _COLUMNAR[Path(name).suffix]
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix in _TEXT:
        return _TEXT[suffix]
    raise InputError(
        f"{path}: unknown suffix; expected one of {', '.join(SUFFIXES)}, or text + .gz"
    )
