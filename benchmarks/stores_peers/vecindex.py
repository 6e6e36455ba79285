"""vecindex, spec auto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector
from vecindex import VectorIndex


class VecindexStore(Store):
    """A directory, opened read-only for searching."""

    packages = ("vecindex", "faiss-cpu")
    note = "spec 'auto'; add, then optimize()"
    durability = "each add is synced and atomic"

    def create(self, folder: Path, dim: int) -> None:
        """Folded once, by `build`."""
        self.index: Any = VectorIndex.create(folder / "index.vx", dim=dim, maintenance="manual")

    def add(self, batch: Batch) -> None:
        """Durable when it returns."""
        self.index.add(
            ids=batch.ids, texts=batch.texts, vectors=batch.vectors, metadata=batch.metadata
        )

    def build(self) -> None:
        """Choose, build and calibrate the structure."""
        self.index.optimize()

    def open(self, folder: Path) -> None:
        """Read-only, memory-mapped."""
        self.index = VectorIndex.open(folder / "index.vx")

    def close(self) -> None:
        """Release it."""
        self.index.close()

    def settings(self) -> list[Setting]:
        """The promise of 0.95, and stricter ones."""
        return [
            Setting("default (recall 0.95)", {}, filtered=True),
            *(Setting(f"recall {r}", {"recall": r}) for r in (0.9, 0.98)),
            Setting("recall 0.99", {"recall": 0.99}, filtered=True),
            *(Setting(f"recall {r}", {"recall": r}) for r in (0.995, 0.999)),
            Setting("exact", {"exact": True}),
        ]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Hits carry ids and texts."""
        index = self.index
        options = {**setting.values, **({"where": {"u": {"$lt": below}}} if below else {})}

        def ask(vector: Vector) -> Answer:
            hits = index.search(vector, k=K, **options)
            return [hit.id for hit in hits], [hit.text for hit in hits]

        return ask
