"""A report as tables: Markdown for a page, columns for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecindex.bench.metrics import METRICS
from vecindex.bench.report import BenchReport, BenchRow, ConditionRow

if TYPE_CHECKING:
    from rich.table import Table

CONDITION_HEADINGS = (
    "structure", "condition", "recall", "rows returned (expected)", "first query (ms)",
    "p50 (ms)", "p50 without (ms)", "ratio (spread)",
)  # fmt: skip
"""The columns of the conditions, see `condition_cells`."""


def summary(report: BenchReport) -> str:
    """Return one line on what was measured where, and what to keep in mind."""
    facts, machine = report.facts, report.facts["machine"]
    what = f", {facts['structure'] or 'no structure'}" if facts["index"] else ""
    notes = "".join(f"; {note}" for note in facts["notes"])
    return (
        f"{facts['rows']:,} rows x {facts['dim']}{what}, "
        f"{facts['queries']} queries ({facts['query_source']}), "
        f"{facts['repeats']} repeats, {machine['cpu']}, {machine['cores']} cores, "
        f"{facts['threads']['single']} thread for a query, {facts['threads']['batch']} "
        f"for a batch{notes}"
    )


def to_markdown(report: BenchReport) -> str:
    """Return the rows as a Markdown table, with one line of facts above it.

    Parameters
    ----------
    report : BenchReport
        What was measured.

    Returns
    -------
    str
        A second table follows if conditions were measured.
    """
    headings = ["structure", "search", "k", *(metric.heading for metric in METRICS)]
    lines = [summary(report), "", *_head(headings, words=2)]
    lines += [_markdown_row(cells(row)) for row in report.rows]
    if report.conditions:
        lines += ["", *_head(list(CONDITION_HEADINGS), words=2)]
        lines += [_markdown_row(condition_cells(row)) for row in report.conditions]
    return "\n".join(lines) + "\n"


def to_tables(report: BenchReport) -> list[Table]:
    """Return the rows as a table for a terminal, and a second one if conditions were measured.

    Parameters
    ----------
    report : BenchReport
        What was measured.

    Returns
    -------
    list of rich.table.Table
        With the metrics that are brief.
    """
    from rich.table import Table

    table = Table(title=summary(report), title_justify="left")
    table.add_column("structure", no_wrap=True)
    table.add_column("search", no_wrap=True)
    table.add_column("k", justify="right")
    brief = [metric for metric in METRICS if metric.brief]
    for metric in brief:
        arrow = "↑" if metric.better == "higher" else "↓"
        unit = f"\n{metric.unit}" if metric.unit else ""
        table.add_column(f"{metric.label} {arrow}{unit}", justify="right", no_wrap=True)
    for number, row in enumerate(report.rows):
        numbers = [metric.text(getattr(row, metric.name)) for metric in brief]
        ends = report.rows[number + 1 : number + 2] != ()
        last = ends and _group(report.rows[number + 1]) != _group(row)
        table.add_row(row.structure, row.name, str(row.k), *numbers, end_section=last)
    return [table, *_condition_tables(report)]


def _condition_tables(report: BenchReport) -> list[Table]:
    from rich.table import Table

    if not report.conditions:
        return []
    table = Table(title="Conditions, on temporary copies", title_justify="left")
    for number, heading in enumerate(CONDITION_HEADINGS):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for row in report.conditions:
        table.add_row(*condition_cells(row))
    return [table]


def cells(row: BenchRow) -> list[str]:
    """Return a row's structure, setting, k and all its numbers as text."""
    numbers = [metric.text(getattr(row, metric.name)) for metric in METRICS]
    return [row.structure, row.name, str(row.k), *numbers]


def condition_cells(row: ConditionRow) -> list[str]:
    """Return a condition's figures as text, in the order of `CONDITION_HEADINGS`."""
    return [
        row.structure,
        row.name,
        f"{row.recall:.4f}",
        f"{row.returned} ({row.expected})",
        f"{row.first_ms:.3f}",
        f"{row.p50_ms:.3f}",
        f"{row.plain_p50_ms:.3f}",
        f"{row.ratio:.2f} ({row.ratio_spread:.2f})",
    ]


def _group(row: BenchRow) -> tuple[str, int]:
    return row.structure, row.k


def _head(headings: list[str], words: int) -> list[str]:
    rule = ["---"] * words + ["---:"] * (len(headings) - words)
    return [_markdown_row(headings), _markdown_row(rule)]


def _markdown_row(cells: list[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
