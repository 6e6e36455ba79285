"""From source files into an open index, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vecindex.cli.options import DEFAULT_EMBEDDER, split_names
from vecindex.cli.output import Progress, counted
from vecindex.errors import InputError

if TYPE_CHECKING:
    from vecindex.index import VectorIndex
    from vecindex.io import Batch, Columns


@dataclass(frozen=True)
class Intake:
    """What to read, and how to put it into an index.

    Parameters
    ----------
    sources : list of Path
        The files, read in this order.
    columns : Columns
        What they hold.
    batch_rows : int
        Rows of one atomic, durable call.
    upsert : bool
        Replace rows whose ids are known.
    """

    sources: list[Path]
    columns: Columns
    batch_rows: int
    upsert: bool = False

    def fill(self, index: VectorIndex, progress: Progress | None) -> Iterator[int]:
        """Add everything; yield the number of rows so far after each batch, which is durable."""
        rows = 0
        for source, batch in self._batches():
            put = index.upsert if self.upsert else index.add
            try:
                put(**_keywords(batch), progress=_after(rows, progress))
            except InputError as error:
                error.add_note(
                    f"rows are counted from 0 in a batch of {counted(len(batch), 'record')}, "
                    f"which begins at {_place(source, batch)} of {source}"
                )
                raise
            rows += len(batch)
            if progress is not None:
                progress("rows", rows, None)
            yield rows

    def _batches(self) -> Iterator[tuple[Path, Batch]]:
        from vecindex.io import read_batches

        for source in self.sources:
            for batch in read_batches(source, self.columns, self.batch_rows):
                yield source, batch


def columns_from(
    sources: list[Path],
    text: str | None,
    id: str | None,
    metadata: list[str] | None,
    vector: str | None,
) -> Columns:
    """Return the columns that the options name; naming neither texts nor vectors is wrong usage."""
    from vecindex.io import Columns, column_names

    needy = [source for source in sources if source.suffix.lower() != ".npy"]
    if needy and not text and not vector:
        there = ", ".join(column_names(needy[0])) or "nothing"
        raise typer.BadParameter(
            f"say which column holds the texts (--text) or the vectors (--vector); "
            f"{needy[0]} has: {there}"
        )
    return Columns(text=text, id=id, metadata=split_names(metadata or ()), vector=vector)


def embedder_for(named: str | None, columns: Columns) -> str | None:
    """Return the embedder's name: the one given, or the default where texts must be embedded."""
    return named or (DEFAULT_EMBEDDER if columns.text and not columns.vector else None)


def _keywords(batch: Batch) -> dict[str, Any]:
    columns = {
        "texts": batch.texts,
        "vectors": batch.vectors,
        "ids": batch.ids,
        "metadata": batch.metadata,
    }
    return {name: column for name, column in columns.items() if column is not None}


def _after(rows: int, progress: Progress | None) -> Progress | None:
    """Return a callback that counts a call's rows on from `rows`."""
    if progress is None:
        return None

    def report(_stage: str, done: int, _total: int | None) -> None:
        progress("rows", rows + done, None)

    return report


def _place(source: Path, batch: Batch) -> str:
    unit = "row" if source.suffix.lower() in (".npy", ".parquet") else "line"
    return f"{unit} {batch.first_line}"
