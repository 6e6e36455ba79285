"""The sections on right answers, kept promises, and filters, removed rows and new rows."""

from __future__ import annotations

from typing import Any


def promise_section(result: dict[str, Any]) -> list[str]:
    """Return the lines that show one result of `benchmarks.promise`."""
    data = result["data"]
    lines = [
        f"## The promise: {data['name']}, {data['rows']:,} rows of {data['dim']}",
        "",
        f"`{result['command']}`, rows' SHA-256 {data['sha256']}. Calibrated with so many seeds, then asked "
        "queries that the calibration did not see.",
        "",
        "| structure | queries | target | kept | least recall | mean recall |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {line['spec']} | {line['source']} | {line['target']:g} | {line['kept']} of {line['seeds']} | "
        f"{line['least']:.4f} | {line['mean']:.4f} |"
        for line in result["lines"]
    ]
    return [*lines, ""]


def quality_section(result: dict[str, Any]) -> list[str]:
    """Return the lines that show one result of `benchmarks.quality`."""
    data = result["data"]
    lines = [
        f"## Right answers: {data['name']}, {data['rows']:,} texts, {data['queries']:,} of their summaries asked",
        "",
        f"`{result['command']}`, embedded by `{result['model']}`, rows' SHA-256 {data['sha256']}. A summary is "
        "answered well if its own text is among the first ten; lost is what exact search finds there and this does not.",
        "",
        "| target_recall | own text first | among the first ten | lost | recall@10 | how |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {line['name']} | {line['first']:.4f} | {line['among_ten']:.4f} | {line['lost']:.4f} | "
        f"{line['recall']:.4f} | {line['plan'] or 'every row compared'} |"
        for line in result["lines"]
    ]
    return [*lines, ""]


def conditions_section(report: dict[str, Any]) -> list[str]:
    """Return the lines that show the conditions of a report of `vecindex bench`."""
    facts = report["facts"]
    lines = [
        f"## Filters, removed rows, new rows: {facts['rows']:,} rows of {facts['dim']}",
        "",
        f"`{facts['command']}`, {facts['queries']} queries, {facts['repeats']} repeats. The time is that of one "
        "query, against the same query without the condition in the same round.",
        "",
        "| structure | condition | rows that may be returned | recall@10 | fewest returned | first, ms | p50, ms | ratio | how |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['structure']} | {row['name']} | {row['matches']:,} | {row['recall']:.4f} | {row['returned']} of "
        f"{row['expected']} | {row['first_ms']:.2f} | {row['p50_ms']:.3f} | **{row['ratio']:.2f}** | {row['plan']} |"
        for row in report["conditions"]
    ]
    return [*lines, ""]
