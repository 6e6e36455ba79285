"""Files that hold columns: Parquet, and the rows of a `.npy` array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vecindex.errors import InputError, missing_extra
from vecindex.io.columns import Columns, no_column
from vecindex.io.records import Bad, Batch
from vecindex.io.tables import array_slices, arrow_slices, table_batches

_BUFFER_BYTES = 1_000_000

ARRAY_COLUMNS = ("row", "vector")
"""What an array offers: its row numbers, as ids, and its rows."""


def read_parquet(path: Path, columns: Columns, batch_rows: int, bad: Bad) -> Iterator[Batch]:
    """Yield the rows of a Parquet file, a batch in memory at a time.

    A null metadata value is left out, as a key is that a JSONL line does not have; dates become
    datetimes and decimals floats, which metadata can hold.

    Parameters
    ----------
    path : Path
        The file.
    columns : Columns
        Only these columns are read.
    batch_rows : int
        Rows in a batch.
    bad : callable
        Told of each row that cannot be used.

    Yields
    ------
    Batch
        Rows are counted from 0.

    Raises
    ------
    InputError
        If the file is not Parquet, or lacks a column.
    MissingExtraError
        If pyarrow is not installed.
    """
    with _parquet_file(path) as file:
        names = list(file.schema_arrow.names)
        asked = list(columns.asked(names, str(path)))
        stream = file.iter_batches(batch_size=batch_rows, columns=asked)
        slices = arrow_slices(str(path), stream, batch_rows)
        yield from table_batches(str(path), names, slices, columns, bad)


def parquet_columns(path: Path) -> list[str]:
    """Return the names of a Parquet file's columns."""
    with _parquet_file(path) as file:
        return list(file.schema_arrow.names)


def read_rows(
    source: str, rows: Any, columns: Columns, batch_rows: int, bad: Bad
) -> Iterator[Batch]:
    """Yield the rows of a two-dimensional array, which are always read.

    Parameters
    ----------
    source : str
        How messages call the array.
    rows : ndarray of numbers, shape (n, dim)
        May be a memory map.
    columns : Columns
        `id="row"` makes the row numbers, from 0, the ids; there are no texts or metadata.
    batch_rows : int
        Rows in a batch.
    bad : callable
        Told of each row that cannot be used.

    Yields
    ------
    Batch
        Rows are counted from 0.

    Raises
    ------
    InputError
        If another column is asked for.
    """
    asked = {"id": (columns.id,), "text": (columns.text,), "metadata": columns.metadata}
    wrong = [
        name
        for role, names in asked.items()
        for name in names
        if name is not None and (role, name) != ("id", "row")
    ]
    if wrong or columns.vector not in (None, "vector"):
        raise no_column(source, wrong or [str(columns.vector)], ARRAY_COLUMNS)
    slices = array_slices(rows, batch_rows)
    columns = replace(columns, vector="vector")
    yield from table_batches(source, ARRAY_COLUMNS, slices, columns, bad)


def read_array(path: str | Path, dims: tuple[int, ...] = (1, 2)) -> Any:
    """Return an array of numbers from a `.npy` file, memory-mapped.

    Parameters
    ----------
    path : str or Path
        The file; nothing in it can run code.
    dims : tuple of int
        Numbers of dimensions that are accepted.

    Returns
    -------
    ndarray
        Of the file's own shape and dtype, read-only.

    Raises
    ------
    InputError
        If the file is not such an array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy takes its header for Python, which fails in many ways
        raise InputError(f"{path}: not an array of numbers in numpy's format: {error}") from error
    return check_array(str(path), array, dims)


def check_array(source: str, array: Any, dims: tuple[int, ...]) -> Any:
    """Return an array after checking that it holds numbers in this many dimensions."""
    kind = array.dtype.kind if isinstance(array, np.ndarray) else "an archive"
    if kind not in "fiu" or array.ndim not in dims:
        expected = " or ".join("(dim,)" if ndim == 1 else "(n, dim)" for ndim in dims)
        shape = getattr(array, "shape", "unknown (an archive)")
        raise InputError(f"{source}: expected numbers of shape {expected}, not of shape {shape}")
    return array


def _parquet_file(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "arrow") from error
    path.open("rb").close()  # a missing file as Python says it, not as Arrow does
    try:
        # Buffering ahead would read the whole file into memory (pyarrow 26), and no buffer at all
        # a row group: 139 MB at peak against 353, in half the time, with 50,000 rows in a group.
        return pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not Parquet: {error}") from error
