"""`vecindex info`, `optimize`, `compact`, `snapshot`, `verify`, `repair`: an index's state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecindex.cli.facts import print_curve, print_info
from vecindex.cli.options import (
    SPEC_HELP,
    Embedder,
    IndexPath,
    JsonFlag,
    LockTimeout,
    TargetRecall,
    known_spec,
)
from vecindex.cli.output import counted, emit, progress_bar, size_text
from vecindex.cli.queries import read_query_file
from vecindex.errors import CorruptIndexError, SpecError
from vecindex.results import VerifyReport
from vecindex.spec import AutoSpec, OptimizeBudget

if TYPE_CHECKING:
    from vecindex.results import IndexInfo, RepairReport


def info(
    index: IndexPath,
    curve: Annotated[
        bool, typer.Option("--curve", help="Print what was measured for each setting.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print facts: rows, structure, the recall that is promised, what auto tried.

    With --json the measured curve is always among them.
    """
    from vecindex.index import VectorIndex

    with VectorIndex.open(index) as opened:
        facts = opened.info()
    _report(facts, json)
    if curve and not json:
        print_curve(facts)


def optimize(
    index: IndexPath,
    *,
    spec: Annotated[
        str | None,
        typer.Option(
            "--spec", metavar="NAME", parser=known_spec, help=SPEC_HELP, show_default=False
        ),
    ] = None,
    target_recall: TargetRecall = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Measure with these instead of rows: texts in a .txt file, one a line, or "
            "vectors in a .npy file.",
        ),
    ] = None,
    build_seconds: Annotated[
        float | None,
        typer.Option("--build-seconds", help="For auto: try what is built in so many, graphs too."),
    ] = None,
    memory_bytes: Annotated[
        int | None,
        typer.Option("--memory-bytes", help="For auto: bytes of the structure, without vectors."),
    ] = None,
    embedder: Embedder = None,
    lock_timeout: LockTimeout = 0.0,
    json: JsonFlag = False,
) -> None:
    """Fold new rows into the structure.

    Then choose its parameters anew by measuring recall, so that it stays as promised.
    """
    from vecindex.index import VectorIndex

    budget = _budget(build_seconds, memory_bytes)
    if budget is not None and spec not in (None, AutoSpec.kind):
        raise typer.BadParameter("--build-seconds and --memory-bytes go with --spec auto")
    asked = None if queries is None else read_query_file(queries)
    with (
        VectorIndex.open(
            index, "r+", embedder=embedder, maintenance="manual", timeout=lock_timeout
        ) as opened,
        progress_bar(json) as progress,
    ):
        opened.optimize(spec, target_recall, asked, budget=budget, progress=progress)
        facts = opened.info()
    _report(facts, json)


def compact(index: IndexPath, lock_timeout: LockTimeout = 0.0, json: JsonFlag = False) -> None:
    """Give the space of removed rows back."""
    from vecindex.index import VectorIndex

    with (
        VectorIndex.open(index, "r+", maintenance="manual", timeout=lock_timeout) as opened,
        progress_bar(json) as progress,
    ):
        before = opened.info().size_bytes
        opened.compact(progress=progress)
        facts = opened.info()
    if json:
        emit({"size_bytes_before": before, "size_bytes": facts.size_bytes, "rows": facts.rows})
    else:
        typer.echo(f"{index}: {size_text(before)} before, {size_text(facts.size_bytes)} now")


def snapshot(
    index: IndexPath,
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DEST", help="A directory that is not there yet, or empty.", show_default=False
        ),
    ],
    json: JsonFlag = False,
) -> None:
    """Make a whole copy of an index, also while it is being written.

    On the same file system files are hard-linked: that takes no time and no space, but copy
    DEST elsewhere if it is to survive a broken disk.
    """
    from vecindex.index import VectorIndex

    with VectorIndex.open(index) as opened:
        copy = opened.snapshot(destination)
    with VectorIndex.open(copy) as opened:
        facts = opened.info()
    if json:
        emit({"path": str(copy), "rows": facts.rows, "size_bytes": facts.size_bytes})
    else:
        size = size_text(facts.size_bytes)
        typer.echo(f"{destination}: {counted(facts.rows, 'row')}, {size}, copied from {index}")


def verify(index: IndexPath, json: JsonFlag = False) -> None:
    """Check every byte of an index.

    The exit code is 1 if something is damaged.
    """
    from vecindex.index import VectorIndex

    try:
        with VectorIndex.open(index) as opened, progress_bar(json) as progress:
            report = opened.verify(progress=progress)
    except CorruptIndexError:
        problems = VectorIndex.repair(index, dry_run=True).problems
        if not problems:
            raise
        report = VerifyReport(0, 0, 0, problems)
    if json:
        emit(report.to_dict())
    else:
        for problem in report.problems:
            mend = "; it can be rebuilt: vecindex repair" if problem.rebuildable else ""
            typer.echo(f"{problem.file}, offset {problem.offset}: {problem.what}{mend}")
        found = counted(len(report.problems), "problem") if report.problems else "no problem"
        size = size_text(report.size_bytes)
        read = f"{counted(report.files, 'file')}, {size}, {counted(report.rows, 'row')} checked"
        typer.echo(f"{index}: {found}; {read}")
    if not report.ok:
        raise typer.Exit(1)


def repair(
    index: IndexPath,
    restore_removed: Annotated[
        bool,
        typer.Option(
            "--restore-removed",
            help="Have removed rows back where it cannot be known which ones were removed.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what is damaged.")] = False,
    json: JsonFlag = False,
) -> None:
    """Save what is whole of a damaged index, and make caches anew.

    The damaged files are kept in a directory beside it. The exit code is 1 if something is lost.
    """
    from vecindex.index import VectorIndex

    with progress_bar(json) as progress:
        report = VectorIndex.repair(
            index, restore_removed=restore_removed, dry_run=dry_run, progress=progress
        )
    if json:
        emit(report.to_dict())
    else:
        for problem in report.problems:
            typer.echo(f"{problem.file}, offset {problem.offset}: {problem.what}")
        typer.echo(f"{index}: {_outcome(report, dry_run)}")
        if report.lost_ids:
            typer.echo(f"lost ids: {', '.join(map(repr, report.lost_ids))}")
    if not report.lossless or (dry_run and report.problems):
        raise typer.Exit(1)


def _outcome(report: RepairReport, dry_run: bool) -> str:
    if not report.problems:
        return "no problem"
    found = counted(len(report.problems), "problem")
    if dry_run:
        return found
    lost = "nothing lost"
    if not report.lossless:
        operations = counted(report.lost_operations, "logged operation")
        lost = f"lost {counted(report.lost_rows, 'row')} and {operations}"
    rows = counted(report.rows, "row")
    return f"{found}; {rows} now, {lost}; the damaged files are in {report.aside}"


def _report(info: IndexInfo, json: bool) -> None:
    if json:
        emit(info.to_dict())
    else:
        print_info(info)


def _budget(build_seconds: float | None, memory_bytes: int | None) -> OptimizeBudget | None:
    """Return the budget of the options, None if there are none; a bad one is wrong usage."""
    if build_seconds is None and memory_bytes is None:
        return None
    seconds = {} if build_seconds is None else {"build_s": build_seconds}
    try:
        return OptimizeBudget(memory_bytes=memory_bytes, **seconds)
    except SpecError as error:
        raise typer.BadParameter(str(error)) from error
