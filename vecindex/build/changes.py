"""What a batch of records changes in an index, and carrying that out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vecindex.arrays import unit_rows
from vecindex.build.options import Progress
from vecindex.build.reader import take
from vecindex.errors import UnknownIdError
from vecindex.index import VectorIndex
from vecindex.io import Batch
from vecindex.results import Id, Record
from vecindex.store.codec import RecordPacker

_SAME = 1e-6  # of a unit row's entries: float32 rounding of another batch


@dataclass(frozen=True)
class Changes:
    """The rows of a batch by what has to be done with them.

    Parameters
    ----------
    put : list of int
        Rows that are new, or whose text or given vector is another one.
    described : list of int
        Rows of which only the metadata is another one: their vectors stay.
    added : int
        How many of `put` are new.
    """

    put: list[int]
    described: list[int]
    added: int


def changes_of(index: VectorIndex, batch: Batch) -> Changes:
    """Return what has to be done for an index to hold a batch.

    Parameters
    ----------
    index : VectorIndex
        Only read.
    batch : Batch
        With ids.

    Returns
    -------
    Changes
        Rows that are in neither list are in the index as they are here.
    """
    ids = batch.ids or []
    known = _known(index, ids, vectors=batch.vectors is not None)
    if not known:
        return Changes(list(range(len(batch))), [], len(batch))
    none = [None] * len(batch)
    texts = batch.texts or none
    pack = RecordPacker().pack_all
    given = dict(enumerate(pack(ids, texts, batch.metadata)))
    rows = [row for row, value in enumerate(ids) if value in known]
    stored = [known[ids[row]] for row in rows]
    packed = pack(
        [record.id for record in stored],
        [record.text for record in stored],
        [record.metadata for record in stored],
    )
    moved = _moved(batch, rows, stored)
    put, described = set(range(len(batch))).difference(rows), []
    for row, record, bytes_ in zip(rows, stored, packed, strict=True):
        if row in moved or (batch.vectors is None and texts[row] != record.text):
            put.add(row)
        elif given[row] != bytes_:
            described.append(row)
    return Changes(sorted(put), described, len(batch) - len(rows))


def put(
    index: VectorIndex, batch: Batch, rows: Sequence[int], *, new: bool, progress: Progress | None
) -> None:
    """Put rows of a batch into an index, embedding them unless they have vectors; durable.

    Parameters
    ----------
    index : VectorIndex
        Open for writing.
    batch : Batch
        With ids.
    rows : sequence of int
        Which rows of it.
    new : bool
        Promises that the index has none of their ids.
    progress : callable or None
        As for `VectorIndex.add`.
    """
    if rows:
        verb = index.add if new else index.upsert
        verb(**take(batch, rows).arguments(), progress=progress)


def describe(index: VectorIndex, batch: Batch, rows: Sequence[int]) -> None:
    """Replace the metadata (and, where vectors are given, the texts) of rows; vectors stay."""
    if rows:
        some = take(batch, rows)
        records = index.get(some.ids or [], vectors=True)
        vectors = np.stack([record.vector for record in records if record.vector is not None])
        index.upsert(**some.arguments() | {"vectors": vectors})


def _known(index: VectorIndex, ids: Sequence[Id], *, vectors: bool) -> dict[Id, Record]:
    """Return the records that an index has of some ids."""
    if not len(index):
        return {}
    try:
        records = index.get(ids, vectors=vectors)
    except UnknownIdError:
        records = index.get([value for value in ids if value in index], vectors=vectors)
    return {record.id: record for record in records}


def _moved(batch: Batch, rows: Sequence[int], stored: Sequence[Record]) -> set[int]:
    """Return the rows whose given vectors are not the stored ones."""
    if batch.vectors is None:
        return set()
    before = np.stack([record.vector for record in stored if record.vector is not None])
    now = unit_rows(batch.vectors[list(rows)])
    if now.shape != before.shape:
        return set(rows)  # of another dimension: the index will say so
    far = np.abs(now - before).max(axis=1) > _SAME
    return {row for row, other in zip(rows, far.tolist(), strict=True) if other}
