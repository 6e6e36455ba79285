"""Results of the longer commands: kept in a file, so that each run goes on where one ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Results:
    """What one part has tried so far, in all its runs.

    Parameters
    ----------
    path : Path or None
        The JSON file; None keeps nothing.
    part : str
        The part's name; the file must be of the same one.
    """

    def __init__(self, path: Path | None, part: str) -> None:
        self._path = path
        self.values: dict[str, Any] = {
            "part": part, "next_seed": 0, "seconds": 0.0, "counts": {}, "failures": []
        }  # fmt: skip
        if path is not None and path.exists():
            self.values = json.loads(path.read_text())
            if self.values["part"] != part:
                raise SystemExit(f"{path} holds results of {self.values['part']!r}, not of {part}")

    def count(self, name: str) -> int:
        """Return how many of something were tried."""
        return int(self.values["counts"].get(name, 0))

    def seeds(self, seconds: float, done: Callable[[], bool]) -> Iterator[int]:
        """Yield seeds that no run had yet, until all is done or the time is up.

        What was added while a seed was worked on is saved after it.
        """
        start = time.monotonic()
        while time.monotonic() - start < seconds and not done():
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

    def fail(self, seed: int, error: BaseException) -> None:
        """Note a failure, and what shows it again."""
        notes = [note[:500] for note in getattr(error, "__notes__", ())]
        self.values["failures"].append(
            {
                "replay": f"python -m tests.torture {self.values['part']} --replay {seed}",
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
