"""`vecindex build` and `vecindex add`: files into an index."""

from __future__ import annotations

import shlex
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecindex.cli.facts import point_in_use, promise, structure_name
from vecindex.cli.intake import Intake, columns_from, embedder_for
from vecindex.cli.options import (
    SPEC_HELP,
    BatchRows,
    Embedder,
    IdColumn,
    IndexPath,
    JsonFlag,
    MetadataColumns,
    Sources,
    TargetRecall,
    TextColumn,
    VectorColumn,
    known_spec,
)
from vecindex.cli.output import counted, emit, progress_bar, size_text
from vecindex.errors import IndexPathError, InputError
from vecindex.spec import AutoSpec

if TYPE_CHECKING:
    from vecindex.results import IndexInfo


def build(
    sources: Sources,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="The index to make, as in kb.vx; must not exist."
        ),
    ],
    text: TextColumn = None,
    id: IdColumn = None,
    metadata: MetadataColumns = None,
    vector: VectorColumn = None,
    embedder: Embedder = None,
    spec: Annotated[
        str, typer.Option("--spec", metavar="NAME", parser=known_spec, help=SPEC_HELP)
    ] = AutoSpec.kind,
    target_recall: TargetRecall = 0.95,
    batch_rows: BatchRows = 1000,
    json: JsonFlag = False,
) -> None:
    """Make a new index from files.

    The structure is chosen, built and its recall measured once all records are in.
    Texts are embedded with sentence-transformers/all-MiniLM-L6-v2 unless --embedder names another
    model. The work is done in DIR.partial, which becomes DIR when it is finished: a directory
    named DIR is always a whole index. If the work stops halfway, remove DIR.partial and run the
    command again.
    """
    started = time.monotonic()
    intake = Intake(sources, columns_from(sources, text, id, metadata, vector), batch_rows)
    options = {
        "embedder": embedder_for(embedder, intake.columns),
        "spec": spec,
        "target_recall": target_recall,
    }
    with progress_bar(json) as progress, _finished_or_partial(out) as (partial, done):
        info = _build(intake, partial, options, done, progress)
    _report_build(out, info, time.monotonic() - started, json)


def add(
    index: IndexPath,
    sources: Sources,
    *,
    text: TextColumn = None,
    id: IdColumn = None,
    metadata: MetadataColumns = None,
    vector: VectorColumn = None,
    embedder: Embedder = None,
    upsert: Annotated[
        bool, typer.Option("--upsert", help="Replace rows whose ids are known; needs --id.")
    ] = False,
    batch_rows: BatchRows = 1000,
    json: JsonFlag = False,
) -> None:
    """Add the records of files to an index.

    Each batch is durable once it is in. New rows are found at once; `vecindex optimize` folds
    many of them into the structure, for speed.
    """
    from vecindex.index import VectorIndex

    if upsert and not id:
        raise typer.BadParameter("--upsert replaces rows by their ids: name their column with --id")
    intake = Intake(sources, columns_from(sources, text, id, metadata, vector), batch_rows, upsert)
    verb = "put in" if upsert else "added"
    with (
        VectorIndex.open(index, "r+", embedder=embedder, maintenance="manual") as opened,
        progress_bar(json) as progress,
    ):
        rows, before = 0, len(opened)
        try:
            for rows in intake.fill(opened, progress):  # noqa: B007  # read below
                pass
        except BaseException as error:
            # Ctrl-C may have come between a batch's commit and its count.
            stay = rows if upsert else len(opened) - before
            error.add_note(f"{counted(stay, 'row')} {verb} before that; they stay")
            raise
        info = opened.info()
    if json:
        emit({"path": str(index), "added": rows, "rows": info.rows, "tail": info.tail})
    else:
        typer.echo(f"{counted(rows, 'row')} {verb}: {index} has {counted(info.rows, 'row')} now")


def _build(
    intake: Intake, path: Path, options: dict[str, Any], done: list[int], progress: Any
) -> IndexInfo:
    from vecindex.index import VectorIndex

    with VectorIndex.create(path, maintenance="manual", **options) as index:
        try:
            deque(intake.fill(index, progress), maxlen=0)
        finally:
            done[0] = len(index)
        if not len(index):
            names = ", ".join(map(str, intake.sources))
            raise InputError(f"no records in {names}: there is nothing to build")
        index.optimize(progress=progress)
        return index.info()


@contextmanager
def _finished_or_partial(out: Path) -> Iterator[tuple[Path, list[int]]]:
    """Give the path to build at and a place to count rows; rename it to `out` at the end.

    After an error a directory with rows stays, under its telling name, and one without is removed.
    """
    from vecindex.store.files import Directory

    partial = out.with_name(out.name + ".partial")
    again = f"to start again: rm -r {shlex.quote(str(partial))}, then the same command"
    if out.exists():
        raise IndexPathError(f"{out} exists; remove it, or choose another --out")
    if partial.exists():
        raise IndexPathError(f"{partial} is left from a build that did not finish; {again}")
    done = [0]
    try:
        yield partial, done
        partial.rename(out)
    except BaseException as error:
        if done[0]:
            error.add_note(
                f"{partial} holds the first {counted(done[0], 'row')}, unfinished; {again}"
            )
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    Directory(out.parent).sync()


def _report_build(out: Path, info: IndexInfo, seconds: float, json: bool) -> None:
    if json:
        point = point_in_use(info)
        recall = None if point is None else point.recall
        emit({**info.to_dict(), "path": str(out), "recall": recall, "seconds": round(seconds, 3)})
        return
    words = (
        counted(info.rows, "row"),
        structure_name(info) or "exact search",
        promise(info),
        size_text(info.size_bytes),
        f"{seconds:.1f} s",
    )
    typer.echo(f"{out}: {', '.join(filter(None, words))}")
