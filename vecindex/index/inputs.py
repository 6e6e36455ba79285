"""What callers hand in, checked and put into one form before anything is changed."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array, unit_rows
from vecindex.errors import (
    DimensionError,
    DuplicateIdError,
    EmbedderError,
    IdTypeError,
    InputError,
)
from vecindex.results import Id, Metadata

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_SHOWN = 10


@dataclass(frozen=True)
class Rows:
    """The columns of one call, of equal length.

    Parameters
    ----------
    count : int
        Number of rows.
    texts : sequence of (str or None), or None
        Texts, one per row.
    vectors : ndarray of float32, shape (count, dim), or None
        Unit rows, None if the texts are to be embedded.
    ids : list of (str or int), or None
        None if they are to be made.
    metadata : sequence of (dict or None), or None
        Metadata, one per row.
    """

    count: int
    texts: Sequence[str | None] | None
    vectors: Float32Array | None
    ids: list[Id] | None
    metadata: Sequence[Metadata | None] | None


def check_rows(
    texts: Iterable[str | None] | None,
    vectors: Any,
    ids: Iterable[Id] | None,
    metadata: Iterable[Metadata | None] | None,
    dim: int | None,
) -> Rows:
    """Return the columns of a call after checking all that can be checked without the index.

    Raises
    ------
    InputError
        If lengths differ, there is nothing to add, or a text or metadata entry has a wrong type.
    DimensionError, VectorValueError
        If the vectors cannot be used.
    IdTypeError, DuplicateIdError
        If an id cannot be one, or occurs twice.
    """
    if texts is None and vectors is None:
        raise InputError("give texts, or vectors, or both")
    text_list = None if texts is None else as_list(texts, "texts", str)
    metadata_list = None if metadata is None else as_list(metadata, "metadata", dict)
    id_list = None if ids is None else check_ids(ids)
    rows = None
    if vectors is not None:
        rows = _unit_rows_or_none(vectors, dim, "vectors")
    lengths = {
        name: len(column)
        for name, column in {
            "texts": text_list, "vectors": rows, "ids": id_list, "metadata": metadata_list,
        }.items()
        if column is not None
    }  # fmt: skip
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise InputError(f"all columns of a call need the same number of rows; got {found}")
    if rows is None and text_list is not None and None in text_list:
        raise InputError(
            f"row {text_list.index(None)} has neither a text nor a vector; give it one of them"
        )
    if id_list is not None:
        _refuse_twins(id_list)
    return Rows(next(iter(lengths.values())), text_list, rows, id_list, metadata_list)


def _unit_rows_or_none(vectors: Any, dim: int | None, what: str) -> Float32Array:
    """Return unit rows, shape (0, dim) for an empty list."""
    given = vectors if isinstance(vectors, np.ndarray) else _listed(vectors, what)
    scalar = isinstance(given, np.ndarray) and given.ndim == 0
    if not scalar and not len(given):
        return np.empty((0, dim or 0), dtype=np.float32)
    return unit_rows(given, dim, what)


def _listed(values: Any, what: str) -> list[Any]:
    try:
        return list(values)
    except TypeError as error:
        raise InputError(
            f"{what} must be a list with one entry per row, not {type(values).__name__}"
        ) from error


def as_list(values: Iterable[Any], name: str, kind: type) -> list[Any]:
    """Return a column's entries; `InputError` if one is neither None nor of a type."""
    if isinstance(values, str | bytes | dict):
        raise InputError(
            f"{name} must be a list with one entry per row, not one {type(values).__name__}"
        )
    entries = _listed(values, name)
    if set(map(type, entries)) <= {kind, type(None)}:
        return entries
    for row, entry in enumerate(entries):
        if entry is not None and not isinstance(entry, kind):
            raise InputError(
                f"row {row}: {name} must hold {kind.__name__} or None, not {type(entry).__name__}"
            )
    return entries


def check_ids(ids: Iterable[Id]) -> list[Id]:
    """Return the ids as plain `str` and `int`.

    Raises
    ------
    IdTypeError
        If an id is of another type, out of range, or not valid Unicode; rows are named.
    """
    if isinstance(ids, str | bytes | int):
        raise IdTypeError(f"ids must be a list of ids; for one id give [{ids!r}]")
    if not isinstance(ids, Iterable):
        raise IdTypeError(f"ids must be a list of ids, not {type(ids).__name__}")
    entries = list(ids)
    if set(map(type, entries)) == {str} and all(map(str.isascii, entries)):  # type: ignore[arg-type]  # all are str
        return entries
    for row, value in enumerate(entries):
        # Exact types first: bool is an int, and subclasses are stored as their base.
        if type(value) is str and value.isascii():
            continue
        if type(value) is int and _INT_MIN <= value <= _INT_MAX:
            continue
        entries[row] = _plain_id(value, row)
    return entries


