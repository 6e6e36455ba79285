"""The section of a result of `benchmarks.vectors`."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import plot, summary

_KEYS = ("ef", "efSearch", "expansion_search", "query_ef")


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    libraries = result["libraries"]
    return [
        *_races(libraries),
        *_others(libraries),
        *_ahead(libraries),
        *_settings(libraries),
        *_builds(libraries),
        *skipped(result["skipped"]),
    ]


def picture(result: dict[str, Any]) -> str:
    """Return the plot."""
    lines = [
        plot.Line(
            name,
            [(row["recall"], statistics.median(row["p50_ms"])) for row in entry["settings"]],
            ours=name.startswith("vecindex:"),
        )
        for name, entry in result["libraries"].items()
    ]
    data = result["data"]
    return plot.recall_against_time(f"{data['name']}: one query on one thread, p50", lines)


def skipped(reasons: dict[str, str]) -> list[str]:
    """Return a line on what was not measured."""
    if not reasons:
        return []
    return [
        "Not measured: " + "; ".join(f"{name} ({why})" for name, why in reasons.items()) + ".",
        "",
    ]


def setting(values: dict[str, Any]) -> str:
    """Return a setting in short."""
    plain = values.get("params", values)
    return ", ".join(f"{name} {value}" for name, value in plain.items()) or "-"


def _pick(pick: summary.Pick | None, target: float) -> str:
    if pick is None:
        return "nobody"
    row = pick.row
    short = "" if row["recall"] >= target else " (its most)"
    return f"{pick.library}, {setting(row['setting'])}: {row['recall']:.4f}{short}, {pick.p50_ms:.3f} ms"


def _races(libraries: dict[str, Any]) -> list[str]:
    lines = [
        "The fastest setting that reaches a recall, of all specs of vecindex and of all peers that count there "
        "(hnswlib, usearch, voyager, ScaNN; for 0.999 FAISS's HNSW32), or the nearest to it where no peer reaches it; the ratio "
        "of p50 is below 1 where vecindex is ahead:",
        "",
        "| recall@10 at least | vecindex | best peer | ratio |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['target']} | {_pick(row['ours'], row['target'])} | {_pick(row['theirs'], row['target'])} | "
        f"{row['ratio'] or '-'} |"
        for row in summary.races(libraries)
    ]
    return [*lines, ""]


def _others(libraries: dict[str, Any]) -> list[str]:
    found = summary.others(libraries)
    if not found:
        return []
    lines = ["| figure | vecindex | against | ratio |", "|---|---|---|---|"]
    lines += [f"| {what} | {ours} | {theirs} | {r} |" for what, (ours, theirs, r) in found.items()]
    return [*lines, ""]


def _ahead(libraries: dict[str, Any]) -> list[str]:
    """Say where a peer is faster, each against our best at the same recall."""
    words = []
    for target in (0.9, *summary.TARGETS):
        ours = summary.fastest(libraries, ["vecindex:"], target)
        for name, entry in libraries.items():
            theirs = summary.fastest({name: entry}, [name], target)
            if name.startswith("vecindex:") or theirs is None:
                continue
            if ours is None:
                words.append(f"{name} reaches recall {target}, vecindex does not")
                continue
            compared = summary.ratio(ours.row["p50_ms"], theirs.row["p50_ms"])
            if compared.median > 1:
                words.append(f"{name} at recall {target} ({compared})")
    if not words:
        return ["No peer is faster than vecindex at recall 0.9, 0.95, 0.99 or 0.999.", ""]
    return [
        "**Peers that are ahead of vecindex's best** (its time over theirs): "
        + "; ".join(words)
        + ".",
        "",
    ]


def _settings(libraries: dict[str, Any]) -> list[str]:
    lines = [
        "Each library at its own fastest setting for each recall (ms: median of the repeats, least to greatest in brackets):",
        "",
        "| library | recall at least | setting | recall@10 | p50 ms | p95 ms | p99 ms | cores busy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in libraries.items():
        for target in (0.9, *summary.TARGETS):
            pick = summary.fastest({name: entry}, [name], target)
            if pick is None:
                lines.append(
                    f"| {name} | {target} | not reached (most: {_most(entry)}) | | | | | |"
                )
                break
            row = pick.row
            lines.append(
                f"| {name} | {target} | {setting(row['setting'])} | {row['recall']:.4f} | {spread(row['p50_ms'])} | "
                f"{spread(row['p95_ms'])} | {spread(row['p99_ms'])} | {statistics.median(row['cores']):.2f} |"
            )
    return [*lines, ""]


def _most(entry: dict[str, Any]) -> str:
    return f"{max(row['recall'] for row in entry['settings']):.4f}"


def spread(figures: list[float]) -> str:
    """Return the median and, of several, the least and the greatest."""
    middle = f"{statistics.median(figures):.3g}"
    if len(figures) < 2:
        return middle
    return f"{middle} ({min(figures):.3g} to {max(figures):.3g})"


def _builds(libraries: dict[str, Any]) -> list[str]:
    lines = [
        "Building with all cores, and what it takes (MB of the saved index, without its float32 rows where they are apart; "
        "growth of the process's memory by the build; milliseconds in which another process opens what was saved and answers "
        "a first query, imports and the disk left out):",
        "",
        "| library | how | build s | of it | saved MB | without rows MB | resident MB | anonymous MB | open, first query ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in libraries.items():
        parts = ", ".join(f"{part} {seconds:.3g}" for part, seconds in entry["parts_s"].items())
        size = entry["size_bytes"]
        lines.append(
            f"| {name} {_versions(entry)} | {entry['note']} | {spread(entry['build_s'])} | {parts} | "
            f"{size['index'] / 1e6:.1f} | {size['structure'] / 1e6:.1f} | {entry['resident_mb']:.0f} | {entry['anonymous_mb']:.0f} | "
            f"{spread(entry['open_ms']) if 'open_ms' in entry else ''} |"
        )
    return [*lines, ""]


def _versions(entry: dict[str, Any]) -> str:
    return next(iter(entry["versions"].values()), "")
