"""vecindex itself, through its public API: int ids, vectors only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import SAVED, Ask, Peer, Setting
from benchmarks.truth import K
from vecindex import VectorIndex
from vecindex.arrays import Float32Array
from vecindex.results import OperatingPoint
from vecindex.spec import parse_spec

TARGETS = (0.9, 0.95, 0.99, 0.999)
_POINTS = 60  # of the calibrated curve
_CLEARLY = 0.8  # of the time: calibrated times are of one pass, less differs by chance
_BATCH = 10_000


def _beaten(points: Sequence[OperatingPoint], point: OperatingPoint) -> float:
    """Return the best recall of the points that are clearly faster than this one."""
    limit = _CLEARLY * point.latency_ms
    return max((other.recall for other in points if other.latency_ms < limit), default=0.0)


class VecindexPeer(Peer):
    """An index directory, loaded durably, then optimized."""

    packages = ("vecindex", "faiss-cpu", "numpy")
    rising = False

    def __init__(self, spec: str) -> None:
        parse_spec(spec)
        self.spec = spec
        self.note = f"spec {spec!r}, durable add of {_BATCH:,} rows a call, then optimize()"
        self.index: Any = None

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Create, add, optimize."""
        if self.index is not None:
            self.index.close()
        start = time.perf_counter()
        path = folder / SAVED
        with VectorIndex.create(path, spec=self.spec, maintenance="manual") as index:
            for first in range(0, len(rows), _BATCH):
                part = rows[first : first + _BATCH]
                index.add(ids=range(first, first + len(part)), vectors=part)
            loaded = time.perf_counter()
            index.optimize()
            built = time.perf_counter()
        self.index = VectorIndex.open(path)
        return {"load": loaded - start, "optimize": built - loaded}

    def settings(self) -> list[Setting]:
        """Return points of the calibrated curve, the promised recalls, and exact search."""
        calibration = self.index.info().calibration
        points = sorted(calibration.points, key=lambda p: p.latency_ms) if calibration else []
        if len(points) > _POINTS:  # keep those that no clearly faster one beats
            points = [point for point in points if point.recall > _beaten(points, point)]
        step = max(1, -(-len(points) // _POINTS))
        ladder: list[Setting] = [{"params": dict(point.params)} for point in points[::step]]
        return [*ladder, *({"recall": target} for target in TARGETS), {"exact": True}]

    def searcher(self, setting: Setting) -> Ask:
        """Search as a user does."""
        index = self.index

        def ask(query: Float32Array) -> np.ndarray:
            ids: np.ndarray = index.search_arrays(query, k=K, **setting)[0]
            return ids[0]

        return ask

    def save(self, folder: Path) -> dict[str, int]:
        """It is there already: the whole directory, and the structure's files."""
        files = [path for path in (folder / SAVED).iterdir() if path.is_file()]
        structure = sum(path.stat().st_size for path in files if path.name.startswith("structure"))
        return {"index": sum(path.stat().st_size for path in files), "structure": structure}

    def load(self, folder: Path, dim: int) -> None:
        """Mapped, read-only."""
        self.index = VectorIndex.open(folder / SAVED)

    def describe(self, setting: Setting) -> str:
        """Return the plan."""
        return str(self.index.explain(K, **setting))
