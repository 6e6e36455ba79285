"""`vecindex build` and `vecindex add`: files into an index."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecindex.cli.facts import point_in_use, promise, structure_name
from vecindex.cli.intake import Intake, columns_from
from vecindex.cli.options import (
    DEFAULT_EMBEDDER,
    SPEC_HELP,
    BatchRows,
    Embedder,
    IdColumn,
    IndexPath,
    JsonFlag,
    LockTimeout,
    MetadataColumns,
    Sources,
    Split,
    TargetRecall,
    TextColumn,
    VectorColumn,
    known_spec,
)
from vecindex.cli.output import counted, emit, print_facts, progress_bar, size_text

if TYPE_CHECKING:
    from vecindex.build import BuildPlan, BuildReport
    from vecindex.results import IndexInfo


def build(
    sources: Sources,
    *,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="The index to make or to update, as in kb.vx."),
    ],
    text: TextColumn = None,
    id: IdColumn = None,
    metadata: MetadataColumns = None,
    vector: VectorColumn = None,
    embedder: Embedder = None,
    spec: Annotated[
        str | None, typer.Option("--spec", metavar="NAME", parser=known_spec, help=SPEC_HELP)
    ] = None,
    target_recall: TargetRecall = None,
    chunk: Annotated[
        int | None,
        typer.Option(
            "--chunk",
            min=1,
            metavar="TOKENS",
            help="Split texts into passages of so many tokens of the model, with ids ID#0, ID#1...",
        ),
    ] = None,
    overlap: Annotated[
        int, typer.Option("--overlap", min=0, help="Tokens that a passage shares with the last.")
    ] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove rows whose records are gone from the sources.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out and count records that cannot be read.")
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="CACHE",
            help="A directory of embeddings, shared with other builds; made when it is absent.",
        ),
    ] = None,
    split: Split = None,
    batch_rows: BatchRows = 1000,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what this would do and take; build nothing.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Make an index from files, or update it to what they hold now.

    Records that the index has are left alone, new ones are added, changed ones replaced; only new
    and changed texts are embedded. Texts are embedded with sentence-transformers/all-MiniLM-L6-v2
    unless --embedder names another model. The structure is chosen, built and its recall measured
    once all records are in.

    A new index is made in DIR.partial, which becomes DIR when it is whole. If the work stops
    halfway, the same command goes on where it was.
    """
    from vecindex.build import BuildOptions, plan_build
    from vecindex.build import build as build_index
    from vecindex.build.reader import list_of_sources
    from vecindex.build.target import Target

    names = list_of_sources(sources)
    columns = columns_from(sources, text, id, metadata, vector, split)
    if embedder is None and columns.text and not columns.vector and not Target.of(out).bound:
        embedder = DEFAULT_EMBEDDER
    options = BuildOptions(
        batch_rows=batch_rows,
        chunk=chunk,
        overlap=overlap,
        prune=prune,
        skip_bad=skip_bad,
        cache=cache,
        split=split,
    )
    shared: dict[str, Any] = {"embedder": embedder, "spec": spec, "options": options}
    if plan:
        with progress_bar(json) as progress:
            planned = plan_build(names, out, columns, progress=progress, **shared)
        _print_plan(out, planned, json)
        return
    with progress_bar(json) as progress, _command_on_interrupt():
        report = build_index(
            names, out, columns, target_recall=target_recall, progress=progress, **shared
        )
    _print_report(out, report, json)


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
        bool, typer.Option("--upsert", help="Replace rows whose ids are known; needs ids.")
    ] = False,
    split: Split = None,
    batch_rows: BatchRows = 1000,
    lock_timeout: LockTimeout = 0.0,
    json: JsonFlag = False,
) -> None:
    """Add the records of files to an index.

    Each batch is durable once it is in. New rows are found at once; `vecindex optimize` folds
    many of them into the structure, for speed.
    """
    from vecindex.index import VectorIndex

    columns = columns_from(sources, text, id, metadata, vector, split)
    if upsert and not columns.id:
        raise typer.BadParameter("--upsert replaces rows by their ids: name their column with --id")
    intake = Intake(sources, columns, batch_rows, upsert, split)
    verb = "put in" if upsert else "added"
    with (
        VectorIndex.open(
            index, "r+", embedder=embedder, maintenance="manual", timeout=lock_timeout
        ) as opened,
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
        counts = {"added": rows, "rows": info.rows, "tail": info.tail}
        emit({"path": str(index), **counts, "notes": info.notes})
        return
    typer.echo(f"{counted(rows, 'row')} {verb}: {index} has {counted(info.rows, 'row')} now")
    for note in info.notes:
        typer.echo(f"note: {note}")


@contextmanager
def _command_on_interrupt() -> Iterator[None]:
    """Add to Ctrl-C what to type to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(f"to go on, type: {shlex.join(['vecindex', *sys.argv[1:]])}")
        raise


def _print_report(out: Path, report: BuildReport, json: bool) -> None:
    from vecindex.index import VectorIndex

    with VectorIndex.open(out) as index:
        info = index.info()
    if json:
        point = point_in_use(info)
        recall = None if point is None else point.recall
        emit({**info.to_dict(), **report.to_dict(), "path": str(out), "recall": recall})
        return
    words = (
        counted(info.rows, "row"),
        structure_name(info) or "exact search",
        promise(info),
        size_text(info.size_bytes),
        _seconds(report.seconds, report.model_seconds),
    )
    typer.echo(f"{out}: {', '.join(filter(None, words))}")
    if what := ", ".join(_news(info, report)):
        typer.echo(what)


def _news(info: IndexInfo, report: BuildReport) -> list[str]:
    """Return what is worth saying of a build, besides that all rows were added."""
    rows = {
        name: getattr(report, name)
        for name in ("added", "changed", "unchanged", "removed")
        if getattr(report, name)
    }
    news = [] if rows == {"added": info.rows} else [f"{n:,} {name}" for name, n in rows.items()]
    if report.skipped:
        news.append(f"{counted(report.skipped, 'record')} skipped")
    if report.truncated:
        news.append(
            f"{counted(report.truncated, 'text')} longer than the model reads (see --chunk)"
        )
    if report.cache_hits is not None and report.cache_misses is not None:
        asked = counted(report.cache_hits + report.cache_misses, "text")
        news.append(f"{report.cache_hits:,} of {asked} from the cache")
    return news


def _print_plan(out: Path, plan: BuildPlan, json: bool) -> None:
    if json:
        emit({**plan.to_dict(), "path": str(out)})
        return
    passages = plan.added + plan.changed + plan.unchanged != plan.records
    print_facts(
        {
            "records": f"{plan.records:,}",
            "skipped": f"{plan.skipped:,}" if plan.skipped else None,
            "passages" if passages else "rows": f"{plan.added:,} new, {plan.changed:,} changed, "
            f"{plan.unchanged:,} unchanged",
            "to embed": counted(plan.to_embed, "text"),
            "time": f"about {_seconds(plan.seconds, plan.model_seconds)}",
            "on disk": f"about {size_text(plan.disk_bytes)}",
            "memory": f"about {size_text(plan.memory_bytes)} besides the model",
            "sample": counted(plan.sample, "record"),
        }
    )
    typer.echo(f"nothing was built; without --plan this makes or updates {out}")


def _seconds(seconds: float, model_seconds: float) -> str:
    inside = f" ({model_seconds:.1f} s in the model)" if model_seconds >= 0.05 else ""
    return f"{seconds:.1f} s{inside}"
