"""What other formats need of an index: to be opened elsewhere, and to be made from a FAISS file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecindex.ann.interchange import Located, locate
from vecindex.errors import InputError
from vecindex.index import inputs, loading
from vecindex.index.rebase import Progress
from vecindex.io import Batch, Columns, Source
from vecindex.results import VerifyReport

if TYPE_CHECKING:
    from vecindex.index.index import VectorIndex

_BATCH, _BATCH_BYTES = 10_000, 1 << 25  # rows, and bytes of their vectors, added at once


_LISTS: dict[str, Callable[[Iterable[Any]], list[Any]]] = {
    "ids": inputs.check_ids,
    "texts": partial(inputs.as_list, name="texts", kind=str),
    "metadata": partial(inputs.as_list, name="metadata", kind=dict),
}


def reopen(path: Path, *, trusted: bool = True) -> VectorIndex:
    """Return the index at `path`; every pickler can take this function, unlike a method."""
    from vecindex.index.index import VectorIndex

    return VectorIndex.open(path, trusted=trusted)


def verify(path: Path) -> VerifyReport:
    """Read every byte of an index from elsewhere and return what was found."""
    with reopen(path, trusted=False):
        pass  # what only a forger writes, with checksums to match, is an error here
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
    found = locate(file)
    source = _source(found, given)
    batch_rows = max(1, min(_BATCH, _BATCH_BYTES // (4 * found.dim)))
    loading.load(create, path, source, source.batches(Columns(), batch_rows), progress)


def _source(found: Located, given: dict[str, Iterable[Any] | None]) -> Source:
    columns = {
        name: None if column is None else _LISTS[name](column) for name, column in given.items()
    }
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
