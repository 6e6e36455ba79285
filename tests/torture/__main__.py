"""The longer commands: `python -m tests.torture crash --states 100000 --seconds 600`.

Each part has a time limit, goes on where its last run ended if it has a file for its results, and
adds them up there. `--replay SEED` does one seed again and shows its failure in full.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .crash import Tally, crash_a_script
from .faults import FAILURES, OPERATIONS, fail_everywhere, fail_to_create, make_template
from .operations import SCRIPTS, at_random
from .results import Results
from .small_disk import permitted, run

Part = Callable[[Results, int], None]


def crash(results: Results, seed: int) -> None:
    """Crash a script everywhere: the first seeds are those of the tests, then random ones."""
    scripts = list(SCRIPTS.values())
    script, options = scripts[seed] if seed < len(scripts) else at_random(seed)
    tally = Tally()
    try:
        crash_a_script(script, options, seed, samples=24, recoveries=16, tally=tally)
    finally:
        results.add(**vars(tally))


def faults(results: Results, seed: int) -> None:
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


def disks(results: Results, seed: int) -> None:
    """Fill disks of 25 sizes, page by page, and of as many numbers of files."""
    if not permitted():
        raise SystemExit("mounting a small disk needs rights of its own")
    first = 25 * (seed % 3) + 1
    limits = [f"size={4 * pages}k" for pages in range(first, first + 25)]
    limits += [f"nr_inodes={files}" for files in range(3, 28)]
    with tempfile.TemporaryDirectory() as path:
        full = run(Path(path), limits)
    results.add(disks=len(full), steps_without_room=sum(full.values()))


PARTS: dict[str, tuple[Part, str, int]] = {
    "crash": (crash, "states", 100_000),
    "faults": (faults, "operations", 1 + len(OPERATIONS)),
    "disks": (disks, "disks", 150),
}
"""What is done with a seed, what is counted, and how many of that are wanted."""


def main() -> int:
    """Run one part; return 1 if anything failed, in this run or before."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--states", type=int, help="how many to try, runs before included")
    parser.add_argument("--seconds", type=float, default=600, help="time limit of this run")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--replay", type=int, metavar="SEED", help="do one seed again")
    options = parser.parse_args()
    work, counted, wanted = PARTS[options.part]
    if options.replay is not None:
        work(Results(None, options.part), options.replay)
        return 0
    results = Results(options.out, options.part)
    target = options.states or wanted
    for seed in results.seeds(options.seconds, lambda: results.count(counted) >= target):
        try:
            work(results, seed)
        except Exception as error:
            results.fail(seed, error)
    return bool(results.values["failures"])


if __name__ == "__main__":
    sys.exit(main())
