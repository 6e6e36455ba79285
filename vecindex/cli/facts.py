"""What commands say of an index: its facts, the recall it promises, what was measured and tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from vecindex.cli.output import counted, print_facts, size_text

if TYPE_CHECKING:
    from vecindex.results import Calibration, IndexInfo, OperatingPoint, Tried


def point_in_use(info: IndexInfo) -> OperatingPoint | None:
    """Return what was measured for the parameters in use, None if nothing is approximate."""
    points = info.calibration.points if info.calibration else ()
    return next((point for point in points if point.params == info.params), None)


def promise(info: IndexInfo) -> str | None:
    """Return the recall that was measured and that is promised; None if all is exact."""
    point, calibration = point_in_use(info), info.calibration
    if calibration is None:
        return None
    if point is None:
        target = f"recall {info.target_recall:g}"
        return f"no setting promises {target} ({_asked(calibration)}): every search is exact"
    return (
        f"recall@{calibration.k} {point.recall:.4f} measured, at least {point.bound:.4f} "
        f"with {100 * calibration.confidence:g} % confidence ({_asked(calibration)})"
    )


def print_info(info: IndexInfo) -> None:
    """Print an index's facts, what `auto` tried, and notes."""
    print_facts(_facts(info))
    if info.tried:
        typer.echo("auto tried:")
    width = max((len(tried.spec) for tried in info.tried), default=0)
    for tried in info.tried:
        typer.echo(f"  {tried.spec:<{width}}  {tried.verdict}")
        if figures := ", ".join(_figures(tried)):
            typer.echo(f"  {'':<{width}}  {figures}")
    for note in info.notes:
        typer.echo(f"note: {note}")


def print_curve(info: IndexInfo) -> None:
    """Print what was measured for each setting as a table."""
    from rich.console import Console
    from rich.table import Table

    calibration, used = info.calibration, point_in_use(info)
    if calibration is None:
        typer.echo("no curve: every search is exact")
        return
    title = (
        f"{structure_name(info)}, {_asked(calibration)}; "
        f"exact search takes {calibration.exact_ms:.3f} ms"
    )
    table = Table(title=title, title_style="", title_justify="left")
    table.add_column("setting")
    for heading in (f"recall@{calibration.k}", "at least", "ms a query"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for point in calibration.points:
        figures = (f"{point.recall:.4f}", f"{point.bound:.4f}", f"{point.latency_ms:.3f}")
        table.add_row(settings(point.params), *figures, "in use" if point == used else "")
    Console().print(table)


def structure_name(info: IndexInfo) -> str | None:
    """Return the structure that exists, with its codes, as in `ivf/pq4`; None if there is none."""
    if info.structure is None or info.codes in (None, "float32"):
        return info.structure
    return f"{info.structure}/{info.codes}"


def settings(values: dict[str, Any]) -> str:
    """Return names and values that are set as words, a kind first."""
    named = {name: value for name, value in values.items() if value is not None}
    kind = [str(named.pop("kind"))] if "kind" in named else []
    return " ".join([*kind, *(f"{name}={value}" for name, value in named.items())])


def _asked(calibration: Calibration) -> str:
    count = calibration.queries
    if calibration.source == "rows":
        return f"{counted(count, 'row')} as queries"
    return f"{count:,} given {'query' if count == 1 else 'queries'}"


def _latency(info: IndexInfo) -> str | None:
    point, calibration = point_in_use(info), info.calibration
    if point is None or calibration is None:
        return None
    return f"{point.latency_ms:.3f} ms a query; exact search {calibration.exact_ms:.3f} ms"


def _facts(info: IndexInfo) -> dict[str, Any]:
    removed = f", {info.removed:,} removed" if info.removed else ""
    memory = f"{size_text(info.memory_bytes)} beside the mapped vectors"
    return {
        "path": info.path,
        "rows": f"{info.rows:,}{removed}",
        "dim": info.dim,
        "structure": structure_name(info) or "none (every search is exact)",
        "spec": settings(info.spec),
        "indexed": None
        if not info.indexed
        else f"{counted(info.indexed, 'row')}, {info.tail:,} beside it",
        "target": f"recall@10 {info.target_recall:g}",
        "promise": promise(info),
        "params": None if not info.params else settings(info.params),
        "latency": _latency(info),
        "memory": memory if info.memory_bytes else None,
        "embedder": info.embedder,
        "size": size_text(info.size_bytes),
        "generation": info.generation,
        "format": info.format,
    }


def _figures(tried: Tried) -> Iterator[str]:
    """Yield what was measured of a structure, in words."""
    if tried.build_s:
        yield f"built in {tried.build_s:.1f} s"
    if tried.size_bytes:
        yield size_text(tried.size_bytes)
    if not tried.build_s and tried.recall == 1:
        yield "exact"
    elif tried.recall is not None and tried.bound is not None:
        yield settings(tried.params or {})
        yield f"recall {tried.recall:.4f}, at least {tried.bound:.4f}"
    if tried.latency_ms is not None:
        yield f"{tried.latency_ms:.3f} ms"
