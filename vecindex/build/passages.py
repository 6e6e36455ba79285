"""Records as passages of their texts, each a row of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vecindex.build.options import BuildOptions
from vecindex.embed.chunks import passages
from vecindex.errors import EmbedderError, InputError
from vecindex.index import VectorIndex
from vecindex.io import Batch
from vecindex.results import Id, Metadata

PARENT = "parent"
"""The metadata key under which a passage has the id of its record."""


def split(batch: Batch, embedder: Any, options: BuildOptions) -> Batch:
    """Return the passages of a batch of records; the batch itself if none are asked for.

    Parameters
    ----------
    batch : Batch
        With ids and texts.
    embedder : Embedder
        Whose tokens are counted.
    options : BuildOptions
        Their size and overlap; no size returns the batch.

    Returns
    -------
    Batch
        Ids are `id#0`, `id#1` ...; places are those of the records.

    Raises
    ------
    InputError
        If a record has metadata of its own under `"parent"`.
    EmbedderError
        If the text cannot be split.
    """
    if options.chunk is None:
        return batch
    texts: list[str | None] = []
    ids: list[Id] = []
    metadata: list[Metadata] = []
    numbers: list[int] = []
    for row, (record_id, text) in enumerate(zip(batch.ids or [], batch.texts or [], strict=True)):
        own = batch.metadata[row] if batch.metadata else {}
        if PARENT in own:
            raise InputError(
                f"{batch.place(row)}: the metadata has a key {PARENT!r} already, which passages "
                "need for the id of their record; leave it out, or build without chunk"
            )
        try:
            found = passages(embedder, text or "", options.chunk, options.overlap)
        except EmbedderError as error:
            error.add_note(f"while {batch.place(row)} was split into passages")
            raise
        texts += found
        ids += [f"{record_id}#{number}" for number in range(len(found))]
        metadata += [{**own, PARENT: record_id} for _ in found]
        numbers += [batch.numbers[row]] * len(found)
    return replace(batch, texts=texts, ids=ids, metadata=metadata, numbers=numbers)


def surplus(index: VectorIndex, ids: Sequence[Id]) -> list[Id]:
    """Return the ids of passages in an index that follow on those of whole records.

    Parameters
    ----------
    index : VectorIndex
        Only read.
    ids : sequence of str
        All passages of some records, in order.

    Returns
    -------
    list of str
        Of each of the records, what follows on its last passage.
    """
    counts: dict[str, int] = {}
    for passage in ids:
        parent, _, number = str(passage).rpartition("#")
        counts[parent] = int(number) + 1
    found: list[Id] = []
    for parent, count in counts.items():
        next_one = count
        while (follower := f"{parent}#{next_one}") in index:
            found.append(follower)
            next_one += 1
    return found
