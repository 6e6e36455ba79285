"""Making a whole index from batches of records."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vecindex.errors import IndexPathError, InputError
from vecindex.index.rebase import Progress
from vecindex.io import Batch, Source
from vecindex.store.files import Directory

if TYPE_CHECKING:
    from vecindex.index.index import VectorIndex


def load(
    create: Callable[[Path], VectorIndex],
    path: Path,
    source: Source,
    batches: Iterable[Batch],
    progress: Progress | None,
) -> None:
    """Make an optimized index of a source's batches; it appears at `path` when it is whole.

    `create` makes an empty index, without upkeep in the background, where the work is done.
    """
    if os.path.lexists(path):
        raise IndexPathError(f"{path} exists; remove it, or choose another path")
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with create(partial) as index:
            _fill(index, source, batches, progress)
            index.optimize(progress=progress)
        Directory(partial).move(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fill(
    index: VectorIndex, source: Source, batches: Iterable[Batch], progress: Progress | None
) -> None:
    for batch in batches:
        try:
            index.add(**batch.arguments())
        except InputError as error:
            error.add_note(
                f"rows are counted from 0 in a batch of {len(batch)}, which begins at "
                f"{batch.place(0)}"
            )
            raise
        if progress is not None:
            progress("rows", len(index), source.rows)
    if not len(index):
        raise InputError(f"{source.name}: it has no records that can be used: nothing was made")
