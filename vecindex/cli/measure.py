"""`vecindex bench`: measure an index, or structures on vectors, and hold the result to account."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecindex.cli import bench_inputs as inputs
from vecindex.cli.options import Embedder, JsonFlag, TargetRecall
from vecindex.cli.output import aside, emit, progress_bar
from vecindex.cli.queries import is_npy

if TYPE_CHECKING:
    from vecindex.bench import BenchReport, Workload
    from vecindex.cli.output import Progress

_SHARES = "50%,10%,1%,0.1%"


def bench(
    index: Annotated[
        Path | None,
        typer.Argument(metavar="INDEX", help="The directory of the index.", show_default=False),
    ] = None,
    *,
    vectors: Annotated[
        Path | None,
        typer.Option(
            "--vectors",
            metavar="FILE",
            help="Instead of an index: vectors in a .npy file, or an HDF5 file of ann-benchmarks "
            "(train, test and neighbors).",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Queries: vectors in a .npy file, or, for an index, texts in a .txt file, one a "
            "line.",
        ),
    ] = None,
    structures: Annotated[
        str | None,
        typer.Option(
            "--structures",
            metavar="LIST",
            help="Structures to build and compare, as in ivf/pq4,hnsw.",
        ),
    ] = None,
    alternatives: Annotated[
        bool, typer.Option("--alternatives", help="Compare the index with the usual structures.")
    ] = False,
    filters: Annotated[
        str | None,
        typer.Option("--filters", metavar="LIST", help=f"Shares that filters keep: {_SHARES}."),
    ] = None,
    deleted: Annotated[
        str | None,
        typer.Option("--deleted", metavar="LIST", help="Shares of the rows to remove: 30%."),
    ] = None,
    tail: Annotated[
        str | None,
        typer.Option("--tail", metavar="LIST", help="Shares of the rows to add afterwards: 5%."),
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option("-k", min=1, help="Rows asked for; repeatable.", show_default="1, 10, 100"),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Queries to draw when there are no --queries.")
    ] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")] = 0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds of timing.")] = 5,
    target_recall: TargetRecall = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Write the report here.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE.md", help="Write its tables here.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE.html", help="Write a page with the plot here."),
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option(
            "--fail-under",
            min=0.0,
            max=1.0,
            help="Exit with 1 if the default's recall@10 (without an index: the best default's) "
            "is below.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FILE.json",
            help="Exit with 1 if rows of this report were better.",
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=1.0, help="A query may take so many times the baseline's."),
    ] = 1.25,
    embedder: Embedder = None,
    json: JsonFlag = False,
) -> None:
    """Measure recall, latency, throughput and cost.

    Exact search is the truth. An index is measured as it is, and never changed; structures and
    conditions (filters, removed rows, new rows) are measured on temporary copies of its vectors.
    Without --queries, rows are the queries: of an index, no row finds itself; for temporary
    indexes they are held out.
    """
    if (index is None) == (vectors is None):
        raise typer.BadParameter("give an INDEX or --vectors FILE, one of them")
    if index is not None and target_recall is not None:
        raise typer.BadParameter("--target-recall goes with --vectors; an index has its own")
    work = inputs.workload(
        k=_neighbours(k, fail_under),
        sample=sample,
        seed=seed,
        repeats=repeats,
        structures=inputs.structures(structures, alternatives=alternatives),
        filters=inputs.shares(filters, "--filters"),
        deleted=inputs.shares(deleted, "--deleted"),
        tail=inputs.shares(tail, "--tail"),
    )
    old = None if baseline is None else _read_report(baseline)
    with progress_bar(json) as progress:
        if index is not None:
            report = _measure_index(index, queries, embedder, work, progress)
        elif vectors is not None:
            report = _measure_vectors(vectors, queries, target_recall or 0.95, work, progress)
    _write(report, out, markdown, html)
    _show(report, json)
    if not _good_enough(report, fail_under, old, tolerance):
        raise typer.Exit(1)


def _neighbours(k: list[int] | None, fail_under: float | None) -> tuple[int, ...]:
    """Return the k to measure: those named, and 10 if it is held against something."""
    named = tuple(k or (1, 10, 100))
    return named if fail_under is None else (*named, 10)


def _measure_index(
    path: Path,
    queries: Path | None,
    embedder: str | None,
    work: Workload,
    progress: Progress | None,
) -> BenchReport:
    from vecindex.bench import bench as measure
    from vecindex.index import VectorIndex

    by_text = queries is not None and not is_npy(queries)
    model: Any = inputs.model_of(path, embedder) if by_text else embedder
    with VectorIndex.open(path, embedder=model) as opened:
        asked = None if queries is None else inputs.read_queries(opened, queries, model)
        return measure(opened, work, queries=asked, progress=progress)


def _measure_vectors(
    vectors: Path,
    queries: Path | None,
    target_recall: float,
    work: Workload,
    progress: Progress | None,
) -> BenchReport:
    from vecindex.bench import bench_vectors

    data = inputs.read_dataset(vectors, queries, work)
    return bench_vectors(data, work, target_recall=target_recall, progress=progress)


def _read_report(path: Path) -> BenchReport:
    from vecindex.bench import BenchReport

    return BenchReport.from_json(path.read_text(encoding="utf-8"), str(path))


def _write(report: BenchReport, out: Path | None, markdown: Path | None, html: Path | None) -> None:
    from vecindex.bench.page import to_html
    from vecindex.bench.tables import to_markdown

    for path, text_of in (
        (out, type(report).to_json),
        (markdown, to_markdown),
        (html, to_html),
    ):
        if path is not None:
            path.write_text(text_of(report), encoding="utf-8")
            aside(f"written to {path}")


def _show(report: BenchReport, json: bool) -> None:
    from vecindex.bench.tables import to_markdown, to_tables

    if json:
        emit(report.to_dict())
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(*to_tables(report), sep="\n")
    else:
        typer.echo(to_markdown(report), nl=False)


def _good_enough(
    report: BenchReport, fail_under: float | None, old: BenchReport | None, tolerance: float
) -> bool:
    """Say on stderr what is not good enough, and return whether all is."""
    from vecindex.bench.verdict import compare, shortfall

    wrong = [] if fail_under is None else [shortfall(report, fail_under)]
    if old is not None:
        comparison = compare(report, old, tolerance)
        for note in comparison.notes:
            typer.echo(f"vecindex: {note}", err=True)
        wrong += [f"worse than the baseline: {text}" for text in comparison.regressions]
    for text in filter(None, wrong):
        typer.echo(f"vecindex: {text}", err=True)
    return not any(wrong)
