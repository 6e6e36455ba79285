"""Batches of what holds columns: Arrow's tables and streams, pandas frames, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import InputError, missing_extra
from vecindex.io.columns import Columns
from vecindex.io.records import Bad, Batch, Located, Picker
from vecindex.io.values import Place


class Slice(Protocol):
    """Some consecutive rows of a table."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def values(self, name: str) -> list[Any]:
        """Return a column as Python values, None where one is missing."""

    def lists(self, name: str) -> Any:
        """Return a column of equally long lists of numbers as a matrix, None if it is not such."""

    def numbers(self, names: Sequence[str]) -> Any:
        """Return columns of numbers side by side as a matrix, None if one is not such."""


def table_batches(
    source: str, names: Sequence[str], slices: Iterable[Slice], columns: Columns, bad: Bad
) -> Iterator[Batch]:
    """Yield the rows of a table; its vectors never become Python numbers.

    Parameters
    ----------
    source : str
        How messages call the table.
    names : sequence of str
        Its columns.
    slices : iterable of Slice
        The rows, in batches; of each a batch is made.
    columns : Columns
        What to take.
    bad : callable
        Told of each row that cannot be used.

    Yields
    ------
    Batch
        Rows are counted from 0. A null in a metadata column is left out.
    """
    asked, vector_names = columns.asked(names, source), columns.vector_columns(names, source)
    one = vector_names == (columns.vector,)
    others = [name for name in asked if name not in vector_names]
    picker, first = Picker(columns, bad, () if one else vector_names), 0
    for part in slices:
        matrix = _matrix(part, vector_names, one) if vector_names else None
        if matrix is not None and picker.takes(matrix):
            located = _located(source, first, part, columns, others)
        else:  # one of the rows has no usable vector: the picker finds it
            matrix, located = None, _located(source, first, part, columns, asked)
        if located and len(batch := picker.batch(located, matrix)):
            yield batch
        first += len(part)


@dataclass(frozen=True)
class ArraySlice:
    """Rows of a two-dimensional array: the columns are `row`, its number, and `vector`."""

    rows: Any
    first: int

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def values(self, name: str) -> list[Any]:
        """Return the row numbers, or the rows."""
        numbers = range(self.first, self.first + len(self.rows))
        return list(numbers if name == "row" else self.rows)

    def lists(self, _name: str) -> Any:
        """Return the rows."""
        return self.rows

    def numbers(self, _names: Sequence[str]) -> Any:
        """Return nothing: no column is a number."""
        return None


@dataclass(frozen=True)
class ArrowSlice:
    """Rows of an Arrow record batch."""

    batch: Any

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.batch.num_rows)

    def values(self, name: str) -> list[Any]:
        """Return a column as Python values."""
        listed: list[Any] = self.batch.column(name).to_pylist()
        return listed

    def lists(self, name: str) -> Any:
        """Return a column of lists as a matrix; neither a list nor a number in it is null."""
        import pyarrow.compute
        import pyarrow.types as kinds

        column = self.batch.column(name)
        kind = column.type
        if not (kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)):
            return None
        lengths = pyarrow.compute.list_value_length(column)
        if column.null_count or pyarrow.compute.min_max(lengths)["min"] != lengths[0]:
            return None
        if pyarrow.compute.min_max(lengths)["max"] != lengths[0] or not lengths[0].as_py():
            return None
        numbers = _array(column.flatten())
        return None if numbers is None else numbers.reshape(len(column), -1)

    def numbers(self, names: Sequence[str]) -> Any:
        """Return columns of numbers as a matrix; none of them has a null."""
        columns = [_array(self.batch.column(name)) for name in names]
        return None if any(column is None for column in columns) else np.stack(columns, axis=1)


