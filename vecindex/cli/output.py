"""What commands print: one JSON document, plain lines for people, a progress bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from vecindex.results import Plan

Progress: TypeAlias = Callable[[str, int, int | None], None]

_WAYS = {
    "exact": "scoring these rows, and no others",
    "structure": "searching the structure, dropping other rows",
    "all": "scanning the codes of all rows, dropping others",
    "own": "scanning the codes of these rows",
}
"""The ways to search with a filter, as in `Plan.costs_us`."""


def emit(document: Any) -> None:
    """Print a JSON document."""
    from vecindex.io import json_text

    typer.echo(json_text(document, indent=2))


def one_line(text: str | None) -> str:
    """Return a text on one line, without characters that could steer a terminal."""
    words = " ".join((text or "").split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values in two columns, leaving out what is None."""
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        typer.echo(f"{name:<{width}}  {value}")


def print_hits(hits: Iterable[Any]) -> None:
    """Print a line for each hit: score, id and text, or metadata where there is no text."""
    from vecindex.io import json_text

    lines = [
        (one_line(str(hit.id)), hit.score, hit.text if hit.text is not None else hit.metadata)
        for hit in hits
    ]
    width = max((len(id) for id, _, _ in lines), default=0)
    for id, score, what in lines:
        words = what if isinstance(what, str) else json_text(what) if what else ""
        typer.echo(f"{score:.4f}  {id:<{width}}  {one_line(words)}".rstrip())


def print_plan(plan: Plan) -> None:
    """Print a plan's sentence, and what each way that was open should take."""
    typer.echo(plan)
    if not plan.costs_us:
        return
    typer.echo("reckoned for one query:")
    ways = {_WAYS.get(name, name): f"{us:,.1f}" for name, us in plan.costs_us.items()}
    width, digits = max(map(len, ways)), max(map(len, ways.values()))
    for way, us in ways.items():
        typer.echo(f"  {way:<{width}}  {us:>{digits}} us")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in `1 row` or `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size_bytes: int) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def aside(message: str) -> None:
    """Say something on stderr, if a person may be looking."""
    if sys.stderr.isatty():
        typer.echo(message, err=True)


@contextmanager
def progress_bar(json: bool) -> Iterator[Progress | None]:
    """Give a `progress` callback that draws a bar on stderr; None without a terminal to draw on."""
    if json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report
