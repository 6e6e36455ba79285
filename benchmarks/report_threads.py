"""The section on searching beside other threads and processes."""

from __future__ import annotations

from typing import Any

from benchmarks.timing import median

_BESIDE = (
    ("python", "alone", None),
    ("thread", "alone", "alone_after"),
    ("process", "reading", None),
)
_NAMES = {"python": "(a thread of plain Python)"}


def threads_section(result: dict[str, Any]) -> list[str]:
    """Return the lines that show one result of `benchmarks.threads`."""
    data, machine, versions = result["data"], result["machine"], result["versions"]
    lines = [
        f"## Beside others: {data['name']}, {data['rows']:,} rows of {data['dim']}",
        "",
        f"`{result['command']}`, {result['repeats']} repeats, {machine['cores']} cores ({machine['cpu']}), "
        + ", ".join(f"{name} {value}" for name, value in versions.items())
        + f", rows' SHA-256 {data['sha256']}.",
        "",
        "Single queries from several threads, a second:",
        "",
        "| structure | 1 thread | 2 threads | ratio | 4 threads | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["structures"].items():
        rates = row["rates"]
        lines.append(
            f"| {name} | {median(rates['1']):,.0f} | {median(rates['2']):,.0f} | {_ratio(rates['2'], rates['1'])} | "
            f"{median(rates['4']):,.0f} | {_ratio(rates['4'], rates['1'])} |"
        )
    lines += [
        "",
        "Searches of one thread, alone and beside durable adds of 1,000 rows without a break, with all the folding that "
        "those bring; `long` counts searches over 50 ms in all repeats. The ratio is that to alone before "
        "(and to alone afterwards, with all rows in). As a measure, what a thread costs that adds nothing and only runs "
        "Python.",
        "",
        "| structure | adds by | rows added a second | p50, ms (alone) | p99, ms (alone, alone afterwards) | ratio of p99 "
        "| longest, ms (alone) | long (alone) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    seconds = float(result["command"].rpartition(" ")[2])
    for name, row in result["structures"].items():
        for by, before, after in _BESIDE:
            during, alone = row[by], row[before]
            late = row[after]["p99_ms"] if after else None
            added = f"{median(during['added']) / seconds:,.0f}" if "added" in during else "none"
            lines.append(
                f"| {name} | {_NAMES.get(by, f'a {by}')} | {added} | {median(during['p50_ms']):.2f} "
                f"({median(alone['p50_ms']):.2f}) | {median(during['p99_ms']):.2f} ({median(alone['p99_ms']):.2f}"
                + (f", {median(late):.2f}" if late else "")
                + f") | {_ratio(during['p99_ms'], alone['p99_ms'])}"
                + (f" ({_ratio(during['p99_ms'], late)})" if late else "")
                + f" | {max(during['max_ms']):.1f} ({max(alone['max_ms']):.1f}) | {sum(during['long']):.0f} "
                f"({sum(alone['long']):.0f}) |"
            )
    lines += ["", "The longest searches, and what ran meanwhile:", ""]
    lines += [
        f"- {name}, {one['ms']:.1f} ms beside a {one['by']}: {', '.join(one['during']) or 'nothing of ours'}"
        for name, row in result["structures"].items()
        for one in row["longest"]
    ]
    return [*lines, ""]


def _ratio(ours: list[float], theirs: list[float]) -> str:
    return f"**{median([a / b for a, b in zip(ours, theirs, strict=True)]):.2f}**"
