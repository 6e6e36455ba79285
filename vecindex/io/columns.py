"""Which columns of a source hold what: named by the caller, or found by their plain names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from vecindex.errors import InputError

SPREAD = ".*"
"""Ending of a metadata column whose object's entries become the metadata."""

STAR = "*"
"""All other columns, as metadata; at the end of a vector column: one column per dimension."""

_TEXT = (
    "text", "texts", "content", "contents", "document", "documents", "body", "passage",
    "page_content", "chunk", "sentence", "sentences", "question", "questions",
)  # fmt: skip
_ID = ("id", "ids", "_id", "doc_id", "docid", "document_id", "uid", "uuid")
_VECTOR = ("embedding", "embeddings", "emb", "vector", "vectors", "vec")
_SHOWN = 40  # column names listed in a message; a source may have one for each dimension


@dataclass(frozen=True)
class Columns:
    """Which columns of a source hold what.

    Parameters
    ----------
    text : str or None
        The column of texts.
    id : str or None
        The column of ids; without one the index makes them.
    metadata : tuple of str
        Columns that become metadata entries of the same name. `"meta.*"` takes the object in
        column `meta` (or its JSON text) and makes each of its entries one: what `export` wrote
        is read back with `"metadata.*"`. `"*"` takes every column that is nothing else.
    vector : str or None
        The column of vectors, each a list of numbers. A name that ends in `*` and is no column
        stands for one column per dimension: `"*"` for `0`, `1`, `2` ..., `"emb_*"` for `emb_0`,
        `emb_1` ...; they may be in any order, but none may be missing.
    """

    text: str | None = None
    id: str | None = None
    metadata: tuple[str, ...] = ()
    vector: str | None = None

    @property
    def metadata_sources(self) -> tuple[str, ...]:
        """The columns by name that metadata is read from."""
        return tuple(name.removesuffix(SPREAD) for name in self.metadata if name != STAR)

    @property
    def required(self) -> tuple[str, ...]:
        """What every record must have; a vector may be several columns, see `vector_columns`."""
        return tuple(name for name in (self.text, self.id, self.vector) if name is not None)

    def vector_columns(self, there: Sequence[str], source: str) -> tuple[str, ...]:
        """Return the column of vectors, or the columns that hold one dimension each.

        Parameters
        ----------
        there : sequence of str
            The source's columns.
        source : str
            How messages call the source.

        Returns
        -------
        tuple of str
            Empty if no vectors are asked for; columns of a dimension each in their order.

        Raises
        ------
        InputError
            If a column of one dimension is missing between others.
        """
        if self.vector is None:
            return ()
        if self.vector in there or not self.vector.endswith(STAR):
            return (self.vector,)
        return _numbered(there, self.vector.removesuffix(STAR), source)

    def asked(self, there: Sequence[str], source: str) -> tuple[str, ...]:
        """Return the columns to read, each once, after checking that the source has them.

        Parameters
        ----------
        there : sequence of str
            The source's columns.
        source : str
            How messages call the source.

        Returns
        -------
        tuple of str
            Texts, ids, vectors and metadata, in this order.

        Raises
        ------
        InputError
            If a column does not exist, the message listing those that do, or exists twice.
        """
        vectors = self.vector_columns(there, source)
        named = [name for name in (self.text, self.id, *vectors) if name is not None]
        named += self.metadata_sources
        known = set(there)
        if missing := [name for name in named if name not in known]:
            raise no_column(source, missing, there)
        if twice := [name for name in named if list(there).count(name) > 1]:
            raise InputError(f"{source}: there is more than one column {twice[0]!r}")
        return tuple(dict.fromkeys([*named, *(there if STAR in self.metadata else ())]))