def arrow_slices(source: str, stream: Iterable[Any], batch_rows: int) -> Iterator[ArrowSlice]:
    """Yield the rows of Arrow tables and record batches, `batch_rows` at a time."""
    import pyarrow

    rest, rows = None, 0
    try:
        for part in stream:
            table = part if isinstance(part, pyarrow.Table) else pyarrow.Table.from_batches([part])
            rest = table if rest is None else _joined(rest, table)
            while rest.num_rows >= batch_rows:
                yield _slice(rest.slice(0, batch_rows))
                rest, rows = rest.slice(batch_rows), rows + batch_rows
    except pyarrow.ArrowException as error:
        raise InputError(f"{source}, from row {rows} on: cannot be read: {error}") from error
    if rest is not None and rest.num_rows:
        yield _slice(rest)


def arrow_stream(source: str, table: Any) -> Any:
    """Return a reader of what offers Arrow's stream interface, such as a polars frame."""
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra("pyarrow", "arrow") from error
    try:
        return pyarrow.RecordBatchReader.from_stream(table)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{source}: not a table of columns: {error}") from error


@dataclass(frozen=True)
class PandasSlice:
    """Rows of a pandas frame; pandas' marks of missing values become None."""

    frame: Any
    positions: dict[str, int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)

    def values(self, name: str) -> list[Any]:
        """Return a column as Python values."""
        series = self.frame.iloc[:, self.positions[name]]
        listed = zip(series.tolist(), series.isna().tolist(), strict=True)
        return [None if missing else value for value, missing in listed]

    def lists(self, name: str) -> Any:
        """Return a column of lists or arrays as a matrix."""
        try:
            matrix = np.array(self.values(name))
        except ValueError:  # of several lengths
            return None
        return matrix if matrix.ndim == 2 and matrix.dtype.kind in "fiu" else None

    def numbers(self, names: Sequence[str]) -> Any:
        """Return columns of numbers as a matrix."""
        matrix = self.frame.iloc[:, [self.positions[name] for name in names]].to_numpy()
        return matrix if matrix.dtype.kind in "fiu" else None


def pandas_slices(frame: Any, batch_rows: int) -> Iterator[PandasSlice]:
    """Yield the rows of a pandas frame, `batch_rows` at a time."""
    positions = {name: position for position, name in enumerate(map(str, frame.columns))}
    for first in range(0, len(frame), batch_rows):
        yield PandasSlice(frame.iloc[first : first + batch_rows], positions)


def array_slices(rows: Any, batch_rows: int) -> Iterator[ArraySlice]:
    """Yield the rows of a two-dimensional array, `batch_rows` at a time."""
    for first in range(0, len(rows), batch_rows):
        yield ArraySlice(rows[first : first + batch_rows], first)


def _matrix(part: Slice, names: tuple[str, ...], one: bool) -> Float32Array | None:
    numbers = part.lists(names[0]) if one else part.numbers(names)
    if numbers is None:
        return None
    with np.errstate(over="ignore"):  # beyond float32 is infinity, which the picker refuses
        return np.array(numbers, dtype=np.float32, order="C")


def _located(
    source: str, first: int, part: Slice, columns: Columns, names: Iterable[str]
) -> list[Located]:
    """Return the rows as records; what is null is kept where every record must have it."""
    places = [Place(source, "row", first + i) for i in range(len(part))]
    records: list[dict[str, Any]] = [{} for _ in places]
    for name in names:
        required = name in columns.required
        for record, value in zip(records, part.values(name), strict=True):
            if required or value is not None:
                record[name] = value
    return list(zip(places, records, strict=True))


def _slice(table: Any) -> ArrowSlice:
    return ArrowSlice(table.combine_chunks().to_batches()[0])


def _joined(rest: Any, table: Any) -> Any:
    import pyarrow

    return pyarrow.concat_tables([rest, table]) if rest.num_rows else table


def _array(column: Any) -> Any:
    """Return an Arrow array of numbers without nulls as NumPy's, None for another."""
    import pyarrow.types as kinds

    number = kinds.is_integer(column.type) or kinds.is_floating(column.type)
    return column.to_numpy(zero_copy_only=False) if number and not column.null_count else None
