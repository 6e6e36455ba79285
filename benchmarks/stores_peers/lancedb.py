"""LanceDB: a scan without an index, which it advises up to 100,000 rows, and its graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector


class LanceStore(Store):
    """A table with a BTREE index on the field that filters use; filters go first."""

    packages = ("lancedb", "pyarrow")
    durability = "each add commits a version; files are not synced"

    def __init__(self, graph: bool) -> None:
        self.graph = graph
        self.note = (
            "IVF_HNSW_SQ, its defaults (m=20, ef_construction=300)" if graph else "no vector index"
        )

    def create(self, folder: Path, dim: int) -> None:
        """With a schema."""
        self.schema = pa.schema([
            ("id", pa.string()), ("text", pa.string()), ("n", pa.int64()), ("kind", pa.string()),
            ("u", pa.float64()), ("vector", pa.list_(pa.float32(), dim)),
        ])  # fmt: skip
        self.table: Any = lancedb.connect(str(folder)).create_table("rows", schema=self.schema)

    def add(self, batch: Batch) -> None:
        """Arrow in, its fastest way."""
        fields = {name: [one[name] for one in batch.metadata] for name in ("n", "kind", "u")}
        vectors = pa.FixedSizeListArray.from_arrays(batch.vectors.ravel(), batch.vectors.shape[1])
        columns = {"id": batch.ids, "text": batch.texts, **fields, "vector": vectors}
        self.table.add(pa.table(columns, schema=self.schema))

    def build(self) -> None:
        """Compact the fragments of the batches, then index."""
        self.table.optimize()
        self.table.create_scalar_index("u")
        if self.graph:
            self.table.create_index(metric="dot", index_type="IVF_HNSW_SQ")

    def open(self, folder: Path) -> None:
        """Open the table."""
        self.table = lancedb.connect(str(folder)).open_table("rows")

    def close(self) -> None:
        """It has no end of its own."""
        self.table = None

    def settings(self) -> list[Setting]:
        """The scan is exact; the graph is refined with the stored vectors for a higher recall."""
        if not self.graph:
            return [Setting("exact", filtered=True)]
        grid = [(100, 10), (30, 3), (50, 5), (200, 10)]
        return [
            Setting("its defaults", filtered=True),
            *(
                Setting(
                    f"ef {ef}, refine {r}", {"ef": ef, "refine": r}, filtered=(ef, r) == (100, 10)
                )
                for ef, r in grid
            ),
        ]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """A query is put together each time, as its users do."""
        table, values = self.table, setting.values

        def ask(vector: Vector) -> Answer:
            query = table.search(vector).distance_type("dot").limit(K)
            query = query.select(["id", "text", "_distance"])
            if values:
                query = query.ef(values["ef"]).refine_factor(values["refine"])
            if below is not None:
                query = query.where(f"u < {below}", prefilter=True)
            found = query.to_arrow()
            return found["id"].to_pylist(), found["text"].to_pylist()

        return ask
