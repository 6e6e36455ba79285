"""The child of `benchmarks.vectors`: holds one library's index and answers commands."""

from __future__ import annotations

import ctypes
import gc
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.channel import serve
from benchmarks.peers import adapter
from benchmarks.timing import memory_mb, one_by_one


class Worker:
    """One library, from hello to the last measurement."""

    def hello(self, library: str) -> dict[str, Any]:
        """Import the library; say what it is."""
        self.peer = adapter(library)
        versions = {name: version(name) for name in self.peer.packages}
        return {"versions": versions, "note": self.peer.note}

    def build(self, rows: str, queries: str, folder: str) -> dict[str, Any]:
        """Build the index; return seconds and bytes. The rows are let go of afterwards."""
        place = Path(folder)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        before = _settled_memory()
        matrix = np.load(rows)
        start = time.perf_counter()
        parts = self.peer.build(matrix, place)
        seconds = time.perf_counter() - start
        del matrix
        after = _settled_memory()
        self.queries = [query[None] for query in np.load(queries)]
        return {
            "build_s": seconds,
            "parts_s": parts,
            "resident_mb": after["resident"] - before["resident"],
            "anonymous_mb": after["anonymous"] - before["anonymous"],
        }

    def facts(self, folder: str) -> dict[str, Any]:
        """Save the index; return its bytes and the settings to measure."""
        settings = self.peer.settings()
        return {
            "size_bytes": self.peer.save(Path(folder)),
            "settings": settings,
            "plans": [self.peer.describe(setting) for setting in settings],
            "rising": self.peer.rising,
        }

    def opened(self, folder: str, queries: str) -> float:
        """Open the saved index and answer a first query; return milliseconds."""
        query = np.load(queries)[:1]
        start = time.perf_counter()
        self.peer.load(Path(folder), query.shape[1])
        self.peer.searcher(self.peer.settings()[0])(query)
        return 1e3 * (time.perf_counter() - start)

    def answer(self, setting: dict[str, Any]) -> list[list[int]]:
        """Return the row numbers that one setting finds for each query."""
        ask = self.peer.searcher(setting)
        return [[int(i) for i in ask(query)] for query in self.queries]

    def measure(self, setting: dict[str, Any]) -> dict[str, float]:
        """Ask all queries one by one."""
        return one_by_one(self.peer.searcher(setting), self.queries)


def _settled_memory() -> dict[str, float]:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return memory_mb()


if __name__ == "__main__":
    worker = Worker()
    serve(
        {
            name: getattr(worker, name)
            for name in ("hello", "build", "facts", "opened", "answer", "measure")
        }
    )
