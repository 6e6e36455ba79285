"""Objects in memory as sources: tables of pandas, polars and Arrow, arrays, iterables of dicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from vecindex.errors import InputError
from vecindex.io.columnar import ARRAY_COLUMNS, check_array, read_rows
from vecindex.io.columns import Columns, no_column
from vecindex.io.opened import Source
from vecindex.io.records import Bad, Batch, Located, batches, require_seen
from vecindex.io.tables import arrow_slices, arrow_stream, pandas_slices, table_batches
from vecindex.io.values import Place, brief


def is_a(value: Any, library: str, *names: str) -> bool:
    """Return whether a value is of a library's class, without importing the library."""
    return any(
        cls.__module__.partition(".")[0] == library and cls.__name__ in names
        for cls in type(value).__mro__
    )


def object_source(value: Any) -> Source:
    """Return an object as a source.

    Parameters
    ----------
    value : object
        A pandas frame; what offers Arrow's stream interface, as polars frames, Arrow tables and
        record batch readers do; an array of shape (n, dim); or an iterable of dicts.

    Returns
    -------
    Source
        Its messages call it by its class.

    Raises
    ------
    InputError
        If it is none of these.
    """
    name = type(value).__name__
    if isinstance(value, np.ndarray):
        return _array_source(name, value)
    if is_a(value, "pandas", "DataFrame"):
        return _pandas_source(name, value)
    if hasattr(value, "__arrow_c_stream__"):
        return _arrow_source(name, value)
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return record_source(name, value)
    raise InputError(
        f"cannot read records from {name}: expected a file's path, a data set, a table (a lazy one "
        f"must be collected), an array of vectors, or an iterable of dicts"
    )


def record_source(name: str, records: Iterable[Any]) -> Source:
    """Return an iterable of dicts as a source."""
    stream = iter(records)
    peeked: list[Any] = []

    def names() -> list[str]:
        """Return the keys of the first record, which is kept for the reading."""
        peeked.extend(islice(stream, 0 if peeked else 1))
        if peeked and not isinstance(peeked[0], Mapping):
            raise _no_dict(Place(name, "row", 0), peeked[0])
        return list(map(str, peeked[0])) if peeked else []

    def read(columns: Columns, batch_rows: int, bad: Bad) -> Iterator[Batch]:
        """Yield the batches."""
        if isinstance(records, Sequence):  # a wrong name is told before anything is read
            require_seen(name, _located(name, records, lambda _error: None), columns)
        located = _located(name, chain(peeked, stream), bad)
        yield from batches(_required_by_end(name, located, columns), columns, batch_rows, bad)

    return Source(name, names, read, len(records) if isinstance(records, Sequence) else None)


def _located(name: str, records: Iterable[Any], bad: Bad) -> Iterator[Located]:
    for number, record in enumerate(records):
        place = Place(name, "row", number)
        if isinstance(record, Mapping):
            yield place, record
        else:
            bad(_no_dict(place, record))


def _required_by_end(name: str, located: Iterable[Located], columns: Columns) -> Iterator[Located]:
    """Yield the records; then raise if a metadata column was in none of them."""
    missing = dict.fromkeys(columns.metadata_sources)
    there: dict[str, None] = {}
    for place, record in located:
        if missing:
            there |= dict.fromkeys(record)
            missing = {key: None for key in missing if key not in record}
        yield place, record
    if missing and there:
        raise no_column(name, missing, there)


def _no_dict(place: Place, value: Any) -> InputError:
    return InputError(f"{place}: expected a dict, not {brief(value)}")


def _array_source(name: str, array: Any) -> Source:
    check_array(name, array, (2,))

    def read(columns: Columns, batch_rows: int, bad: Bad) -> Iterator[Batch]:
        """Yield the batches."""
        return read_rows(name, array, columns, batch_rows, bad)

    return Source(name, lambda: list(ARRAY_COLUMNS), read, len(array), bare=True)


def _pandas_source(name: str, frame: Any) -> Source:
    names = list(map(str, frame.columns))

    def read(columns: Columns, batch_rows: int, bad: Bad) -> Iterator[Batch]:
        """Yield the batches."""
        return table_batches(name, names, pandas_slices(frame, batch_rows), columns, bad)

    return Source(name, lambda: names, read, len(frame))


def _arrow_source(name: str, table: Any) -> Source:
    stream = arrow_stream(name, table)
    names = list(stream.schema.names)

    def read(columns: Columns, batch_rows: int, bad: Bad) -> Iterator[Batch]:
        """Yield the batches."""
        asked = list(columns.asked(names, name))
        slices = arrow_slices(name, (part.select(asked) for part in stream), batch_rows)
        return table_batches(name, names, slices, columns, bad)

    return Source(name, lambda: names, read, len(table) if hasattr(table, "__len__") else None)
