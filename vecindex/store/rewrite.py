"""Rewriting parts into one new segment: how the log becomes segments and space comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int64Array
from vecindex.store.codec import DEAD_RECORD
from vecindex.store.columns import has_arrow, join_columns, write_columns
from vecindex.store.files import Directory
from vecindex.store.ids import IdColumn, write_ids
from vecindex.store.manifest import SegmentEntry
from vecindex.store.records import write_records
from vecindex.store.segment import Part
from vecindex.store.vectors import write_vectors

if TYPE_CHECKING:
    from vecindex.filters.masks import Columns

_CHUNK_ROWS = 4096

Poll = Callable[[], object]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Source:
    """One part to be rewritten.

    Parameters
    ----------
    part : Part
        The rows.
    dead : ndarray of bool, shape (part.count,), or None
        Removed rows.
    keep_dead : bool
        Keep removed rows in place, because a structure knows the part by row number. Their
        texts are dropped all the same.
    """

    part: Part
    dead: BoolArray | None
    keep_dead: bool = False

    @property
    def keep(self) -> BoolArray:
        """Rows that are written, shape (part.count,)."""
        if self.dead is None or self.keep_dead:
            return np.ones(self.part.count, dtype=np.bool_)
        return np.logical_not(self.dead)

    @property
    def dead_kept(self) -> BoolArray:
        """Which of the written rows are removed ones."""
        keep = self.keep
        return np.zeros(len(keep), dtype=np.bool_)[keep] if self.dead is None else self.dead[keep]

    def picked(self, count: int) -> Int64Array | None:
        """Return the rows that are written, -1 for removed ones; None if they are all of `count`.

        Parameters
        ----------
        count : int
            At least `part.count`.

        Returns
        -------
        ndarray of int64, shape (written rows,), or None
            Rising, apart from the removed ones.
        """
        if self.dead is None:
            return None if count == self.part.count else np.arange(self.part.count)
        rows = np.arange(self.part.count)
        if self.keep_dead:
            rows[self.dead] = -1
        return rows[self.keep]


def rewrite(
    directory: Directory,
    number: int,
    sources: Sequence[Source],
    dim: int,
    poll: Poll,
    *,
    hurry: bool = False,
) -> tuple[SegmentEntry, BoolArray]:
    """Write one segment from several parts.

    Parameters
    ----------
    directory : Directory
        The index directory.
    number : int
        The new files' number.
    sources : sequence of Source
        In row order.
    dim : int
        Dimension of the vectors.
    poll : callable
        Called between chunks; raises to stop.
    hurry : bool
        Join columns on a thread of their own while the disk has vectors and records to write, which
        takes about as long. Not for work in the background, which leaves a core to others.

    Returns
    -------
    SegmentEntry
        The new segment, on stable storage but not committed.
    ndarray of bool, shape (rows,)
        Removed rows that were kept.
    """
    dead = np.concatenate([source.dead_kept for source in sources])
    rows = len(dead)
    joining = partial(_columns, sources, poll)
    joined_columns = _beside(joining) if hurry else joining
    vectors = write_vectors(
        directory, f"vectors-{number}.f32", _vectors(sources, poll), (rows, dim)
    )
    records = write_records(directory, f"rows-{number}.vxr", _records(sources, poll), rows)
    column = IdColumn.concatenate(
        [
            source.part.column() if source.dead is None else source.part.column().take(source.keep)
            for source in sources
        ]
    )
    ids = write_ids(directory, f"ids-{number}.vxi", column, np.logical_not(dead))
    joined = joined_columns()
    columns = None
    if joined is not None:
        columns = write_columns(directory, f"columns-{number}.arrow", joined)
    return SegmentEntry(rows, vectors, records, ids, columns), dead


def _beside(call: Callable[[], T]) -> Callable[[], T]:
    """Start a call on a thread of its own, or make it where none can be had; return its result.

    The thread is a daemon: who gives up, or exits, does not wait for it.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # raised again where the result is asked for
            result.set_exception(error)

    try:
        threading.Thread(target=run, name="vecindex-columns", daemon=True).start()
    except RuntimeError:
        run()
    return result.result


def _columns(sources: Sequence[Source], poll: Poll) -> Columns | None:
    """Return the columns of all sources; None if there are none, or one cannot say what it has."""
    if not any(source.part.has_metadata() for source in sources) or not has_arrow():
        return None
    joined = []
    for source in sources:
        poll()
        columns = source.part.columns()
        if columns is None:
            return None
        joined.append((columns, source.picked(columns.count)))
    return join_columns(joined)


def _vectors(sources: Sequence[Source], poll: Poll) -> Iterator[Float32Array]:
    for source in sources:
        rows = np.flatnonzero(source.keep)
        for start in range(0, len(rows), _CHUNK_ROWS):
            poll()
            chosen = rows[start : start + _CHUNK_ROWS]
            source.part.check_rows(chosen)
            whole = chosen[-1] - chosen[0] + 1 == len(chosen)
            vectors = source.part.vectors
            yield vectors[chosen[0] : chosen[-1] + 1] if whole else vectors[chosen]


def _records(sources: Sequence[Source], poll: Poll) -> Iterator[bytes]:
    for source in sources:
        poll()
        if source.dead is None:
            yield from source.part.scan_records()
            continue
        pairs = zip(source.part.scan_records(), source.keep.tolist(), strict=True)
        dead = iter(source.dead_kept.tolist())
        for row, (record, keep) in enumerate(pairs):
            if row % _CHUNK_ROWS == 0:
                poll()
            if keep:
                yield DEAD_RECORD if next(dead) else record
