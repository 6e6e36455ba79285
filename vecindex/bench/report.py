"""What a measurement gives: rows of numbers with everything needed to read or repeat them."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecindex.bench.metrics import METRICS

if TYPE_CHECKING:
    from rich.table import Table

_PACKAGES = ("vecindex", "faiss-cpu", "numpy")
_FIRST_COLUMNS = ("search", "k")


@dataclass(frozen=True)
class BenchRow:
    """One setting at one k; `METRICS` says what the numbers are.

    Parameters
    ----------
    name : str
        `"exact"`, `"default"` (as calibrated), or a parameter with its value.
    k : int
        Neighbours asked for.
    plan : str
        How the index carried the search out.
    recall : float
        Share of the exact k found, ties counted.
    p50_ms, p95_ms, p99_ms : float
        Percentiles of the time of one query alone, in milliseconds.
    p50_spread_ms : float
        Largest less smallest median of the repeats, in milliseconds.
    batch_qps : float
        Queries per second when all are asked in one call.
    batch_spread_qps : float
        Largest less smallest of the repeats.
    score_error : float
        Largest difference of a returned score from the recomputed cosine.
    """

    name: str
    k: int
    plan: str
    recall: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p50_spread_ms: float
    batch_qps: float
    batch_spread_qps: float
    score_error: float


@dataclass(frozen=True)
class BenchReport:
    """The measurement of one index.

    Parameters
    ----------
    facts : dict
        The index (path, rows, dim, structure, spec, target recall), the queries (number, source,
        seed, repeats), the machine, the versions, threads and command.
    rows : tuple of BenchRow
        By k; exact search first, then the calibrated default, then the grid.
    """

    facts: dict[str, Any] = field(repr=False)
    rows: tuple[BenchRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict that json can write, the metrics' units and directions included."""
        return {
            "facts": self.facts,
            "metrics": [asdict(metric) for metric in METRICS],
            "rows": [asdict(row) for row in self.rows],
        }

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """Return the rows as a Markdown table, with one line of facts above it."""
        headings = [*_FIRST_COLUMNS, *(metric.heading for metric in METRICS)]
        lines = [self.summary(), "", _markdown_row(headings)]
        lines.append(_markdown_row(["---", *["---:"] * (len(headings) - 1)]))
        lines += [_markdown_row(_cells(row)) for row in self.rows]
        return "\n".join(lines) + "\n"

    def to_table(self) -> Table:
        """Return the rows as a rich table."""
        from rich.table import Table

        table = Table(title=self.summary(), title_justify="left")
        table.add_column(_FIRST_COLUMNS[0], no_wrap=True)
        table.add_column(_FIRST_COLUMNS[1], justify="right")
        for metric in METRICS:
            arrow = "↑" if metric.better == "higher" else "↓"
            unit = f"\n{metric.unit}" if metric.unit else ""
            table.add_column(f"{metric.label} {arrow}{unit}", justify="right")
        for row in self.rows:
            table.add_row(*_cells(row), end_section=_last_of_its_k(row, self.rows))
        return table

    def summary(self) -> str:
        """Return one line on what was measured where, and what to keep in mind."""
        facts, machine = self.facts, self.facts["machine"]
        note = f"; {facts['note']}" if facts["note"] else ""
        return (
            f"{facts['rows']:,} rows x {facts['dim']}, {facts['structure'] or 'no structure'}, "
            f"{facts['queries']} queries ({facts['query_source']}), "
            f"{facts['repeats']} repeats, {machine['cpu']}, {machine['cores']} cores{note}"
        )


def machine_facts() -> dict[str, Any]:
    """Return what the times depend on: processor, cores, memory and system."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages * page / 1e9, 1),
        "system": platform.platform(),
    }


def version_facts() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cells(row: BenchRow) -> list[str]:
    numbers = [format(getattr(row, metric.name), metric.form) for metric in METRICS]
    return [row.name, str(row.k), *numbers]


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _last_of_its_k(row: BenchRow, rows: tuple[BenchRow, ...]) -> bool:
    return row is [other for other in rows if other.k == row.k][-1]
