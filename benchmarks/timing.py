"""The clock inside a child, what it remembers, and how figures are put together."""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 20
"""Queries asked before the clock runs, so that the caches are this library's again; fewer of few."""

ENOUGH_S, ENOUGH_QUERIES = 10.0, 100
"""After so many seconds, and so many queries, no more are asked: the figures of slow searches are known by then."""


def one_by_one(ask: Callable[[Any], object], queries: Sequence[Any]) -> dict[str, Any]:
    """Ask one query at a time; return percentiles in milliseconds and the cores that were busy.

    Where a search takes long, the first `ENOUGH_QUERIES` may do.
    """
    for query in queries[: min(WARM_UP, len(queries) // 4)]:
        ask(query)
    taken: list[float] = []
    gc.collect()
    gc.disable()
    try:
        start, used = time.perf_counter(), time.process_time()
        for query in queries:
            before = time.perf_counter()
            ask(query)
            taken.append((after := time.perf_counter()) - before)
            if after - start > ENOUGH_S and len(taken) >= ENOUGH_QUERIES:
                break
        cores = (time.process_time() - used) / (time.perf_counter() - start)
    finally:
        gc.enable()
    p50, p95, p99 = 1e3 * np.percentile(taken, [50, 95, 99])
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "cores": cores}


def gather(passes: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Return the figures of all repeats, a list for each name, with four digits that count."""
    return {name: [short(one[name]) for one in passes] for name in passes[0]} if passes else {}


def short(value: float) -> float:
    """Return a number with four significant digits."""
    return float(f"{value:.4g}")


def median(figures: Sequence[float]) -> float:
    """Return the median of the repeats."""
    return statistics.median(figures)


def memory_mb() -> dict[str, float]:
    """Return this process's memory in MB: all that is resident, and what is not a file's."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return {"resident": 0.0, "anonymous": 0.0}
    text = rollup.read_text()

    def field(name: str) -> float:
        found = re.search(rf"^{name}: +([0-9]+)", text, re.M)
        return int(found[1]) / 1e3 if found else 0.0

    return {"resident": field("Rss"), "anonymous": field("Anonymous")}


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder, or of one file."""
    if folder.is_file():
        return folder.stat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
