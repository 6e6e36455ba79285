"""Results of the longer commands: kept in a file, so that each run goes on where one ended.

A file of `results/` holds one JSON object::

    part       its name, as in `python -m tests.torture PART`
    code       fingerprint of the code that was tried; a run on other code begins at zero
    version    of vecindex; beside it `python` and `faiss`
    next_seed  each of the seeds below it was tried
    seconds    spent on them, in all runs
    counts     how many there were of what, by name
    failures   a list of {error, replay, notes}: what went wrong, and the command that shows it
    replay     the command that does one seed again

A part may add keys of its own.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "results"
PACKAGE = Path(__file__).parents[2] / "vecindex"
ROOMS = ("arrays.py", "errors.py", "spec.py", "results.py", "filters", "store", "ann", "index")
"""What decides whether an index survives."""


def fingerprint(rooms: Sequence[str] = ROOMS) -> str:
    """Return what changes with the code of some rooms or modules, but not with its comments."""
    found = hashlib.sha256()
    for room in rooms:
        path = PACKAGE / room
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            tree = ast.parse(file.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    node.body = node.body[ast.get_docstring(node) is not None :]
            found.update(f"{file.name} {ast.dump(tree)}".encode())
    return found.hexdigest()[:12]


class Results:
    """What one part has tried so far, in all its runs on the same code.

    Parameters
    ----------
    path : Path or None
        The JSON file; None keeps nothing.
    part : str
        The part's name; the file must be of the same one.
    code : str or None
        Fingerprint of what is tried; None takes that of `ROOMS`.
    seed : int
        The first one, if there are no results yet.
    """

    def __init__(
        self, path: Path | None, part: str, code: str | None = None, *, seed: int = 0
    ) -> None:
        self._path = path
        self._until = float("inf")
        self.values: dict[str, Any] = {
            "part": part,
            "code": code or fingerprint(),
            "version": version("vecindex"),
            "python": platform.python_version(),
            "faiss": version("faiss-cpu"),
            "next_seed": seed,
            "seconds": 0.0,
            "counts": {},
            "failures": [],
            "replay": f"python -m tests.torture {part} --replay SEED",
        }
        if path is None or not path.exists():
            return
        found = json.loads(path.read_text())
        if found["part"] != part:
            raise SystemExit(f"{path} holds results of {found['part']!r}, not of {part}")
        if found.get("code") == self.values["code"]:
            self.values = found
        else:
            print(f"{path} is of other code: begun anew", flush=True)  # noqa: T201

    def count(self, name: str) -> int:
        """Return how many of something were tried."""
        return int(self.values["counts"].get(name, 0))

    @property
    def left(self) -> float:
        """Seconds that are left of this run."""
        return self._until - time.monotonic()

    def seeds(self, seconds: float, done: Callable[[], bool]) -> Iterator[int]:
        """Yield seeds that no run had yet, until all is done or the time is up.

        What was added while a seed was worked on is saved after it.
        """
        self._until = time.monotonic() + seconds
        while self.left > 0 and not done():
            begun = time.monotonic()
            yield self.values["next_seed"]
            self.values["next_seed"] += 1
            self.values["seconds"] = round(self.values["seconds"] + time.monotonic() - begun, 1)
            self._save()
            print(self.summary(), flush=True)  # noqa: T201

    def add(self, **counts: int) -> None:
        """Add to what was counted."""
        known = self.values["counts"]
        for name, count in counts.items():
            known[name] = known.get(name, 0) + count

    def fail(self, seed: int, error: BaseException, replay: str | None = None) -> None:
        """Note a failure, and what shows it again."""
        notes = [note[:500] for note in getattr(error, "__notes__", ())]
        self.values["failures"].append(
            {
                "replay": replay or self.values["replay"].replace("SEED", str(seed)),
                "error": f"{type(error).__name__}: {error}"[:500],
                "notes": notes,
            }
        )

    def _save(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.values, indent=2) + "\n")
        temporary.replace(self._path)

    def summary(self) -> str:
        """Return what was tried, on one line."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.values["counts"].items())
        failures = len(self.values["failures"])
        return (
            f"{self.values['part']}: {counts}; seeds 0 to {self.values['next_seed'] - 1}, "
            f"{self.values['seconds']:,.0f} s, {failures} failures"
        )
