"""The longer commands: `python -m tests.torture crash --seconds 600 --out FILE`.

Each part has a time limit, goes on where its last run ended if it has a file for its results, and
adds them up there; `results.py` says what such a file holds. `--replay SEED` does one seed again
and shows its failure in full. `report` writes tests/RELIABILITY.md from all of them.

A part is a function that is given the results, a seed that no run had yet, and the options. It
tries what belongs to the seed, adds to the counts, and raises what went wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import damage as damages
from .crash import Tally, crash_a_script
from .faults import FAILURES, OPERATIONS, fail_everywhere, fail_to_create, make_template
from .fuzzing import BY_TARGET, all_fuzzed, fuzz
from .kills import NAMES, kill_everywhere
from .kills import Tally as Killed
from .kills_random import kill_writers
from .operations import SCRIPTS, at_random
from .report import write_page
from .results import Results
from .small_disk import permitted, run
from .soak import soak_and_note

Options = argparse.Namespace


@dataclass(frozen=True)
class Part:
    """One part: what is done with a seed, what is counted, and how many of that are wanted."""

    work: Callable[[Results, int, Options], None]
    counted: str
    wanted: int
    code: str | None = None
    done: Callable[[Results], bool] | None = None


def crash(results: Results, seed: int, _: Options) -> None:
    """Crash a script everywhere: the first seeds are those of the tests, then random ones."""
    scripts = list(SCRIPTS.values())
    script, options = scripts[seed] if seed < len(scripts) else at_random(seed)
    tally = Tally()
    try:
        crash_a_script(script, options, seed, samples=24, recoveries=16, tally=tally)
    finally:
        results.add(**vars(tally))


def faults(results: Results, seed: int, _: Options) -> None:
    """Let every call of one kind of operation fail in every way."""
    names = ["create", *OPERATIONS]
    name = names[seed % len(names)]
    with tempfile.TemporaryDirectory() as work:
        template = make_template(Path(work))
    for failure in FAILURES.values():
        if name == "create":
            results.add(faults=fail_to_create(failure))
        else:
            results.add(faults=fail_everywhere(OPERATIONS[name], failure, *template))
    results.add(operations=1)


def disks(results: Results, seed: int, _: Options) -> None:
    """Fill disks of 25 sizes, page by page, and of as many numbers of files."""
    if not permitted():
        raise SystemExit("mounting a small disk needs rights of its own")
    first = 25 * (seed % 3) + 1
    limits = [f"size={4 * pages}k" for pages in range(first, first + 25)]
    limits += [f"nr_inodes={files}" for files in range(3, 28)]
    with tempfile.TemporaryDirectory() as path:
        full = run(Path(path), limits)
    results.add(disks=len(full), steps_without_room=sum(full.values()))


def damage(results: Results, seed: int, _: Options) -> None:
    """Damage one file of the small instances in every way that there is."""
    results.add(**damages.damage_small(seed))


def large(results: Results, seed: int, _: Options) -> None:
    """Damage a large instance at random, and repair it."""
    results.add(**damages.damage_large(seed))


def kills(results: Results, seed: int, _: Options) -> None:
    """Kill one operation at all its points, and 25 writers at random moments."""
    tally = Killed()
    try:
        kill_everywhere(NAMES[seed % len(NAMES)], seed, tally)
        kill_writers(seed, 25, tally)
    finally:
        results.add(**vars(tally))


def soak(results: Results, seed: int, options: Options) -> None:
    """Let a writer and readers run for the time of this run, killed at random; note the growth."""
    soak_and_note(results, seed, min(options.seconds, results.left))


PARTS: dict[str, Part] = {
    "crash": Part(crash, "states", 100_000),
    "faults": Part(faults, "operations", 1 + len(OPERATIONS)),
    "disks": Part(disks, "disks", 150),
    "kills": Part(kills, "kills", 2_000),
    "soak": Part(soak, "soaked_s", 1_800),
    "damage": Part(damage, "files", 0, done=damages.all_tried),
    "large": Part(large, "large", 5_000),
    "fuzz": Part(fuzz, "inputs", 0, BY_TARGET, all_fuzzed),
}


def main() -> int:
    """Run one part; return 1 if anything failed, in this run or before."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument("--count", type=int, help="how many to try, runs before included")
    parser.add_argument("--seconds", type=float, default=600, help="time limit of this run")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--seed", type=int, help="the first seed, if there are no results yet")
    parser.add_argument("--jobs", type=int, default=1, help="targets that are fuzzed at a time")
    parser.add_argument("--replay", type=int, metavar="SEED", help="do one seed again")
    options = parser.parse_args()
    if options.part == "report":
        print(write_page())  # noqa: T201
        return 0
    part = PARTS[options.part]
    if options.replay is not None:
        part.work(Results(None, options.part, part.code), options.replay, options)
        return 0
    results = Results(options.out, options.part, part.code, seed=options.seed or 0)
    target = options.count or part.wanted
    done = part.done or (lambda results: results.count(part.counted) >= target)
    for seed in results.seeds(options.seconds, lambda: done(results)):
        try:
            part.work(results, seed, options)
        except Exception as error:
            results.fail(seed, error)
    return bool(results.values["failures"])


if __name__ == "__main__":
    sys.exit(main())
