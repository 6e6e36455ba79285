"""Ids, texts and metadata beside the vectors: vecindex and the stores that a user would take instead.

    python -m benchmarks.stores                                           # synthetic
    python -m benchmarks.stores --vectors X.npy --queries Q.npy --rows 100000 --python PEERS/bin/python

Each store is loaded in a process of its own, in durable batches of 1,000 rows, and builds its index.
Fresh processes open it; those of the last round stay and are asked in turns, one query at a time on
one thread, by every setting, without a filter and with filters `u < x` that keep 50, 10, 1 and 0.1 %.
All queries of one share use the same filter; the first of them is reported apart, because stores keep
different things. Rows whose text is not their own count as not found.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import result_files
from benchmarks.channel import ONE_THREAD, Child, ChildError
from benchmarks.data import Data, add_arguments, from_arguments
from benchmarks.stores_data import KEPT, uniform
from benchmarks.stores_peers import names
from benchmarks.timing import gather, short
from benchmarks.truth import K, kth_scores, recall
from benchmarks.vectors import command, say


class Trial:
    """All stores on the same data."""

    def __init__(self, data: Data, folder: Path, python: str) -> None:
        self.data, self.folder, self.python = data, folder, python
        self.u = uniform(len(data.rows))
        self.children: dict[str, Child] = {}
        self.measured: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self.kth = {None: kth_scores(data.rows, data.queries)}
        self.kept = [x for x in KEPT if (self.u < x).any()]  # of few rows, a filter leaves none
        self.kth |= {x: kth_scores(data.rows, data.queries, keep=self.u < x) for x in self.kept}
        np.save(folder / "rows.npy", data.rows)
        np.save(folder / "queries.npy", data.queries)

    def load(self, store: str) -> None:
        """Fill a store in a process that then ends; one that cannot is skipped."""
        child = Child("benchmarks.stores_worker", self.python)
        try:
            entry = child.ask("hello", store=store)
            say(f"{store}: loading")
            os.sync()  # or the first one's syncs wait for the rows that were just written
            figures = child.ask(
                "load", rows=str(self.folder / "rows.npy"), folder=str(self.folder / store)
            )
            entry |= {name: short(value) for name, value in figures.items()}
            entry["size_bytes"] = figures["size_bytes"]
            self.measured[store] = entry
        except ChildError as error:
            self._skip(store, error)
        finally:
            child.close()

    def open(self, repeats: int) -> None:
        """Open every store in fresh processes, in turns; keep the last ones for the queries."""
        passes: dict[str, list[dict[str, float]]] = {store: [] for store in self.measured}
        for repeat in range(repeats):
            say(f"opening, {repeat + 1} of {repeats}")
            for store in list(self.measured):
                child = Child("benchmarks.stores_worker", self.python, ONE_THREAD)
                try:
                    hello = child.ask("hello", store=store)
                    opened = child.ask(
                        "open",
                        folder=str(self.folder / store),
                        queries=str(self.folder / "queries.npy"),
                    )
                except ChildError as error:
                    child.close()
                    self._skip(store, error)
                    continue
                passes[store].append({"import_ms": hello["import_ms"], **opened})
                if repeat + 1 == repeats:
                    self.children[store] = child
                else:
                    child.close()
        for store, entry in self.measured.items():
            entry.update(gather(passes[store]))

    def _skip(self, store: str, error: ChildError) -> None:
        self.measured.pop(store, None)
        self.skipped[store] = str(error)
        say(f"{store}: skipped: {error}")

    def answer(self) -> None:
        """Learn what every setting finds, with and without filters."""
        for store, entry in self.measured.items():
            say(f"{store}: recall")
            entry["searches"] = [
                self._answered(store, entry, setting, below)
                for setting in entry.pop("settings")
                for below in ([None, *self.kept] if setting["filtered"] else [None])
            ]

    def _answered(
        self, store: str, entry: dict[str, Any], setting: dict[str, Any], below: float | None
    ) -> dict[str, Any]:
        count = min(
            entry["queries"] if below is None else entry["filtered_queries"], len(self.data.queries)
        )
        row: dict[str, Any] = {"setting": setting["name"], "below": below, "queries": count}
        asked = {"setting": setting, "below": below, "count": count}
        try:
            answer = self.children[store].ask("answer", **asked)
        except ChildError as error:
            return {**row, "error": str(error), "asked": asked, "passes": []}
        keep = None if below is None else self.u < below
        found = recall(answer["rows"], self.data.rows, self.data.queries, self.kth[below], keep)
        return {
            **row,
            "recall": round(found, 5),
            "returned": float(np.mean([len(rows) for rows in answer["rows"]])),
            "first_ms": short(answer["first_ms"]),
            "asked": asked,
            "passes": [],
        }

    def measure(self, repeats: int) -> None:
        """Time every setting and filter once a repeat, all in turns."""
        rows = [(name, row) for name, entry in self.measured.items() for row in entry["searches"]]
        turns = [(name, row) for name, row in rows if "error" not in row]
        for repeat in range(repeats):
            say(f"repeat {repeat + 1} of {repeats}: {len(turns)} searches")
            random.Random(repeat).shuffle(turns)
            for name, row in turns:
                if name in self.measured:
                    self._timed(name, row)
        for entry in self.measured.values():
            for row in entry["searches"]:
                del row["asked"]
                row.update(gather(row.pop("passes")))

    def _timed(self, store: str, row: dict[str, Any]) -> None:
        try:
            passed = self.children[store].ask("measure", **row["asked"])
        except ChildError as error:  # hours of others' figures are not lost
            self._skip(store, error)
        else:
            row["passes"].append(passed)

    def close(self) -> None:
        """End all processes."""
        for child in self.children.values():
            child.close()


def run(data: Data, stores: Sequence[str], python: str, repeats: int) -> dict[str, Any]:
    """Return what was measured, by store, and what was skipped, with the reason."""
    folder = Path(tempfile.mkdtemp(prefix="vecindex-stores-"))
    trial = None
    try:
        trial = Trial(data, folder, python)
        for store in stores:
            trial.load(store)
        trial.open(repeats)
        trial.answer()
        trial.measure(repeats)
        return {"k": K, "stores": trial.measured, "skipped": trial.skipped}
    finally:
        if trial:
            trial.close()
        shutil.rmtree(folder, ignore_errors=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser, rows=100_000)
    parser.add_argument("--stores", help="comma-separated; default: all")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=result_files.FOLDER)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the result file."""
    asked = parse(arguments)
    stores = names(asked.stores)
    data = from_arguments(asked)
    measured = run(data, stores, asked.python, asked.repeats)
    typed = command("stores", asked, "stores", "repeats")
    result = {**result_files.facts(data, typed, asked.repeats), **measured}
    print(f"wrote {result_files.write('stores', result, asked.results).name}")


if __name__ == "__main__":
    main()