def find_columns(
    names: Iterable[str],
    *,
    text: str | Literal[False] | None = None,
    id: str | Literal[False] | None = None,
    metadata: str | Iterable[str] | None = None,
    vector: str | Literal[False] | None = None,
    source: str = "the source",
) -> Columns:
    """Return which columns hold what: those named, and others by their plain names.

    A name is plain whatever its case: `text`, `content`, `document`, `body`, `sentence`,
    `question` ...; `id`, `_id`, `doc_id` ...; `embedding`, `emb`, `vector` ..., or columns `0`,
    `1`, `2` ... of one dimension each. Of several, `text`, `id` and `embedding` come first;
    otherwise the caller must name one. Vectors are looked for only if no text column is named:
    who names texts wants them embedded, and names the vectors, too, to use them instead.

    Parameters
    ----------
    names : iterable of str
        The columns that there are.
    text : str, False or None
        The column of texts; None finds it, if there is one, False takes none.
    id : str, False or None
        The column of ids, likewise.
    metadata : str, iterable of str, or None
        As in `Columns`; nothing becomes metadata unless it is asked for.
    vector : str, False or None
        The column of vectors, likewise.
    source : str
        How messages call the source.

    Returns
    -------
    Columns
        With a column of texts, or of vectors, or both.

    Raises
    ------
    InputError
        If a named column does not exist, if several are plain, if no column of texts or vectors
        is found, the message listing the columns, or if there are no columns at all.

    Examples
    --------
    >>> find_columns(["doc_id", "Text", "year"])
    Columns(text='Text', id='doc_id', metadata=(), vector=None)
    """
    there = list(names)
    if not there:
        raise InputError(f"{source}: it has no records: there is no column to take")
    if vector is None and not text:
        vector = _plain(there, _VECTOR, "vector", source) or _all_dimensions(there, source)
    if text is None:
        text = _plain(there, _TEXT, "text", source)
    if id is None:
        id = _plain(there, _ID, "id", source)
    listed = (metadata,) if isinstance(metadata, str) else tuple(metadata or ())
    columns = Columns(text or None, id or None, listed, vector or None)
    if columns.text is None and columns.vector is None:
        raise InputError(
            f"{source}: no column is plainly the texts or the vectors; name one (text or vector); "
            f"there is: {shown(there)}"
        )
    # Without metadata: an object's keys may be absent from the first record, and come later.
    Columns(columns.text, columns.id, (), columns.vector).asked(there, source)
    return columns


def no_column(source: str, missing: Iterable[str], there: Iterable[str]) -> InputError:
    """Return the error for columns that a source does not have, listing what it has."""
    missing, there = list(missing), list(there)
    word = "column" if len(missing) == 1 else "columns"
    near = {name.lower(): name for name in there}
    alike = get_close_matches(missing[0].lower(), near, n=1, cutoff=0.7)
    hint = f" (did you mean {near[alike[0]]!r}?)" if alike else ""
    names = ", ".join(map(repr, missing[:_SHOWN]))
    return InputError(f"{source}: there is no {word} {names}{hint}; there is: {shown(there)}")


def shown(names: Sequence[str]) -> str:
    """Return column names as messages list them."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more or "nothing"


def _plain(there: Sequence[str], known: Sequence[str], role: str, source: str) -> str | None:
    found = [name for name in dict.fromkeys(there) if name.lower() in known]
    first = [name for name in found if name.lower() == known[0]]
    if len(first) == 1 or len(found) == 1:
        return (first or found)[0]
    if found:
        raise InputError(
            f"{source}: the {role} column may be any of {', '.join(map(repr, found))}; "
            f"name it, as in {role}={found[0]!r}"
        )
    return None


def _all_dimensions(there: Sequence[str], source: str) -> str | None:
    """Return `"*"` if there are columns 0 and 1: a single one called 0 may hold anything."""
    if {"0", "1"} <= set(there):
        _numbered(there, "", source)
        return STAR
    return None


def _numbered(there: Sequence[str], prefix: str, source: str) -> tuple[str, ...]:
    """Return the columns `prefix` + 0, 1, 2 ... by number, not one of them missing."""
    rests = [name.removeprefix(prefix) for name in there if name.startswith(prefix)]
    numbers = sorted({int(rest) for rest in rests if _is_number(rest)})
    if not numbers:
        raise no_column(source, [prefix + "0"], there)
    for expected, number in enumerate(numbers):
        if number != expected:
            raise InputError(
                f"{source}: the columns of a vector have a gap: there is "
                f"{prefix + str(numbers[-1])!r}, but no {prefix + str(expected)!r}"
            )
    return tuple(f"{prefix}{number}" for number in numbers)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or not text.startswith("0"))
