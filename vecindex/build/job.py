"""What one build works with: sources, embedder, cache and target."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecindex.build.meter import MeteredEmbedder
from vecindex.build.options import BuildOptions, Settled
from vecindex.build.reader import Reader, list_of_sources
from vecindex.build.target import Target
from vecindex.embed import Embedder
from vecindex.embed.cache import CachedEmbedder
from vecindex.errors import EmbedderError, InputError, VecindexError
from vecindex.io import Batch, Columns, find_columns, open_source

_ROW = re.compile(r"\brows? (\d+)")


@dataclass(frozen=True)
class Job:
    """What one build works with.

    Parameters
    ----------
    target : Target
        Where.
    reader : Reader
        The records.
    columns : Columns
        What they hold.
    options : BuildOptions
        How.
    meter : MeteredEmbedder or None
        What embeds texts, measured; None if there is nothing, or it cannot be restored.
    cache : CachedEmbedder or None
        The same, with a cache before it.
    """

    target: Target
    reader: Reader
    columns: Columns
    options: BuildOptions
    meter: MeteredEmbedder | None
    cache: CachedEmbedder | None

    @classmethod
    def of(
        cls,
        sources: Any,
        out: str | os.PathLike[str],
        columns: Columns | None,
        embedder: Any,
        options: BuildOptions,
    ) -> Job:
        """Return the job, after checking all that can be checked without reading the records.

        Raises
        ------
        InputError
            If columns are not found, or do not go with the options.
        EmbedderError
            If texts are to be embedded, but there is no embedder or another one than before.
        IndexPathError
            If there is something else than an index.
        """
        columns = columns or _found(sources, options.split)
        if options.chunk is not None and (columns.vector or not columns.text):
            raise InputError("chunk is for texts that are embedded, not for given vectors")
        target = Target.of(Path(out))
        model = target.embedder(embedder)
        wanted = columns.text and not columns.vector and (options.chunk or not target.begun)
        if wanted and model is None:
            raise EmbedderError("texts need an embedder, or a column of vectors: name one of them")
        reader = Reader(sources, columns, options)
        meter = None if model is None else MeteredEmbedder(model)
        cache = None
        if meter is not None and options.cache is not None:
            cache = CachedEmbedder(meter, target.beside(Path(options.cache)))
        return cls(target, reader, columns, options, meter, cache)

    @property
    def embedder(self) -> Embedder | None:
        """What the index is given."""
        return self.cache or self.meter

    @property
    def settled(self) -> Settled:
        """What all builds of one index must agree on."""
        ids = "column" if self.columns.id else "position"
        return Settled(ids, self.options.chunk, self.options.overlap)

    def close(self) -> None:
        """Close the cache's file."""
        if self.cache is not None:
            self.cache.close()

    @contextmanager
    def located(self, batch: Batch, rows: Sequence[int]) -> Iterator[None]:
        """Add to errors in putting in some rows of a batch which record of a source is meant."""
        try:
            yield
        except Exception as error:  # a function that embeds may raise anything
            row = self._blamed(error, batch, rows)
            if row is None:
                words = f"while records from {batch.place(rows[0])} on were put in"
            else:
                words = f"that is the record in {batch.place(row)}"
            error.add_note(words)
            raise

    def _blamed(self, error: Exception, batch: Batch, rows: Sequence[int]) -> int | None:
        """Return the row of the batch that an error is about, None if it names none."""
        if not isinstance(error, VecindexError):
            return None
        text = self.meter.blamed(error) if self.meter and isinstance(error, EmbedderError) else None
        if text is not None and batch.texts is not None:
            return next((row for row in rows if (batch.texts[row] or "") == text), None)
        found = _ROW.search(str(error))
        return rows[int(found[1])] if found and int(found[1]) < len(rows) else None


def _found(sources: Any, split: str | None) -> Columns:
    first = open_source(list_of_sources(sources)[0], split=split)
    return find_columns(first.names(), source=first.name)
