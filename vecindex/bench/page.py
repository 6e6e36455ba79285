"""A report as one HTML page that needs nothing else: the picture, the tables, the facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from vecindex.bench.frontier import frontier
from vecindex.bench.metrics import METRICS
from vecindex.bench.plot import marker, plot
from vecindex.bench.report import BenchReport, BenchRow
from vecindex.bench.style import SCRIPT, STYLE
from vecindex.bench.tables import CONDITION_HEADINGS, cells, condition_cells, summary

_MAIN_K = 10
_FACTS = (
    "data", "sha256", "rows", "dim", "structure", "target_recall", "queries", "query_source",
    "queries_sha256", "latency_queries", "seed", "repeats", "threads", "machine", "versions",
    "command", "measured",
)  # fmt: skip
_WIDE_MARKER = '<svg class="key" viewBox="-8 -8 16 16" aria-hidden="true">{}</svg>'


def to_html(report: BenchReport) -> str:
    """Return the report as an HTML page.

    Parameters
    ----------
    report : BenchReport
        With at least one row.

    Returns
    -------
    str
        No part of it is loaded from elsewhere; all text is escaped. It follows the reader's light
        or dark colours, and a tap on a point tells its figures as well as a pointer over it.
    """
    name = report.facts["data"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
        f"<title>{escape(f'vecindex bench: {name}')}</title>",
        f"<style>{STYLE}</style></head><body><main>",
        f"<h1>Recall and latency: {escape(str(name))}</h1>",
        f'<p class="summary">{escape(summary(report))}</p>',
        *_plots(report),
        '<h2>All settings</h2><p class="summary">Coloured rows are on the frontier of their k.</p>',
        _table(_headings(), _setting_rows(report)),
        *_conditions(report),
        "<h2>Facts</h2>",
        _facts(report),
        f"</main><script>{SCRIPT}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _plots(report: BenchReport) -> Iterable[str]:
    """Give the picture at k = 10, or the k nearest to it, and the others to unfold."""
    main = min(report.ks, key=lambda k: abs(k - _MAIN_K))
    yield _figure(report, main)
    for k in report.ks:
        if k != main:
            yield f"<details><summary>The same for recall@{k}</summary>"
            yield _figure(report, k)
            yield "</details>"


def _figure(report: BenchReport, k: int) -> str:
    rows = [row for row in report.rows if row.k == k]
    structures = report.structures
    keys = "".join(
        f"<li>{_WIDE_MARKER.format(marker(series))}{escape(structure)}</li>"
        for series, structure in enumerate(structures)
    )
    ring = _WIDE_MARKER.format('<circle class="ring" r="6"/>')
    line = _WIDE_MARKER.format('<path class="frontier" d="M-8,5H0V-5H8"/>')
    return (
        f'<figure class="plot">{plot(rows, structures, report.facts["target_recall"])}'
        f'<div class="tip" role="status" hidden></div>'
        f'<figcaption><ul class="keys">{keys}'
        f"<li>{ring}calibrated default</li><li>{line}frontier: nothing is both better and faster"
        f"</li></ul>Touch or point at a mark for its figures.</figcaption></figure>"
    )


def _headings() -> list[str]:
    units = (
        f"{metric.label} ({metric.unit})" if metric.unit else metric.label for metric in METRICS
    )
    return ["structure", "search", "k", *units]


def _setting_rows(report: BenchReport) -> Iterable[tuple[str, list[str]]]:
    best: set[int] = set()
    for k in report.ks:
        rows = [row for row in report.rows if row.k == k]
        best |= {id(rows[at]) for at in frontier([_point(row) for row in rows])}
    for row in report.rows:
        yield "best" if id(row) in best else "", cells(row)


def _point(row: BenchRow) -> tuple[float, float]:
    return row.recall, row.p50_ms


def _conditions(report: BenchReport) -> Iterable[str]:
    if report.conditions:
        yield "<h2>Filters, removed rows, new rows</h2>"
        yield (
            '<p class="summary">Each on a temporary copy, k = 10, by the calibrated default; '
            "the ratio is the time of one query against the same index without the condition.</p>"
        )
        rows = (
            ("short" if row.returned < row.expected else "", condition_cells(row))
            for row in report.conditions
        )
        yield _table(CONDITION_HEADINGS, rows, words=2)


def _table(
    headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], words: int = 2
) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = []
    for kind, texts in rows:
        inner = "".join(
            f'<th scope="row">{escape(text)}</th>'
            if number == 0
            else f"<td{' class=word' if number < words else ''}>{escape(text)}</td>"
            for number, text in enumerate(texts)
        )
        body.append(f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>")
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _facts(report: BenchReport) -> str:
    known = ((name, report.facts.get(name)) for name in _FACTS)
    entries = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_words(value))}</dd>"
        for name, value in known
        if value is not None
    )
    return f"<dl>{entries}</dl>"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
