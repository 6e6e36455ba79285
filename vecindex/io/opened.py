"""A source that was opened: its columns are known, its records are still to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vecindex.errors import InputError
from vecindex.io.columns import Columns, find_columns, shown
from vecindex.io.records import Bad, Batch, refuse


@dataclass(frozen=True)
class Source:
    """Where records come from; made by `open_source` and read once.

    Parameters
    ----------
    name : str
        How messages call it.
    names : callable
        Returns its columns; for records that are dicts, the keys of the first.
    read : callable
        Takes columns, the rows of a batch and whom to tell of bad records; yields batches.
    rows : int or None
        How many records it has, if that is known without reading them.
    bare : bool
        Whether there are vectors alone, so that no column has to be named.
    """

    name: str
    names: Callable[[], list[str]]
    read: Callable[[Columns, int, Bad], Iterator[Batch]]
    rows: int | None = None
    bare: bool = False

    def batches(
        self, columns: Columns | None = None, batch_rows: int = 1000, skip_bad: Bad | None = None
    ) -> Iterator[Batch]:
        """Return the records in batches, see `read_batches`."""
        if isinstance(batch_rows, bool) or not isinstance(batch_rows, int) or batch_rows < 1:
            raise InputError(f"batch_rows must be an int of at least 1, not {batch_rows!r}")
        if columns is None:
            columns = find_columns(self.names(), source=self.name)
        if not (columns.required or columns.metadata or self.bare):
            raise InputError(
                f"{self.name}: no column was asked for; there is: {shown(self.names())}"
            )
        return self.read(columns, batch_rows, skip_bad or refuse)
