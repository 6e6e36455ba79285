"""Qdrant's local mode: numpy over all rows, meant for tests and small collections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector


class QdrantLocalStore(Store):
    """Points with numbers as ids, which it asks for; the row's own id goes with the payload."""

    packages = ("qdrant-client",)
    note = "local mode: exact"
    durability = "each point is committed to SQLite"
    queries = 20
    filtered_queries = 5

    def create(self, folder: Path, dim: int) -> None:
        """Dot products of unit rows."""
        self.client: Any = QdrantClient(path=str(folder))
        config = models.VectorParams(size=dim, distance=models.Distance.DOT)
        self.client.create_collection("rows", vectors_config=config)

    def add(self, batch: Batch) -> None:
        """One upsert."""
        columns = zip(batch.ids, batch.texts, batch.metadata, strict=True)
        self.client.upsert(
            "rows",
            points=models.Batch(
                ids=[one["n"] for one in batch.metadata],
                vectors=batch.vectors.tolist(),
                payloads=[{"id": i, "text": t, **m} for i, t, m in columns],
            ),
        )

    def open(self, folder: Path) -> None:
        """Everything is read into memory."""
        self.client = QdrantClient(path=str(folder))

    def close(self) -> None:
        """Release its lock."""
        self.client.close()

    def settings(self) -> list[Setting]:
        """There is only one."""
        return [Setting("exact", filtered=True)]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Points carry the payload asked for."""
        client, where = self.client, None
        if below is not None:
            condition = models.FieldCondition(key="u", range=models.Range(lt=below))
            where = models.Filter(must=[condition])

        def ask(vector: Vector) -> Answer:
            found = client.query_points(
                "rows", query=vector, limit=K, with_payload=["id", "text"], query_filter=where
            ).points
            return [one.payload["id"] for one in found], [one.payload["text"] for one in found]

        return ask
