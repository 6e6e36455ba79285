"""Milvus Lite through pymilvus: a server thread in the same process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pymilvus import DataType, MilvusClient

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector


class MilvusLiteStore(Store):
    """A collection with AUTOINDEX (FAISS HNSW inside) and an INVERTED index on the filter's field."""

    packages = ("milvus-lite", "pymilvus", "faiss-cpu")
    note = "AUTOINDEX, INVERTED on u"
    durability = "written to its log, which is not synced before a flush; one flush at the end"
    queries = 200
    filtered_queries = 50

    def create(self, folder: Path, dim: int) -> None:
        """With a schema."""
        self.client: Any = MilvusClient(str(folder / "rows.db"))
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=dim)
        schema.add_field("text", DataType.VARCHAR, max_length=400)
        schema.add_field("n", DataType.INT64)
        schema.add_field("kind", DataType.VARCHAR, max_length=20)
        schema.add_field("u", DataType.DOUBLE)
        self.client.create_collection("rows", schema=schema)

    def add(self, batch: Batch) -> None:
        """A list of dicts, its way in."""
        columns = zip(batch.ids, batch.vectors.tolist(), batch.texts, batch.metadata, strict=True)
        self.client.insert("rows", [{"id": i, "v": v, "text": t, **m} for i, v, t, m in columns])

    def build(self) -> None:
        """Flush what is in memory, then index."""
        self.client.flush("rows")
        indexes = self.client.prepare_index_params()
        indexes.add_index("v", index_type="AUTOINDEX", metric_type="IP")
        indexes.add_index("u", index_type="INVERTED")
        self.client.create_index("rows", indexes)
        self.client.load_collection("rows")

    def open(self, folder: Path) -> None:
        """Start the server thread and load the collection."""
        self.client = MilvusClient(str(folder / "rows.db"))
        self.client.load_collection("rows")

    def close(self) -> None:
        """Disconnect."""
        self.client.close()

    def settings(self) -> list[Setting]:
        """Its own ef, and larger ones."""
        ladder = [Setting(f"ef {ef}", {"ef": ef}, filtered=ef == 300) for ef in (300, 64, 128, 600)]
        return [Setting("its defaults", {}, filtered=True), *ladder]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Entities carry the fields asked for."""
        client = self.client
        options = {"search_params": {"metric_type": "IP", "params": setting.values}}
        if below is not None:
            options["filter"] = f"u < {below}"

        def ask(vector: Vector) -> Answer:
            found = client.search("rows", [vector], limit=K, output_fields=["text"], **options)[0]
            return [hit["id"] for hit in found], [hit["entity"]["text"] for hit in found]

        return ask
