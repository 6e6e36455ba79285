"""FAISS, a list of texts and numpy: not a peer, but needs no other package to test the harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector


class PlainFaissStore(Store):
    """`lossy` forgets the filter and mixes up the texts, as glue code does."""

    packages = ("faiss-cpu",)
    note = "IndexFlatIP and a JSON file"
    durability = "none"
    queries = 50
    filtered_queries = 20

    def create(self, folder: Path, dim: int) -> None:
        """Empty."""
        self.folder, self.index = folder, faiss.IndexFlatIP(dim)
        self.records: list[Any] = []

    def add(self, batch: Batch) -> None:
        """In memory."""
        self.index.add(batch.vectors)
        metadata = [one["u"] for one in batch.metadata]
        self.records += zip(batch.ids, batch.texts, metadata, strict=True)

    def build(self) -> None:
        """Write two files."""
        faiss.write_index(self.index, str(self.folder / "rows.faiss"))
        (self.folder / "rows.json").write_text(json.dumps(self.records))

    def open(self, folder: Path) -> None:
        """Read them."""
        self.index = faiss.read_index(str(folder / "rows.faiss"))
        self.records = json.loads((folder / "rows.json").read_text())

    def close(self) -> None:
        """Nothing is held."""

    def settings(self) -> list[Setting]:
        """One that is right, one that is not."""
        return [Setting("exact", filtered=True), Setting("lossy", {"lossy": True}, filtered=True)]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Scan, with a selector for a filter."""
        params, shift = None, int(bool(setting.values))
        if below is not None and not setting.values:
            kept = np.flatnonzero([record[2] < below for record in self.records])
            params = faiss.SearchParameters(sel=faiss.IDSelectorBatch(kept))

        def ask(vector: Vector) -> Answer:
            rows = [
                int(i) for i in self.index.search(vector[None], K, params=params)[1][0] if i >= 0
            ]
            texts = [self.records[i - shift * (i % 2)][1] for i in rows]
            return [self.records[i][0] for i in rows], texts

        return ask
