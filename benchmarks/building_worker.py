"""The child of `benchmarks.building`: one build in a process of its own, which may be killed."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.channel import serve
from benchmarks.stand_in import StandIn
from benchmarks.timing import folder_bytes
from vecindex import VectorIndex
from vecindex.build import BuildOptions, build, plan_build
from vecindex.embed import CANARIES, FunctionEmbedder
from vecindex.io import Columns

_LOOK_S = 0.02  # between two looks at the memory
_STAGES = {"check": "check_s", "rows": "store_s", "cached": "store_s"}


class Stages:
    """Progress of a build as seconds: what came before a call belongs to the stage it names."""

    def __init__(self) -> None:
        self.seconds = {"check_s": 0.0, "store_s": 0.0, "structure_s": 0.0}
        self._last = time.perf_counter()

    def __call__(self, stage: str, _done: int, _total: int | None) -> None:
        """Count the time since the last call."""
        now = time.perf_counter()
        self.seconds[_STAGES.get(stage, "structure_s")] += now - self._last
        self._last = now


class Doomed:
    """A function that embeds, until the process is killed after so many of a build's texts."""

    def __init__(self, function: StandIn, kill_at: int, note: Path) -> None:
        self._function, self._kill_at, self._note = function, kill_at, note
        self._texts = 0

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return vectors, or note how many texts were embedded and do not return."""
        rows = self._function(texts)
        self._texts += sum(text not in CANARIES for text in texts)
        if self._texts >= self._kill_at:
            self._note.write_text(str(self._texts))
            os.kill(os.getpid(), signal.SIGKILL)
        return rows


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Fill a dict with the greatest memory of this process: all, and what is no file's."""
    peak = {"resident_bytes": 0, "anonymous_bytes": 0}
    done = threading.Event()

    def look() -> None:
        while True:
            peak["anonymous_bytes"] = max(peak["anonymous_bytes"], _status("RssAnon"))
            if done.wait(_LOOK_S):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak["resident_bytes"] = _status("VmHWM")


def _status(name: str) -> int:
    """Return a field of this process's status in bytes; 0 where there is none."""
    file = Path("/proc/self/status")
    text = file.read_text() if file.exists() else ""
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.M)
    return int(found[1]) * 1024 if found else 0


def run(
    source: str,
    out: str,
    columns: dict[str, Any],
    options: dict[str, Any],
    stand_in: str | None = None,
    kill: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build; return the report, seconds by stage, memory and bytes on disk."""
    embedder, stages = _embedder(stand_in, kill), Stages()
    with watched() as peak:
        report = build(
            source, out, Columns(**columns), embedder=embedder, options=BuildOptions(**options),
            progress=stages,
        ).to_dict()  # fmt: skip
        stages("end", 0, None)
    del report["path"]
    stages.seconds["store_s"] -= report["model_seconds"]
    with VectorIndex.open(out) as index:
        info = index.info()
    found = {"structure": f"{info.structure}/{info.codes}", "disk_bytes": folder_bytes(Path(out))}
    return report | stages.seconds | peak | found


def plan(
    source: str,
    out: str,
    columns: dict[str, Any],
    options: dict[str, Any],
    stand_in: str | None = None,
) -> dict[str, Any]:
    """Return what a build would take, and the seconds that it took to say so."""
    embedder, start = _embedder(stand_in, None), time.perf_counter()
    planned = plan_build(
        source, out, Columns(**columns), embedder=embedder, options=BuildOptions(**options)
    ).to_dict()
    del planned["path"]
    return planned | {"plan_s": time.perf_counter() - start}


def _embedder(stand_in: str | None, kill: dict[str, Any] | None) -> FunctionEmbedder | None:
    if stand_in is None:
        return None
    function = StandIn(np.load(stand_in))
    if kill is None:
        return FunctionEmbedder(function, name="stand-in")
    return FunctionEmbedder(Doomed(function, kill["at"], Path(kill["note"])), name="stand-in")


if __name__ == "__main__":
    serve({"build": run, "plan": plan})
