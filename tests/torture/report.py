"""The page of reliability, written from the files of results: no figure on it is typed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .results import HERE

PAGE = Path(__file__).parents[1] / "RELIABILITY.md"
GOLDEN = Path(__file__).parents[1] / "golden"
FOUND = Path(__file__).parent / "found.toml"


@dataclass(frozen=True)
class Promise:
    """One promise: what is promised, how it is tried, by which parts and tests."""

    number: int
    title: str
    text: str
    parts: list[str]
    tests: list[str]


_PROSE = tomllib.loads((Path(__file__).parent / "promises.toml").read_text())
PROMISES = [Promise(number, **facts) for number, facts in enumerate(_PROSE["promise"], 1)]

COUNTS = {
    "crash": {
        "states": "different states of the disk, each opened by the real code",
        "judged": "comparisons with what was acknowledged by then",
        "moments": "moments of crashes",
        "followed": "recovered directories in which work went on",
    },
    "faults": {"faults": "failing calls", "operations": "kinds of operations"},
    "disks": {"disks": "sizes of disks", "steps_without_room": "operations that found no room"},
    "damage": {
        "flips": "flipped bits", "cuts": "cut lengths", "files": "files",
        "refused": "of these cases named as damage", "right": "of them answered rightly",
    },
    "large": {
        "large": "damaged files", "refused": "of them named as damage",
        "right": "of them answered rightly (caches, and tails that no call acknowledged)",
        "repairs": "repairs", "rows_lost": "rows lost in repairs, each of them told",
    },
    "kills": {
        "kills": "processes killed by signal 9",
        "at_points": "of them at a file operation, by name and number",
        "at_random": "at random moments", "while_recovering": "while recovering from another",
        "acknowledged": "acknowledged operations, all of which were found",
        "torn": "torn writes that the next writer dropped",
        "found": "times the operation under way was there", "gone": "times it was not",
    },
    "soak": {"soaked_s": "seconds of one writer and four readers"},
    "fuzz": {"inputs": "inputs", "targets": "readers"},
}  # fmt: skip
"""What is counted, in words; other counts go by their names."""


def results() -> dict[str, dict[str, Any]]:
    """Return the results of all parts that were run."""
    found = (json.loads(path.read_text()) for path in sorted(HERE.glob("*.json")))
    return {values["part"]: values for values in found}


def found() -> list[dict[str, Any]]:
    """Return the failures that were found on the way, in the order of the promises."""
    entries: list[dict[str, Any]] = tomllib.loads(FOUND.read_text())["found"]
    return sorted(entries, key=lambda entry: int(entry["promise"]))


def page() -> str:
    """Return the page."""
    parts, mended = results(), found()
    lines = [_PROSE["head"], *_table(parts, mended), "", _versions(parts), ""]
    for promise in PROMISES:
        lines += _promise(promise, parts, mended)
    return "\n".join([*lines, _PROSE["tail"]])


def write_page() -> str:
    """Write the page, and return what was written where."""
    PAGE.write_text(page())
    return f"wrote tests/{PAGE.name}"


def _table(parts: dict[str, Any], mended: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| | promise | tried | failing now | found and mended |"
    yield "|---|---|---|---|---|"
    for promise in PROMISES:
        tried = [_headline(parts[part]) for part in promise.parts if part in parts]
        failing = sum(len(parts[part]["failures"]) for part in promise.parts if part in parts)
        count = sum(entry["promise"] == promise.number for entry in mended)
        shown = "; ".join(tried) or (
            "in the tests" if not promise.parts else "not yet run at length"
        )
        yield f"| {promise.number} | {promise.title} | {shown} | {failing} | {count} |"


def _headline(values: dict[str, Any]) -> str:
    """Return what counts most of a part's results."""
    name, count = next(iter(_counts(values)), ("nothing", 0))
    return f"{count:,} {_word(values['part'], name).partition(',')[0]}, {_time(values['seconds'])}"


