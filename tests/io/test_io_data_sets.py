"""What leaves an index for data sets and tables holds every row, to the last bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from vecindex import VectorIndex
from vecindex.errors import ClosedIndexError, InputError, MissingExtraError

ROWS = np.random.default_rng(0).normal(size=(1200, 6)).astype(np.float32)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VectorIndex]:
    with VectorIndex.create(tmp_path / "kb.vx", maintenance="manual") as made:
        texts = [f'a "text", {i}\né' for i in range(1200)]
        made.add(
            vectors=ROWS, ids=[f"id {i}" for i in range(1200)], texts=texts,
            metadata=[{"n": i} if i % 2 else None for i in range(1200)],
        )  # fmt: skip
        made.remove(["id 3"])
        made.add(vectors=ROWS[:1] * 9, ids=["bare"])
        yield made


def stored(index: VectorIndex) -> np.ndarray:
    return np.stack([record.vector for record in index.scan(vectors=True)])


def test_a_data_set_streams_all_rows(index: VectorIndex) -> None:
    rows = index.to_dataset()
    assert isinstance(rows, datasets.IterableDataset)
    assert list(rows.features) == ["id", "text", "metadata", "embedding"]
    batches = list(rows.with_format("numpy").iter(500))
    vectors = np.concatenate([batch["embedding"] for batch in batches])
    assert vectors.tobytes() == stored(index).tobytes()
    found = list(rows)
    assert [row["id"] for row in found] == [record.id for record in index.scan()]
    assert [row["text"] for row in found] == [record.text for record in index.scan()]
    assert json.loads(found[1]["metadata"]) == {"n": 1}
    assert found[0]["metadata"] is None


def test_a_data_set_outlives_the_index_and_sees_its_newest_state(index: VectorIndex) -> None:
    rows = index.to_dataset().select_columns(["id"])
    index.remove(["id 0"])
    index.close()
    assert next(iter(rows)) == {"id": "id 1"}
    with pytest.raises(ClosedIndexError):
        index.to_dataset()


def test_a_data_set_goes_to_other_processes(index: VectorIndex) -> None:
    rows = index.to_dataset().select_columns(["embedding"]).take(40).with_format("torch")
    loader = DataLoader(rows, batch_size=20, num_workers=1, multiprocessing_context="fork")
    vectors = np.concatenate([batch["embedding"].numpy() for batch in loader])
    assert np.array_equal(vectors, stored(index)[:40])


def test_data_set_parquet_and_index_again(index: VectorIndex, tmp_path: Path) -> None:
    assert index.to_parquet(tmp_path / "rows.parquet") == 1200
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "rows.parquet"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    vectors = np.array(rows.with_format("numpy")["embedding"][:])
    assert vectors.tobytes() == stored(index).tobytes()
    for source in (rows, index.to_dataset()):
        with VectorIndex.from_dataset(
            tmp_path / "again.vx", source, metadata=["metadata.*"]
        ) as again:
            assert (
                np.abs(stored(again) - vectors).max() <= 6e-8
            )  # of so few dimensions the last bit may differ
            hits, others = again.search(ROWS[7], 5), index.search(ROWS[7], 5)
            assert [hit.id for hit in hits] == [hit.id for hit in others]
            assert again.get(["id 1", "id 2"])[0].metadata == {"n": 1}
        __import__("shutil").rmtree(tmp_path / "again.vx")


def test_csv_of_records(index: VectorIndex, tmp_path: Path) -> None:
    assert index.to_csv(tmp_path / "rows.csv") == 1200
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["id", "text", "metadata"]
    assert lines[1] == ["id 1", 'a "text", 1\né', '{"n": 1}']
    assert lines[-1] == ["bare", "", ""]


def test_csv_of_embeddings_as_published(index: VectorIndex, tmp_path: Path) -> None:
    index.to_csv(tmp_path / "embeddings.csv", vectors="only")
    frame = pd.read_csv(tmp_path / "embeddings.csv", dtype=np.float32)
    assert list(frame) == [str(number) for number in range(6)]
    assert frame.to_numpy().tobytes() == stored(index).tobytes()
    pd.DataFrame(stored(index)).to_csv(tmp_path / "theirs.csv", index=False)
    theirs = (tmp_path / "theirs.csv").read_text().splitlines()
    assert theirs[0] == (tmp_path / "embeddings.csv").read_text().splitlines()[0]


def test_csv_of_both(index: VectorIndex, tmp_path: Path) -> None:
    index.to_csv(tmp_path / "rows.csv", vectors=True)
    frame = pd.read_csv(tmp_path / "rows.csv", dtype={str(n): np.float32 for n in range(6)})
    assert list(frame)[:4] == ["id", "text", "metadata", "0"]
    assert frame[[str(n) for n in range(6)]].to_numpy().tobytes() == stored(index).tobytes()


def test_parquet_without_vectors_and_with_nothing_else(index: VectorIndex, tmp_path: Path) -> None:
    index.to_parquet(tmp_path / "a.parquet", vectors=False)
    index.to_parquet(tmp_path / "b.pq", vectors="only")
    assert pq.read_schema(tmp_path / "a.parquet").names == ["id", "text", "metadata"]
    assert pq.read_schema(tmp_path / "b.pq").names == ["embedding"]
    with pytest.raises(InputError, match='False, True or "only"'):
        index.to_parquet(tmp_path / "c.parquet", vectors="yes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="exists"):
        index.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="exists"):
        index.to_csv(tmp_path / "a.parquet")


def test_ids_of_both_types(index: VectorIndex, tmp_path: Path) -> None:
    index.add(vectors=ROWS[:1], ids=[7])
    with pytest.raises(InputError, match="7 is not of the first one's type, str"):
        index.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=r"export to \.jsonl"):
        list(index.to_dataset())
    assert index.to_csv(tmp_path / "rows.csv") == 1201


def test_no_rows(tmp_path: Path) -> None:
    with VectorIndex.create(tmp_path / "kb.vx") as index:
        assert list(index.to_dataset()) == []
        assert index.to_csv(tmp_path / "rows.csv", vectors="only") == 0
        assert index.to_parquet(tmp_path / "rows.parquet") == 0


def test_datasets_may_be_missing(index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        index.to_dataset()
