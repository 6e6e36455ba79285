"""The section on builds: time outside the model, nothing twice, and what was predicted."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

_PARTS = (
    ("check_s", "reading and checking everything"),
    ("store_s", "reading again and storing"),
    ("structure_s", "choosing, building and measuring the structure"),
    ("around_s", "around the model: checks, order, counting texts that it cuts"),
    ("outside_s", "**together**"),
)


def building_section(result: dict[str, Any]) -> list[str]:
    """Return the lines that show one result of `benchmarks.building`."""
    data, model, machine = result["data"], result["model"], result["machine"]
    builds = result["builds"]
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    lines = [
        f"## Building: {data['name']}, {data['rows']:,} texts with metadata",
        "",
        f"`{result['command']}`, {result['repeats']} repeats, {machine['cores']} cores ({machine['cpu']}), {versions}, "
        f"records' SHA-256 {data['sha256']}.",
        "",
        f"`{model['name']}` embeds {model['texts_per_s']:,.1f} texts a second on {model['cores']} of {machine['cores']} cores (a sample of {model['texts']:,}, "
        f"{model['truncated']:,} of them longer than it reads). The builds are made with a stand-in, which takes nearly "
        f"no time ({_median(builds, 'model_seconds'):.2f} s, subtracted) and gives vectors of dimension {data['dim']} "
        "between those of the sample.",
        "",
        f"| time outside the model, `{builds[0]['structure']}` in the end | seconds |",
        "|---|---|",
        *(f"| {name} | {_spread(builds, part, _seconds)} |" for part, name in _PARTS),
        f"| the model at its speed | {_seconds(builds[0]['model_s'])} |",
        f"| share outside the model (at most {result['bound']:.0%}) | **{_spread(builds, 'share', _percent)}** |",
        "",
        "| nothing twice | seconds | texts embedded | |",
        "|---|---|---|---|",
        *_runs(result),
        "",
        "| what `--plan` says and what is | rows | seconds | MB on disk | MB in memory at most |",
        "|---|---|---|---|---|",
        *_planned(f"these {data['rows']:,} texts, with the stand-in", result["plan"], builds),
    ]
    if given := result.get("million"):
        name = f"{given['rows']:,} given vectors of {given['dim']}, {given['source_bytes'] / 1e6:,.0f} MB"
        lines += _planned(name, given["plan"], [given])
    return [*lines, ""]


def _runs(result: dict[str, Any]) -> Iterator[str]:
    again, changed, cache = result["again"], result["changed"], result["cache"]
    resumed = result["resumed"]
    yield _run("the same build again", again, f"{again['unchanged']:,} rows unchanged")
    words = f"{changed['unchanged']:,} rows unchanged"
    yield _run(f"again, {changed['texts_changed']:,} texts changed", changed, words)
    for name, key in (
        ("a new index with an empty cache", "filling"),
        ("another from this cache", "filled"),
    ):
        run = cache[key]
        yield _run(name, run, f"{run['cache_hits']:,} hits, {run['cache_misses']:,} misses")
    same = "the same" if resumed["same"] else "**not the same**"
    yield _run(
        f"killed after {resumed['killed_after']:,} texts, and run again",
        resumed,
        f"{resumed['kept']:,} rows were kept, {resumed['embedded_twice']:,} texts embedded twice (a batch has "
        f"{resumed['batch_rows']:,}); {same} ids, texts, metadata and vectors as without the kill",
    )


def _run(name: str, run: dict[str, Any], words: str) -> str:
    return f"| {name} | {_seconds(run['seconds'])} | {run['embedded']:,} | {words} |"


def _planned(name: str, plan: dict[str, Any], runs: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        f"| {name}: predicted in {_seconds(plan['plan_s'])} s | {plan['added']:,} | {_seconds(plan['seconds'])} | "
        f"{_mb(plan['disk_bytes'])} | {_mb(plan['memory_bytes'])} |"
    )
    resident, anonymous = (
        max(run[f"{kind}_bytes"] for run in runs) for kind in ("resident", "anonymous")
    )
    yield (
        f"| real, `{runs[0]['structure']}` in the end | {runs[0]['rows']:,} | {_seconds(_median(runs, 'seconds'))} | {_mb(runs[0]['disk_bytes'])} | "
        f"{_mb(resident)}, with what is mapped from files; {_mb(anonymous)} without |"
    )


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _spread(runs: list[dict[str, Any]], name: str, shown: Callable[[float], str]) -> str:
    values = [run[name] for run in runs]
    return f"{shown(statistics.median(values))} ({shown(min(values))} to {shown(max(values))})"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f}"
