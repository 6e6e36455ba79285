"""The child of `benchmarks.stores`: holds one store and answers commands.

It imports nothing but numpy before a store is asked for, so that imports can be timed.
"""

from __future__ import annotations

import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import stores_data
from benchmarks.channel import serve
from benchmarks.stores_peers import adapter
from benchmarks.stores_peers.base import Ask, Setting
from benchmarks.timing import folder_bytes, one_by_one


class Worker:
    """One store: loaded in one process, searched in another."""

    def hello(self, store: str) -> dict[str, Any]:
        """Import the store; say what it is, and how long the import took."""
        start = time.perf_counter()
        self.store = adapter(store)
        import_ms = (time.perf_counter() - start) * 1e3
        return {
            "versions": {name: version(name) for name in self.store.packages},
            "note": self.store.note,
            "durability": self.store.durability,
            "queries": self.store.queries,
            "filtered_queries": self.store.filtered_queries,
            "settings": [setting.to_dict() for setting in self.store.settings()],
            "import_ms": import_ms,
        }

    def load(self, rows: str, folder: str) -> dict[str, Any]:
        """Add all rows in batches, build, close; return seconds and bytes."""
        place = Path(folder)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        vectors = np.load(rows)
        u = stores_data.uniform(len(vectors))
        adding = syncing = 0.0
        self.store.create(place, vectors.shape[1])
        for first in range(0, len(vectors), stores_data.BATCH):
            batch = stores_data.batch(vectors, first, u)
            start = time.perf_counter()
            self.store.add(batch)
            added = time.perf_counter()
            self.store.sync()
            syncing += time.perf_counter() - added
            adding += added - start
        start = time.perf_counter()
        self.store.build()
        built = time.perf_counter() - start
        self.store.close()
        return {
            "add_s": adding,
            "sync_s": syncing,
            "build_s": built,
            "load_rows_per_s": len(vectors) / (adding + syncing),
            "size_bytes": folder_bytes(place),
        }

    def open(self, folder: str, queries: str) -> dict[str, float]:
        """Open what was loaded and ask one query; the clock runs for these two only."""
        vectors = np.load(queries)
        self.vectors = list(vectors)
        first = self.store.settings()[0]
        start = time.perf_counter()
        self.store.open(Path(folder))
        opened = time.perf_counter()
        self.store.searcher(first, None)(self.vectors[0])
        done = time.perf_counter()
        return {"open_ms": (opened - start) * 1e3, "first_query_ms": (done - opened) * 1e3}

    def answer(self, setting: dict[str, Any], below: float | None, count: int) -> dict[str, Any]:
        """Return the rows found for each query, -1 for a wrong text, and how long the first took."""
        ask = self._asking(setting, below)
        start = time.perf_counter()
        found = [ask(self.vectors[0])]
        first_ms = (time.perf_counter() - start) * 1e3
        found += [ask(vector) for vector in self.vectors[1:count]]
        rows = [
            [stores_data.number(i, text) for i, text in zip(ids, texts, strict=True)]
            for ids, texts in found
        ]
        return {"rows": rows, "first_ms": first_ms}

    def measure(self, setting: dict[str, Any], below: float | None, count: int) -> dict[str, float]:
        """Ask queries one by one."""
        return one_by_one(self._asking(setting, below), self.vectors[:count])

    def _asking(self, setting: dict[str, Any], below: float | None) -> Ask:
        return self.store.searcher(Setting(**setting), below)


if __name__ == "__main__":
    worker = Worker()
    serve({name: getattr(worker, name) for name in ("hello", "load", "open", "answer", "measure")})
