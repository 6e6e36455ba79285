"""zvec: a graph in float32 as it comes, or over 8-bit codes as in its published benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zvec
from zvec import (
    DataType,
    Doc,
    FieldSchema,
    HnswIndexParam,
    HnswQueryParam,
    MetricType,
    QuantizeType,
)

from benchmarks.stores_data import Batch
from benchmarks.stores_peers.base import Answer, Ask, K, Setting, Store, Vector


class ZvecStore(Store):
    """A collection with an inverted index, made for ranges, on the field that filters use."""

    packages = ("zvec",)
    durability = "insert, then flush (insert alone writes its log without syncing it)"

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.note = (
            "HNSW m=15, ef_construction=500, INT8 (its benchmark of a million rows)"
            if int8
            else "HNSW with its defaults (m=50, ef_construction=500, float32)"
        )
        zvec.init(log_level=zvec.LogLevel.ERROR)

    def create(self, folder: Path, dim: int) -> None:
        """With a schema."""
        graph = {"m": 15, "ef_construction": 500, "quantize_type": QuantizeType.INT8}
        index = HnswIndexParam(metric_type=MetricType.IP, **(graph if self.int8 else {}))
        ranges = zvec.InvertIndexParam(enable_range_optimization=True)
        schema = zvec.CollectionSchema(
            "rows",
            fields=[
                FieldSchema("text", DataType.STRING),
                FieldSchema("n", DataType.INT64),
                FieldSchema("kind", DataType.STRING),
                FieldSchema("u", DataType.DOUBLE, index_param=ranges),
            ],
            vectors=[zvec.VectorSchema("v", DataType.VECTOR_FP32, dim, index_param=index)],
        )
        self.collection: Any = zvec.create_and_open(str(folder / "rows.zvec"), schema)

    def add(self, batch: Batch) -> None:
        """Insert documents; each has a status of its own."""
        columns = zip(batch.ids, batch.texts, batch.vectors, batch.metadata, strict=True)
        states = self.collection.insert(
            [Doc(id=i, vectors={"v": v}, fields={"text": t, **m}) for i, t, v, m in columns]
        )
        if not all(state.ok() for state in states):
            raise RuntimeError("zvec refused a row")

    def sync(self) -> None:
        """Sync the log and start a new segment's files."""
        self.collection.flush()

    def build(self) -> None:
        """Merge segments and build the graph, with all cores."""
        self.collection.optimize()
        self.collection.flush()

    def open(self, folder: Path) -> None:
        """Read-only."""
        option = zvec.CollectionOption(read_only=True)
        self.collection = zvec.open(str(folder / "rows.zvec"), option)

    def close(self) -> None:
        """Release it."""
        self.collection.close()

    def settings(self) -> list[Setting]:
        """Its default (300), or its benchmark's (180); more for a higher recall, the ladder for equal ones."""
        if not self.int8:
            ladder = [
                Setting(f"ef {ef}", {"ef": ef}, filtered=ef == 1000)
                for ef in (1000, 50, 100, 150, 200, 500)
            ]
            return [Setting("ef 300 (its default)", {"ef": 300}, filtered=True), *ladder]
        refined = {"is_using_refiner": True}
        return [
            Setting("ef 180 (its benchmark)", {"ef": 180}, filtered=True),
            Setting("ef 300, refined", {"ef": 300, **refined}, filtered=True),
            *(Setting(f"ef {ef}", {"ef": ef}) for ef in (50, 100, 300, 500)),
            *(
                Setting(f"ef {ef}, refined", {"ef": ef, **refined})
                for ef in (30, 50, 75, 100, 180, 500)
            ),
        ]

    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Documents carry ids and the fields asked for."""
        collection, param = self.collection, HnswQueryParam(**setting.values)
        where = None if below is None else f"u < {below}"

        def ask(vector: Vector) -> Answer:
            query = zvec.Query(field_name="v", vector=vector, param=param)
            found = collection.query(query, topk=K, filter=where, output_fields=["text"])
            return [doc.id for doc in found], [doc.field("text") for doc in found]

        return ask
