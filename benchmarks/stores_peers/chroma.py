"""Chroma, persistent, in the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector


class ChromaStore(Store):
    """A collection of unit rows with inner products; its graph grows while rows are added."""

    packages = ("chromadb",)
    note = "its defaults (max_neighbors 16, ef_construction 100, ef_search 100)"
    durability = "each add is committed to SQLite; the graph is saved every 1,000 rows"
    filtered_queries = 40

    def _client(self, folder: Path) -> Any:
        return chromadb.PersistentClient(
            str(folder), settings=chromadb.Settings(anonymized_telemetry=False)
        )

    def create(self, folder: Path, dim: int) -> None:
        """Without an embedding function: vectors come from outside."""
        self.client: Any = self._client(folder)
        self.rows = self.client.create_collection(
            "rows", configuration={"hnsw": {"space": "ip"}}, embedding_function=None
        )

    def add(self, batch: Batch) -> None:
        """Ids, vectors, documents and metadata."""
        self.rows.add(
            ids=batch.ids,
            embeddings=batch.vectors,
            documents=batch.texts,
            metadatas=batch.metadata,
        )

    def open(self, folder: Path) -> None:
        """Open the collection."""
        self.folder = folder
        self.client = self._client(folder)
        self.rows = self.client.get_collection("rows", embedding_function=None)
        self.ef = self.rows.configuration["hnsw"]["ef_search"]

    def close(self) -> None:
        """Stop its threads."""
        self.client.close()

    def settings(self) -> list[Setting]:
        """`ef_search` belongs to the collection; a change of it counts from the next opening."""
        ladder = [
            Setting(f"ef_search {ef}", {"ef": ef}, filtered=ef == 400) for ef in (400, 50, 200, 800)
        ]
        return [Setting("ef_search 100 (its default)", {"ef": 100}, filtered=True), *ladder]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Documents come with the ids."""
        if self.ef != setting.values["ef"]:
            self.rows.modify(configuration={"hnsw": {"ef_search": setting.values["ef"]}})
            self.close()
            self.open(self.folder)
        rows = self.rows
        where = None if below is None else {"u": {"$lt": below}}

        def ask(vector: Vector) -> Answer:
            found = rows.query(
                query_embeddings=[vector], n_results=K, where=where, include=["documents"]
            )
            return found["ids"][0], found["documents"][0]

        return ask
