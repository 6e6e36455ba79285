"""The records of all sources, which a build reads twice: first to check, then to put in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from vecindex.build.known import KnownIds
from vecindex.build.options import BuildOptions
from vecindex.errors import DuplicateIdError, InputError
from vecindex.io import Batch, Columns, Skipped, open_source
from vecindex.io.records import Bad, refuse
from vecindex.results import Id

T = TypeVar("T")
Counted = Callable[[int], object]
"""Called with the number of records so far."""


@dataclass
class Census:
    """What a first reading found.

    Parameters
    ----------
    ids : KnownIds
        Of all records that can be read.
    records : int
        Those that have something to be stored.
    skipped : int
        Those left out.
    """

    ids: KnownIds
    records: int = 0
    skipped: int = 0


class Reader:
    """Reads sources in batches, every record with an id.

    Parameters
    ----------
    sources : any
        What `read_batches` reads, or a list of paths.
    columns : Columns
        What they hold. Without a column of ids, these are the records' positions, counted from 0
        over all sources.
    options : BuildOptions
        How many records make a batch, and what happens to bad ones.
    """

    def __init__(self, sources: Any, columns: Columns, options: BuildOptions) -> None:
        self._sources = list_of_sources(sources)
        self._columns = columns
        self._options = options

    def batches(self, skipped: Skipped | None = None) -> Iterator[Batch]:
        """Yield all usable records with ids; `skipped` counts others, if they may be left out."""
        bad: Bad = (skipped or Skipped()) if self._options.skip_bad else refuse
        position = 0
        for source in self._sources:
            opened = open_source(source, split=self._options.split)
            for batch in opened.batches(self._columns, self._options.batch_rows, bad):
                made: list[Id] = list(range(position, position + len(batch)))
                position += len(batch)
                yield replace(batch, ids=batch.ids or made)

    def census(self, seen: Callable[[Batch], object], progress: Counted) -> Census:
        """Read everything once and check it.

        Parameters
        ----------
        seen : callable
            Given each batch.
        progress : callable
            Given the number of records so far.

        Returns
        -------
        Census
            What there is.

        Raises
        ------
        InputError
            If there are no records, one cannot be read, or ids are of different types.
        DuplicateIdError
            If an id occurs twice: the message names the first two places.
        """
        found, skipped = Census(KnownIds()), Skipped()
        first: tuple[str, Id] | None = None
        for batch in self.batches(skipped):
            assert batch.ids is not None
            first = first or (batch.place(0), batch.ids[0])
            if type(batch.ids[0]) is not type(first[1]):
                raise InputError(
                    f"{batch.place(0)}: the id {batch.ids[0]!r} is not of the type of the first "
                    f"one, {first[1]!r} in {first[0]}; all sources of a build need one type of ids"
                )
            found.ids.extend(batch.ids)
            found.records += len(batch)
            seen(batch)
            progress(found.records)
        found.skipped = skipped.count
        if not found.records:
            opened = [open_source(source, split=self._options.split) for source in self._sources]
            names = ", ".join(source.name for source in opened)
            left_out = f" ({found.skipped} left out)" if found.skipped else ""
            raise InputError(f"no records in {names}{left_out}: there is nothing to build")
        self._refuse_twins(found.ids)
        return found

    def _refuse_twins(self, ids: KnownIds) -> None:
        for first, second in ids.twins():
            one, two = self._record(first), self._record(second)
            if one[1] == two[1]:  # else they only share a hash
                raise DuplicateIdError(
                    f"the id {one[1]!r} occurs twice: in {one[0]}, and in {two[0]}. Every record "
                    "needs an id of its own; nothing was changed"
                )

    def _record(self, number: int) -> tuple[str, Id]:
        """Return place and id of a usable record, by reading again as far as that."""
        for batch in self.batches():
            assert batch.ids is not None
            if number < len(batch):
                return batch.place(number), batch.ids[number]
            number -= len(batch)
        raise InputError("a source has changed while it was read")


def list_of_sources(sources: Any) -> list[Any]:
    """Return the sources one by one: a list is one source of dicts, unless it holds paths.

    Raises
    ------
    InputError
        If there is none, or it can be read only once.
    """
    if isinstance(sources, Iterator):
        raise InputError(
            "a build reads its sources twice, an iterator can be read once: give what can be "
            "iterated again, such as a list, a data set or a file"
        )
    several = isinstance(sources, list | tuple) and all(map(_is_path, sources))
    listed = list(sources) if several else [sources]
    if not listed:
        raise InputError("there are no sources: name at least one")
    for source in listed:
        if _is_path(source) and (Path(source).is_fifo() or Path(source).is_char_device()):
            raise InputError(
                f"{source} is a pipe, which can be read once, but a build reads its sources twice: "
                "write it to a file first"
            )
    return listed


def _is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(source, str | os.PathLike)


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Return some rows of a batch, in that order."""
    if len(rows) == len(batch):
        return batch
    return replace(
        batch,
        texts=_some(batch.texts, rows),
        vectors=None if batch.vectors is None else batch.vectors[list(rows)],
        ids=_some(batch.ids, rows),
        metadata=_some(batch.metadata, rows),
        numbers=[batch.numbers[row] for row in rows],
    )


def _some(column: list[T] | None, rows: Sequence[int]) -> list[T] | None:
    return None if column is None else [column[row] for row in rows]
