"""Which columns of which sources commands read, and adding them to an open index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecindex.cli.options import split_names
from vecindex.cli.output import Progress, counted
from vecindex.errors import InputError

if TYPE_CHECKING:
    from vecindex.index import VectorIndex
    from vecindex.io import Columns


@dataclass(frozen=True)
class Intake:
    """What to read, and how to put it into an index.

    Parameters
    ----------
    sources : list of str
        What to read, in this order.
    columns : Columns
        What they hold.
    batch_rows : int
        Rows of one atomic, durable call.
    upsert : bool
        Replace rows whose ids are known.
    split : str or None
        Which split of data sets that have several.
    """

    sources: list[str]
    columns: Columns
    batch_rows: int
    upsert: bool = False
    split: str | None = None

    def fill(self, index: VectorIndex, progress: Progress | None) -> Iterator[int]:
        """Add everything; yield the number of rows so far after each batch, which is durable."""
        from vecindex.io import read_batches

        rows = 0
        put = index.upsert if self.upsert else index.add
        for source in self.sources:
            batches = read_batches(source, self.columns, self.batch_rows, split=self.split)
            for batch in batches:
                try:
                    put(**batch.arguments(), progress=_after(rows, progress))
                except InputError as error:
                    error.add_note(
                        f"rows are counted from 0 in a batch of {counted(len(batch), 'record')}, "
                        f"which begins in {batch.place(0)}"
                    )
                    raise
                rows += len(batch)
                if progress is not None:
                    progress("rows", rows, None)
                yield rows


def columns_from(
    sources: list[str],
    text: str | None,
    id: str | None,
    metadata: list[str] | None,
    vector: str | None,
    split: str | None,
) -> Columns:
    """Return the columns that the options name, and others by their plain names."""
    from vecindex.io import find_columns, open_source

    first = open_source(sources[0], split=split)
    return find_columns(
        first.names(),
        text=text,
        id=id,
        metadata=split_names(metadata or ()),
        vector=vector,
        source=first.name,
    )


def _after(rows: int, progress: Progress | None) -> Progress | None:
    """Return a callback that counts a call's rows on from `rows`."""
    if progress is None:
        return None

    def report(_stage: str, done: int, _total: int | None) -> None:
        progress("rows", rows + done, None)

    return report
