"""What other formats need of an index: to be opened elsewhere, and to be made from a FAISS file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecindex.ann.interchange import locate
from vecindex.errors import InputError
from vecindex.index import loading
from vecindex.index.rebase import Progress
from vecindex.io import Batch, Columns, Source
from vecindex.results import VerifyReport

if TYPE_CHECKING:
    from vecindex.index.index import VectorIndex

_BATCH = 10_000  # rows added at once


def reopen(path: Path) -> VectorIndex:
    """Return the index at `path`; every pickler can take this function, unlike a method."""
    from vecindex.index.index import VectorIndex

    return VectorIndex.open(path)


def verify(path: Path) -> VerifyReport:
    """Read every byte of the index at `path` and return what was found."""
    with reopen(path) as index:
        return index.verify()


def load_faiss(
    create: Callable[[Path], VectorIndex],
    path: Path,
    file: str | os.PathLike[str],
    given: dict[str, Iterable[Any] | None],
    progress: Progress | None,
) -> None:
    """Make an index of the vectors of a FAISS file and of the columns given with them."""
    source = _source(file, given)
    loading.load(create, path, source, source.batches(Columns(), _BATCH), progress)


def _source(file: str | os.PathLike[str], given: dict[str, Iterable[Any] | None]) -> Source:
    found = locate(file)
    columns = {name: None if column is None else list(column) for name, column in given.items()}
    for name, column in columns.items():
        if column is not None and len(column) != len(found):
            raise InputError(
                f"{name} has {len(column)} entries, but {found.path} has {len(found)} vectors"
            )
    if columns["ids"] is None and found.labels is not None:
        columns["ids"] = found.labels.tolist()

    def read(_columns: Columns, batch_rows: int, _bad: object) -> Iterator[Batch]:
        first = 0
        for vectors in found.batches(batch_rows):
            rows = range(first, first + len(vectors))
            part = {
                name: None if column is None else column[rows.start : rows.stop]
                for name, column in columns.items()
            }
            yield Batch(vectors=vectors, source=str(found.path), unit="row", numbers=rows, **part)
            first = rows.stop

    return Source(str(found.path), list, read, len(found), bare=True)
