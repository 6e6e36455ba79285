"""What writers need of an index, so that they can stay below it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from vecindex.results import Record

ROWS = 1000
"""Records handled at once, between two calls of `progress`."""


class Rows(Protocol):
    """The live rows of an open index, in insertion order."""

    @property
    def path(self) -> Path:
        """The index directory."""

    @property
    def dim(self) -> int | None:
        """Dimension of the vectors, None before the first row."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def scan(self, *, vectors: bool = False) -> Iterator[Record]:
        """Yield all records of one state, if asked with their unit vectors."""


def chunks(index: Rows, *, vectors: bool) -> Iterator[list[Record]]:
    """Yield the records in lists of `ROWS`, the last one shorter."""
    stream = iter(index.scan(vectors=vectors))
    while records := list(islice(stream, ROWS)):
        yield records
