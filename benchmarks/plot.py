"""Plots as SVG written by hand: the same results give the same bytes, and nothing is installed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#444444",
            "#b15928", "#1b9e77", "#e7298a", "#66a61e", "#7570b3", "#a6761d", "#1f78b4", "#e31a1c",
            "#33a02c", "#ff7f00", "#999999", "#000000", "#8dd3c7", "#bc80bd")  # fmt: skip
_WIDTH, _HEIGHT = 900, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 640, 40, 460
_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995)
_LEAST, _MOST = 0.8, 0.9997


@dataclass(frozen=True)
class Line:
    """Recall and milliseconds of one library; ours are drawn thicker."""

    name: str
    points: Sequence[Point]
    ours: bool = False


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no faster one beats in recall, by rising recall."""
    best: list[Point] = []
    for recall, cost in sorted(points, key=lambda point: (-point[0], point[1])):
        if not best or cost < best[-1][1]:
            best.append((recall, cost))
    return best[::-1]


def recall_against_time(title: str, lines: Sequence[Line]) -> str:
    """Return an SVG: recall to the right (each step halves what is missed), time upwards, both logarithmic."""
    shown = [
        Line(line.name, [p for p in frontier(line.points) if p[0] >= _LEAST], line.ours)
        for line in lines
    ]
    shown = [line for line in shown if line.points]
    costs = [cost for line in shown for _, cost in line.points] or [1.0]
    low, high = (
        math.floor(math.log10(min(costs)) * 3) / 3,
        math.ceil(math.log10(max(costs)) * 3) / 3,
    )
    high = max(high, low + 1 / 3)

    def y(cost: float) -> float:
        return _BOTTOM - (math.log10(cost) - low) / (high - low) * (_BOTTOM - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text((_LEFT + _RIGHT) / 2, 22, title, "middle", 15),
        *(
            _rule(_x(r), _TOP, _x(r), _BOTTOM) + _text(_x(r), _BOTTOM + 18, f"{r:g}", "middle")
            for r in _RECALLS
        ),
        *(
            _rule(_LEFT, y(c), _RIGHT, y(c)) + _text(_LEFT - 8, y(c) + 4, f"{c:g}", "end")
            for c in _ticks(low, high)
        ),
        _text(_RIGHT, _BOTTOM + 18, "1", "middle"),
        _text((_LEFT + _RIGHT) / 2, _BOTTOM + 42, "recall@10", "middle"),
        _text(_LEFT - 8, _TOP - 12, "ms", "end"),
    ]
    for number, line in enumerate(shown):
        parts += _drawn(
            line, _COLOURS[number % len(_COLOURS)], [(_x(r), y(c)) for r, c in line.points]
        )
        parts += _legend(line, _COLOURS[number % len(_COLOURS)], _TOP + 8 + 20 * number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(recall: float) -> float:
    def place(r: float) -> float:
        return -math.log10(1 - min(r, _MOST))

    share = (place(recall) - place(_LEAST)) / (place(_MOST) - place(_LEAST))
    return _LEFT + share * (_RIGHT - _LEFT)


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return [float(f"{t:.3g}") for t in ticks if low - 1e-9 <= math.log10(t) <= high + 1e-9]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, words: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _drawn(line: Line, colour: str, places: Sequence[Point]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    width, radius = (3, 4) if line.ours else (1.2, 2.5)
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{"" if line.ours else _DASH}/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in places),
    ]


_DASH = ' stroke-dasharray="5 3"'


def _legend(line: Line, colour: str, y: float) -> list[str]:
    return [
        f'<line x1="{_RIGHT + 20}" y1="{y - 4:.1f}" x2="{_RIGHT + 50}" y2="{y - 4:.1f}" stroke="{colour}" stroke-width="{3 if line.ours else 1.2}"{"" if line.ours else _DASH}/>',
        _text(_RIGHT + 58, y, line.name, "start"),
    ]
