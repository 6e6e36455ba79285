"""Batches of files that hold columns: Parquet, and the rows of a `.npy` array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import InputError, missing_extra
from vecindex.io.records import Batch, Columns, Located, Picker, Place, no_column

NPY_COLUMNS = ("row", "vector")
"""What a `.npy` file offers: its row numbers, as ids, and its rows."""


def read_parquet(path: Path, columns: Columns, batch_rows: int) -> Iterator[Batch]:
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

    Yields
    ------
    Batch
        `first_line` is the first row, counted from 0.

    Raises
    ------
    InputError
        If the file is not Parquet, or lacks a column.
    MissingExtraError
        If pyarrow is not installed.
    """
    with _parquet_file(path) as file:
        asked = list(dict.fromkeys([*columns.required, *columns.metadata_sources]))
        if missing := [name for name in asked if name not in file.schema_arrow.names]:
            raise no_column(str(path), missing, file.schema_arrow.names)
        picker, first, dim = Picker(replace(columns, vector=None)), 0, None
        for table in file.iter_batches(batch_size=batch_rows, columns=asked):
            batch = picker.batch(_located(path, first, table, columns))
            if columns.vector:
                vectors = _vectors(path, first, table.column(columns.vector), dim)
                batch, dim = replace(batch, vectors=vectors), vectors.shape[1]
            yield batch
            first += table.num_rows


def parquet_columns(path: Path) -> list[str]:
    """Return the names of a Parquet file's columns."""
    with _parquet_file(path) as file:
        return list(file.schema_arrow.names)


def read_npy(path: Path, columns: Columns, batch_rows: int) -> Iterator[Batch]:
    """Yield the rows of a two-dimensional array from a memory map.

    Parameters
    ----------
    path : Path
        A `.npy` file of numbers, shape (n, dim).
    columns : Columns
        The rows are always read; `id="row"` makes the row numbers, from 0, the ids.
    batch_rows : int
        Rows in a batch.

    Yields
    ------
    Batch
        `first_line` is the first row, counted from 0.

    Raises
    ------
    InputError
        If the file is not such an array, or another column is asked for.
    """
    array = read_array(path, dims=(2,))
    asked = [*columns.required, *columns.metadata_sources]
    wrong = [name for name in asked if name not in NPY_COLUMNS]
    if wrong or columns.id not in (None, "row"):
        raise no_column(f"{path} (an array)", wrong or [str(columns.id)], NPY_COLUMNS)
    for first in range(0, len(array), batch_rows):
        rows = array[first : first + batch_rows]
        with np.errstate(over="ignore"):  # beyond float32 is infinity, refused by the index
            vectors: Float32Array = np.array(rows, dtype=np.float32, order="C")
        numbers = list(range(first, first + len(rows))) if columns.id else None
        yield Batch(None, vectors, numbers, None, first)  # type: ignore[arg-type]  # list[int] is fine


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
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not an array of numbers in numpy's format: {error}") from error
    kind = array.dtype.kind if isinstance(array, np.ndarray) else "an archive"
    if kind not in "fiu" or array.ndim not in dims:
        expected = " or ".join("(dim,)" if ndim == 1 else "(n, dim)" for ndim in dims)
        shape = getattr(array, "shape", "unknown (an archive)")
        raise InputError(f"{path}: expected numbers of shape {expected}, not of shape {shape}")
    return array


def _parquet_file(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "arrow") from error
    path.open("rb").close()  # a missing file as Python says it, not as Arrow does
    try:
        # Buffering ahead would read the whole file into memory (pyarrow 26).
        return pyarrow.parquet.ParquetFile(path, pre_buffer=False)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{path}: not Parquet: {error}") from error


def _located(path: Path, first: int, table: Any, columns: Columns) -> list[Located]:
    names = [name for name in table.schema.names if name != columns.vector]
    records = table.select(names).to_pylist() if names else [{} for _ in range(table.num_rows)]
    for record in records:
        for name in set(columns.metadata_sources).difference(columns.required):
            value = record.pop(name)
            if value is not None:
                record[name] = _storable(value)
    return [(Place(str(path), "row", first + i), record) for i, record in enumerate(records)]


def _storable(value: Any) -> Any:
    """Return a date as the datetime at its midnight, a decimal as a float, others as they are."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return float(value) if isinstance(value, Decimal) else value


def _vectors(path: Path, first: int, column: Any, dim: int | None) -> Float32Array:
    """Return a column of lists as rows, without a Python object for each number."""
    import pyarrow.compute

    if not hasattr(column, "flatten") or column.type.num_fields != 1:
        raise InputError(f"{path}: the vectors must be lists of numbers, not {column.type}")
    lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    dim = dim or int(np.nan_to_num(lengths[0]))
    if (bad := np.flatnonzero((lengths != dim) | (lengths == 0))).size:
        length = lengths[bad[0]]
        what = (
            f"has dimension {length:.0f}, those before it have {dim}"
            if length > 0
            else "is missing"
        )
        raise InputError(f"{Place(str(path), 'row', first + int(bad[0]))}: the vector {what}")
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "fiu":
        raise InputError(f"{path}: the vectors must be lists of numbers, not {column.type}")
    return np.array(numbers.reshape(-1, dim), dtype=np.float32)