def _counts(values: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what there were any of, those first that have words."""
    known = list(COUNTS.get(values["part"], {}))
    counts = [(name, count) for name, count in values["counts"].items() if count]
    return sorted(counts, key=lambda c: known.index(c[0]) if c[0] in known else len(known))


def _word(part: str, name: str) -> str:
    return COUNTS.get(part, {}).get(name, name.replace("_", " "))


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _versions(parts: dict[str, Any]) -> str:
    """Return which code was tried, and with what."""
    groups: dict[str, list[str]] = {}
    for part, values in parts.items():
        facts = {
            name: values.get(name, "not noted") for name in ("version", "code", "python", "faiss")
        }
        of = "vecindex {version} (code {code}) with Python {python} and FAISS {faiss}".format(
            **facts
        )
        groups.setdefault(of, []).append(part)
    told = "; ".join(f"{of} in {', '.join(names)}" for of, names in groups.items())
    return (
        f"Tried was {told}. The code is a fingerprint of the modules concerned, comments left out."
    )


def _promise(
    promise: Promise, parts: dict[str, Any], mended: Sequence[dict[str, Any]]
) -> Iterator[str]:
    yield f"## {promise.number}. {promise.title}\n\n{promise.text}"
    for part in promise.parts:
        if part in parts:
            yield from _part(parts[part])
        else:
            yield f"- **{part}**: not yet run at length."
    if promise.number == 7:
        yield f"- Directories kept: {', '.join(f'`{name}`' for name in golden())}."
    yield "- In the tests: " + ", ".join(f"`{test}`" for test in promise.tests) + "."
    mine = [entry for entry in mended if entry["promise"] == promise.number]
    yield ""
    if mine:
        yield "| found on the way | mended by | test |"
        yield "|---|---|---|"
        for entry in mine:
            yield f"| {entry['found']} | {entry['mended']} | `{entry['test']}` |"
        yield ""


def golden() -> list[str]:
    """Return the names of the directories that must open for ever."""
    return sorted(path.name for path in GOLDEN.glob("*-[0-9]*") if path.is_dir())


def _part(values: dict[str, Any]) -> Iterator[str]:
    part = values["part"]
    counts = ", ".join(f"{count:,} {_word(part, name)}" for name, count in _counts(values))
    seeds = f"seeds 0 to {values['next_seed'] - 1}" if values.get("next_seed") else "no seed"
    yield f"- **{part}**: {counts}. {_time(values['seconds'])}, {seeds}."
    file = f"tests/torture/results/{part}.json"
    yield f"  Run: `python -m tests.torture {part} --seconds 600 --out {file}`."
    yield f"  Replay: `{values.get('replay', f'python -m tests.torture {part} --replay SEED')}`."
    for failure in values["failures"]:
        error = " ".join(failure["error"].split())[:200]
        yield f"  **Failing**: {error} (`{failure['replay']}`)."
    if "targets" in values:
        yield from _targets(values["targets"])
    for run in values.get("runs", ())[-1:]:
        yield from _growth(run)


def _growth(run: dict[str, Any]) -> Iterator[str]:
    """Yield what a soak's processes and directory held: one table of medians."""
    yield f"\nMedians of the second and the last quarter of the run with seed {run['seed']}:\n"
    yield "| of | what | second | last | limit |"
    yield "|---|---|---|---|---|"
    for of, measures in run["growth"].items():
        for name, numbers in measures.items():
            yield f"| {of} | {name} | " + " | ".join(f"{one:,.1f}" for one in numbers) + " |"
    yield ""


def _targets(targets: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "\n| reader | inputs | time | places of the code reached | inputs kept | code |"
    yield "|---|---|---|---|---|---|"
    for name, facts in targets.items():
        yield (
            f"| {name} | {facts['inputs']:,} | {_time(facts['seconds'])} | {facts['coverage']:,} | "
            f"{facts['corpus']:,} | `{facts['code']}` |"
        )
    yield ""