def _plain_id(value: Any, row: int) -> Id:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise IdTypeError(f"row {row}: the id {value!a} is not valid Unicode") from error
        return str.__str__(value)  # a subclass, as of an enum, may print as something else
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if _INT_MIN <= value <= _INT_MAX:
            return int(value)
        raise IdTypeError(f"row {row}: the id {value} does not fit into 64 bits")
    raise IdTypeError(
        f"row {row}: an id must be str or int, not {type(value).__name__} ({value!r})"
    )


def _refuse_twins(ids: Sequence[Id]) -> None:
    if len(set(ids)) == len(ids):
        return
    first: dict[Id, int] = {}
    for row, value in enumerate(ids):
        if value in first:
            raise DuplicateIdError(
                f"the id {value!r} occurs twice in one call: rows {first[value]} and {row}"
            )
        first[value] = row


def refuse_known(ids: Sequence[Id], known: Sequence[int]) -> None:
    """Raise `DuplicateIdError` naming the rows of ids that the index has already."""
    if not len(known):
        return
    shown = ", ".join(f"{ids[row]!r} (row {row})" for row in known[:_SHOWN])
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    raise DuplicateIdError(
        f"the index has these ids already: {shown}{more}; nothing was added. "
        "Use upsert to replace rows"
    )


def make_ids(first: int, count: int) -> list[Id]:
    """Return `count` int ids from `first` on."""
    if first + count - 1 > _INT_MAX:
        raise InputError("no int ids are left after the greatest one used; give ids")
    return list(range(first, first + count))


def check_k(k: object) -> None:
    """Raise `InputError` unless k is an int of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k must be an int >= 1, not {reprlib.repr(k)}")


def check_share(value: object, name: str) -> float:
    """Return a recall as a float in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        given = reprlib.repr(value)
        raise InputError(f"{name} must be a number above 0 and at most 1, not {given}")
    return float(value)


@dataclass(frozen=True)
class Query:
    """What was asked: one query or several, texts or vectors.

    Parameters
    ----------
    single : bool
        One query, to be answered with one `Hits`.
    texts : list of str or None
        Queries that must be embedded.
    vectors : array or None
        Queries that are vectors already, shape (q, dim), not checked.
    """

    single: bool
    texts: list[str] | None = None
    vectors: Any = None


def read_query(query: Any) -> Query:
    """Return which kind of query `query` is.

    Raises
    ------
    InputError
        If it is neither a text, a vector, nor a list of one kind.
    """
    if isinstance(query, str):
        return Query(single=True, texts=[query])
    if isinstance(query, np.ndarray) and query.dtype.kind in "fiu":
        if query.ndim not in (1, 2):
            raise DimensionError(f"a query must have shape (dim,) or (q, dim), not {query.shape}")
        return Query(single=query.ndim == 1, vectors=query[None] if query.ndim == 1 else query)
    listed = isinstance(query, Sequence) or (isinstance(query, np.ndarray) and query.ndim)
    if not listed or isinstance(query, bytes):
        raise InputError(
            f"a query must be a str, a vector, or a list of one of them, not {type(query).__name__}"
        )
    entries = list(query)
    if entries and all(isinstance(entry, str) for entry in entries):
        return Query(single=False, texts=[str(entry) for entry in entries])
    if any(isinstance(entry, str) for entry in entries):
        raise InputError("a list of queries must hold only texts or only vectors")
    if entries and all(isinstance(entry, int | float | np.number) for entry in entries):
        return Query(single=True, vectors=[entries])
    return Query(single=False, vectors=entries)


def query_rows(vectors: Any, dim: int | None) -> Float32Array:
    """Return query vectors as unit rows of the index's dimension, shape (q, dim)."""
    if isinstance(vectors, np.ndarray) and vectors.ndim == 2 and len(vectors):
        return unit_rows(vectors, dim, "queries")
    return _unit_rows_or_none(vectors, dim, "queries")


def embedded_rows(embeddings: Any, count: int, dim: int | None, name: str) -> Float32Array:
    """Return an embedder's output as unit rows; errors name the embedder."""
    try:
        rows = unit_rows(embeddings, dim, "embeddings") if count else np.empty((0, dim or 0), "f4")
    except DimensionError as error:
        raise DimensionError(f"embedder {name}: {error}") from error
    except InputError as error:
        raise EmbedderError(f"embedder {name}: {error}") from error
    if len(rows) != count:
        raise EmbedderError(f"embedder {name} returned {len(rows)} embeddings for {count} texts")
    return rows
