"""Vectors alone: vecindex beside the libraries that a user would take instead.

    python -m benchmarks.vectors                                          # synthetic
    python -m benchmarks.vectors --vectors X.npy --queries Q.npy --python PEERS/bin/python

Each library is built in a process of its own with all cores, one after the other. Then every repeat
asks all queries (of a slow setting as many as ten seconds allow, at least 100), one at a time on one
thread, of every library at every setting, in an order shuffled anew, so that a busy moment of the
machine hits all alike; only one process works at a time. Recall is recomputed here against exact
search. The result goes to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import result_files
from benchmarks.channel import Child, ChildError
from benchmarks.data import Data, add_arguments, from_arguments
from benchmarks.peers import names
from benchmarks.timing import gather, short
from benchmarks.truth import K, kth_scores, recall

OPENED = 3
"""Processes that open a saved index, which was written just before: its file is in memory."""

ENOUGH = 0.9995
"""Of a ladder whose recall only rises, the settings after the first one this good are left out."""


class Contest:
    """All libraries on the same data."""

    def __init__(self, data: Data, folder: Path, python: str) -> None:
        self.data, self.folder, self.python = data, folder, python
        self.kth = kth_scores(data.rows, data.queries)
        self.children: dict[str, Child] = {}
        self.measured: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        np.save(folder / "rows.npy", data.rows)
        np.save(folder / "queries.npy", data.queries)

    def enter(self, library: str, builds: int) -> None:
        """Build a library's index and learn what it finds; one that cannot is skipped."""
        child = Child("benchmarks.vectors_worker", self.python)
        try:
            entry = child.ask("hello", library=library)
            say(f"{library}: building")
            entry |= self._built(child, library, builds)
            entry["settings"] = self._answered(child, entry)
        except ChildError as error:
            self.skipped[library] = str(error)
            say(f"{library}: skipped: {error}")
            child.close()
            return
        self.children[library], self.measured[library] = child, entry

    def _built(self, child: Child, library: str, builds: int) -> dict[str, Any]:
        place = str(self.folder / library.replace("/", "-").replace(":", "-"))
        paths = {name: str(self.folder / f"{name}.npy") for name in ("rows", "queries")}
        runs = [child.ask("build", folder=place, **paths) for _ in range(builds)]
        entry = {name: [short(run[name]) for run in runs] for name in ("build_s",)}
        entry |= {name: short(runs[0][name]) for name in ("resident_mb", "anonymous_mb")}
        entry["parts_s"] = {name: short(value) for name, value in runs[0]["parts_s"].items()}
        entry |= child.ask("facts", folder=place)
        entry["open_ms"] = [self._opened(library, place, paths["queries"]) for _ in range(OPENED)]
        return entry

    def _opened(self, library: str, place: str, queries: str) -> float:
        """Return the milliseconds in which a fresh process opens what was saved and searches it."""
        child = Child("benchmarks.vectors_worker", self.python)
        try:
            child.ask("hello", library=library)
            return short(child.ask("opened", folder=place, queries=queries))
        finally:
            child.close()

    def _answered(self, child: Child, entry: dict[str, Any]) -> list[dict[str, Any]]:
        kept: list[dict[str, Any]] = []
        plans, rising = entry.pop("plans"), entry.pop("rising")
        for setting, plan in zip(entry["settings"], plans, strict=True):
            if plan and plan in [row["plan"] for row in kept]:
                continue  # another promise, the same search
            ids = child.ask("answer", setting=setting)
            found = recall(ids, self.data.rows, self.data.queries, self.kth)
            kept.append({"setting": setting, "plan": plan, "recall": round(found, 5), "passes": []})
            if rising and found >= ENOUGH:
                break
        return kept

    def measure(self, repeats: int) -> None:
        """Time every setting once a repeat, all in turns."""
        turns = [(name, row) for name, entry in self.measured.items() for row in entry["settings"]]
        for repeat in range(repeats):
            say(f"repeat {repeat + 1} of {repeats}: {len(turns)} settings")
            random.Random(repeat).shuffle(turns)
            for name, row in turns:
                if name in self.measured:
                    self._timed(name, row)
        for entry in self.measured.values():
            for row in entry["settings"]:
                row.update(gather(row.pop("passes")))

    def _timed(self, library: str, row: dict[str, Any]) -> None:
        try:
            passed = self.children[library].ask("measure", setting=row["setting"])
        except ChildError as error:  # hours of others' figures are not lost
            del self.measured[library]
            self.skipped[library] = f"failed at {row['setting']}: {error}"
            say(f"{library}: {self.skipped[library]}")
        else:
            row["passes"].append(passed)

    def close(self) -> None:
        """End all processes."""
        for child in self.children.values():
            child.close()


def run(
    data: Data, libraries: Sequence[str], python: str, repeats: int, builds: int
) -> dict[str, Any]:
    """Return what was measured, by library, and what was skipped, with the reason."""
    folder = Path(tempfile.mkdtemp(prefix="vecindex-vectors-"))
    contest = None
    try:
        contest = Contest(data, folder, python)
        for library in libraries:
            contest.enter(library, builds)
        contest.measure(repeats)
        return {"k": K, "libraries": contest.measured, "skipped": contest.skipped}
    finally:
        if contest:
            contest.close()
        shutil.rmtree(folder, ignore_errors=True)


def say(what: str) -> None:
    """Tell how far it is."""
    print(what, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser, rows=20_000)
    parser.add_argument("--libraries", help="comma-separated; default: all")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--builds", type=int, default=1, help="times that each index is built")
    parser.add_argument("--results", type=Path, default=result_files.FOLDER)
    return parser.parse_args(arguments)


def command(module: str, asked: argparse.Namespace, *options: str) -> str:
    """Return the command as anyone could type it: names of files, no paths of this machine."""
    files = [f"--{o} {getattr(asked, o).name}" for o in ("vectors", "queries") if getattr(asked, o)]
    given = [o for o in ("rows", *options) if getattr(asked, o) is not None]
    words = [*files, *(f"--{option} {getattr(asked, option)}" for option in given)]
    return " ".join([f"python -m benchmarks.{module}", *words])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the result file."""
    asked = parse(arguments)
    libraries = names(asked.libraries)
    data = from_arguments(asked)
    measured = run(data, libraries, asked.python, asked.repeats, asked.builds)
    typed = command("vectors", asked, "libraries", "repeats", "builds")
    result = {**result_files.facts(data, typed, asked.repeats), **measured}
    print(f"wrote {result_files.write('vectors', result, asked.results).name}")


if __name__ == "__main__":
    main()
