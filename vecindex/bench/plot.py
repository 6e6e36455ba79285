"""The picture of recall against latency: one inline SVG, every point explained."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vecindex.bench.axes import RecallAxis, TimeAxis
from vecindex.bench.frontier import frontier
from vecindex.bench.metrics import METRICS, Metric
from vecindex.bench.report import BenchRow

WIDTH, HEIGHT = 480, 370
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 470, 26, 326
_TICKS_APART = 40

SHAPES = (
    "M-5.5,0a5.5,5.5 0 1,0 11,0a5.5,5.5 0 1,0 -11,0z",  # circle
    "M-5,-5h10v10h-10z",  # square
    "M0,-6.5L6,5h-12z",  # triangle
    "M0,-7L6.5,0L0,7L-6.5,0z",  # diamond
    "M0,6.5L6,-5h-12z",  # triangle, point down
    "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",  # plus
    "M0,-7L1.8,-2.2L6.8,-2.2L2.8,1L4.2,6L0,3L-4.2,6L-2.8,1L-6.8,-2.2L-1.8,-2.2z",  # star
    "M-6.5,0L-3.2,-5.7h6.4L6.5,0L3.2,5.7h-6.4z",  # hexagon
    "M-5.7,-3.2l2.5,-2.5L0,-2.5l3.2,-3.2l2.5,2.5L2.5,0l3.2,3.2l-2.5,2.5L0,2.5l-3.2,3.2l-2.5,-2.5"
    "L-2.5,0z",  # cross
)
"""Outlines around the origin, one for each series."""

COLORS = 10
"""Colours of the page; with as many shapes less one, the pairs repeat late."""


def marker(series: int) -> str:
    """Return the shape of a series as an SVG element, coloured by its class."""
    return f'<path class="mark c{series % COLORS}" d="{SHAPES[series % len(SHAPES)]}"/>'


def plot(rows: Sequence[BenchRow], structures: Sequence[str], target: float) -> str:
    """Return recall against the median latency as an SVG element.

    Parameters
    ----------
    rows : sequence of BenchRow
        Of one k, at least one.
    structures : sequence of str
        The labels; the position gives colour and shape.
    target : float
        The recall at which a line is drawn.

    Returns
    -------
    str
        SVG whose coordinates scale with its width. Each point is a group of class `point` with a
        `title` of all its figures; those on the frontier are of class `best`, too.
    """
    across = RecallAxis.over([*(row.recall for row in rows), target], _LEFT, _RIGHT)
    up = TimeAxis.over([row.p50_ms for row in rows], _BOTTOM, _TOP)
    places = [(across.at(row.recall), up.at(row.p50_ms)) for row in rows]
    best = frontier([(row.recall, row.p50_ms) for row in rows])
    label = f"recall@{rows[0].k} against the median time of one query"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escape(label)}">',
        *_grid(across, up, rows[0].k),
        *_target(across, target),
        f'<path class="frontier" d="{_steps([places[at] for at in best])}"/>',
        *_lines(rows, structures, places),
        *(
            _point(row, structures.index(row.structure), place, at in best)
            for at, (row, place) in enumerate(zip(rows, places, strict=True))
        ),
        "</svg>",
    ]
    return "\n".join(parts)


def explanation(row: BenchRow) -> str:
    """Return all figures of a row as lines of text."""
    named = {metric.name: metric for metric in METRICS}
    times = " / ".join(
        named[name].text(getattr(row, name)) for name in ("p50_ms", "p95_ms", "p99_ms")
    )
    lines = [
        f"{row.structure} · {row.name}",
        f"recall@{row.k}: {_figure(named['recall'], row)} ± {_figure(named['recall_error'], row)}",
        f"p50 / p95 / p99: {times} ms",
        *(
            f"{named[name].label}: {_figure(named[name], row)} {named[name].unit}"
            for name in ("batch_qps", "build_s", "size_bytes", "memory_bytes")
            if getattr(row, name) is not None
        ),
        row.plan,
    ]
    return "\n".join(lines)


def _figure(metric: Metric, row: BenchRow) -> str:
    return metric.text(getattr(row, metric.name))


def _grid(across: RecallAxis, up: TimeAxis, k: int) -> list[str]:
    parts = []
    for x, label in across.ticks(_TICKS_APART):
        parts.append(f'<path class="grid" d="M{x},{_TOP}V{_BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{_BOTTOM + 17}">{label}</text>')
    for y, label in up.ticks():
        parts.append(f'<path class="grid" d="M{_LEFT},{y}H{_RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 5}" y="{y}" dy=".35em">{label}</text>')
    parts.append('<text class="axis" x="4" y="14">p50 of one query, ms (log)</text>')
    parts.append(
        f'<text class="axis end" x="{_RIGHT}" y="{HEIGHT - 8}">'
        f"recall@{k}, stretched towards 1 → better, and lower is faster</text>"
    )
    return parts


def _target(across: RecallAxis, target: float) -> list[str]:
    x = across.at(target)
    return [
        f'<path class="target" d="M{x},{_TOP}V{_BOTTOM}"/>',
        f'<text class="axis end" x="{x - 4}" y="{_TOP + 12}">target {target:g}</text>',
    ]


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """Return the path of the least time for each recall: up where a setting no longer suffices."""
    path = f"M{_LEFT},{places[0][1]}H{places[0][0]}"
    return path + "".join(f"V{y}H{x}" for x, y in places[1:])


def _lines(
    rows: Sequence[BenchRow], structures: Sequence[str], places: Sequence[tuple[float, float]]
) -> list[str]:
    parts = []
    for series, structure in enumerate(structures):
        own = [
            place
            for row, place in zip(rows, places, strict=True)
            if row.structure == structure and row.name not in ("exact", "default")
        ]
        if len(own) > 1:
            corners = " ".join(f"{x},{y}" for x, y in own)
            parts.append(f'<polyline class="line c{series % COLORS}" points="{corners}"/>')
    return parts


def _point(row: BenchRow, series: int, place: tuple[float, float], best: bool) -> str:
    ring = f'<circle class="ring c{series % COLORS}" r="9.5"/>' if row.name == "default" else ""
    return (
        f'<g class="point{" best" if best else ""}" tabindex="0" role="img" '
        f'transform="translate({place[0]},{place[1]})">'
        f"<title>{escape(explanation(row))}</title>{ring}{marker(series)}</g>"
    )
