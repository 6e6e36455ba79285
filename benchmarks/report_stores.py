"""The section of a result of `benchmarks.stores`."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import plot, summary
from benchmarks.report_vectors import skipped, spread


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    stores = result["stores"]
    lines = [*_loads(stores), *_queries(stores), *_filters(stores)]
    if "vecindex" in stores:
        lines += [*_same_recall(stores), *_ahead(stores)]
    return [*lines, *skipped(result["skipped"])]


def picture(result: dict[str, Any]) -> str:
    """Return the plot."""
    lines = [
        plot.Line(
            name,
            [
                (row["recall"], statistics.median(row["p50_ms"]))
                for row in summary.unfiltered(entry)
            ],
            ours=name == "vecindex",
        )
        for name, entry in result["stores"].items()
    ]
    title = f"{result['data']['name']}: one query with ids and texts, p50"
    return plot.recall_against_time(title, lines)


def _loads(stores: dict[str, Any]) -> list[str]:
    lines = [
        "Loading in batches of 1,000 rows, building, and opening in a fresh process (the import apart, beyond numpy):",
        "",
        "| store | how | durable after each batch | load rows/s | build s | MB on disk | import ms | open ms | first query ms | open + first |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in stores.items():
        both = [a + b for a, b in zip(entry["open_ms"], entry["first_query_ms"], strict=True)]
        lines.append(
            f"| {name} {next(iter(entry['versions'].values()), '')} | {entry['note']} | {entry['durability']} | "
            f"{entry['load_rows_per_s']:,.0f} | {entry['build_s']:.1f} | {entry['size_bytes'] / 1e6:.0f} | {spread(entry['import_ms'])} | "
            f"{spread(entry['open_ms'])} | {spread(entry['first_query_ms'])} | **{statistics.median(both):.3g}** |"
        )
    return [*lines, ""]


def _queries(stores: dict[str, Any]) -> list[str]:
    lines = [
        "One query on one thread, ids and texts returned:",
        "",
        "| store | setting | recall@10 | p50 ms | p95 ms | p99 ms | queries | cores busy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in stores.items():
        lines += [
            f"| {name} | {row['setting']} | {row['recall']:.4f} | {spread(row['p50_ms'])} | {spread(row['p95_ms'])} | "
            f"{spread(row['p99_ms'])} | {row['queries']} | {statistics.median(row['cores']):.2f} |"
            for row in summary.unfiltered(entry)
        ]
    return [*lines, ""]


def _filters(stores: dict[str, Any]) -> list[str]:
    lines = [
        "With a filter `u < x`, the same for all queries of a share; `first` is the first query with it in the process "
        "(after the same filter at another setting of the same store it is not cold). A share with fewer than 10 rows "
        "cannot return 10. The ratio is vecindex's default over this row:",
        "",
        "| store | setting | kept | recall@10 | rows returned | first ms | p50 ms | p95 ms | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in stores.items():
        ratios = {
            (row["theirs"]["setting"], row["theirs"]["below"]): row["ratio"]
            for row in summary.same_filter(stores.get("vecindex", {"searches": []}), entry)
            if name != "vecindex"
        }
        lines += [_filtered(name, row, ratios) for row in entry["searches"] if row["below"]]
    return [*lines, ""]


def _filtered(name: str, row: dict[str, Any], ratios: dict[Any, summary.Ratio]) -> str:
    head = f"| {name} | {row['setting']} | {row['below']:.1%} |"
    if "error" in row:
        return f"{head} {row['error']} | | | | | |"
    return (
        f"{head} {row['recall']:.4f} | {row['returned']:.2f} | {row['first_ms']:.3g} | {spread(row['p50_ms'])} | "
        f"{spread(row['p95_ms'])} | {ratios.get((row['setting'], row['below']), '-')} |"
    )


def _same_recall(stores: dict[str, Any]) -> list[str]:
    lines = [
        "vecindex's fastest setting that finds at least as much, against each setting of each store (ratio of p50 below 1: vecindex is ahead):",
        "",
        "| store | setting | recall@10 | p50 ms | vecindex | recall@10 | p50 ms | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in _peers(stores).items():
        for row in summary.same_recall(stores["vecindex"], entry):
            ours, theirs = row["ours"], row["theirs"]
            mine = (
                f"{ours['setting']} | {ours['recall']:.4f} | {spread(ours['p50_ms'])}"
                if ours
                else "not reached | | "
            )
            lines.append(
                f"| {name} | {theirs['setting']} | {theirs['recall']:.4f} | {spread(theirs['p50_ms'])} | {mine} | {row['ratio'] or '-'} |"
            )
    return [*lines, ""]


def _ahead(stores: dict[str, Any]) -> list[str]:
    """Say where a store is ahead, whatever its recall: that stands beside it."""
    ours, words = stores["vecindex"], []
    for name, entry in _peers(stores).items():
        words += [
            f"{name}, {row['theirs']['setting']} ({row['ratio'] or 'vecindex does not find as much'})"
            for row in summary.same_recall(ours, entry)
            if row["ratio"] is None or row["ratio"].median > 1
        ]
        words += [
            f"{name}, {row['theirs']['setting']}, filter of {row['theirs']['below']:.1%} ({row['ratio']}, "
            f"at recall {row['theirs']['recall']:.3f} against {row['ours']['recall']:.3f})"
            for row in summary.same_filter(ours, entry)
            if row["ratio"].median > 1
        ]
        words += _single_figures(name, ours, entry)
    if not words:
        return ["No store is ahead of vecindex in any row.", ""]
    return [
        "**Where a store is ahead of vecindex** (its figure over theirs):",
        "",
        *(f"- {w}" for w in words),
        "",
    ]


def _single_figures(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    def first(entry: dict[str, Any]) -> float:
        return statistics.median(entry["open_ms"]) + statistics.median(entry["first_query_ms"])

    figures = {
        "loading": theirs["load_rows_per_s"] / ours["load_rows_per_s"],
        "load and build": _total(ours) / _total(theirs),
        "bytes on disk": ours["size_bytes"] / theirs["size_bytes"],
        "open and first query": first(ours) / first(theirs),
        "import": statistics.median(ours["import_ms"]) / statistics.median(theirs["import_ms"]),
    }
    return [f"{name}, {what} (**{value:.2f}**)" for what, value in figures.items() if value > 1]


def _total(entry: dict[str, Any]) -> float:
    return float(entry["add_s"] + entry["sync_s"] + entry["build_s"])


def _peers(stores: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in stores.items() if name != "vecindex"}
