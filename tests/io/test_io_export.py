"""Exports: what went in comes out, whole or not at all."""

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vecindex.errors import InputError, MissingExtraError, VecindexError
from vecindex.io import Columns, export, json_text, read_batches
from vecindex.results import Record

WHEN = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)


class FakeIndex:
    """What `export` needs of a `VectorIndex`."""

    def __init__(self, path: Path, records: list[Record], dim: int | None = 3) -> None:
        self.path, self.records, self.dim = path, records, dim
        self.length = len(records)
        self.fail_after: int | None = None

    def __len__(self) -> int:
        return self.length

    def scan(self, where=None, *, vectors=False):
        for i, record in enumerate(self.records):
            if i == self.fail_after:
                raise KeyboardInterrupt
            vector = record.vector if vectors else None
            yield Record(record.id, record.text, record.metadata, vector)


def make_records(n: int) -> list[Record]:
    rows = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    metadata = [
        {"n": i, "when": WHEN, "raw": b"\x00\xff", "tags": ["a", {"b": None}]} for i in range(n)
    ]
    return [Record(f"id {i}", f"text {i} é\n", metadata[i], rows[i]) for i in range(n)]


@pytest.fixture
def index(tmp_path):
    records = [*make_records(2500), Record("bare", None, None, np.float32([0, 0, 1]))]
    return FakeIndex(tmp_path / "kb.vx", records)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_jsonl_holds_every_record(index, tmp_path):
    assert export(index, tmp_path / "out.jsonl") == 2501
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [record.id for record in index.records]
    assert lines[7] == {
        "id": "id 7",
        "text": "text 7 é\n",
        "metadata": {
            "n": 7,
            "when": "2024-02-29T12:30:00+00:00",
            "raw": base64.b64encode(b"\x00\xff").decode(),
            "tags": ["a", {"b": None}],
        },
    }
    assert lines[-1] == {"id": "bare", "text": None, "metadata": None}
    assert names(tmp_path) == ["out.jsonl"]


def test_csv_keeps_every_text(tmp_path):
    texts = ["a\rb", "\r", "a\nb", "\r\n", 'q"uo,te', " sp ", "", "\u2028\x85", "=1+1", "NA"]
    rows = np.random.default_rng(0).normal(size=(len(texts), 3)).astype(np.float32)
    records = [Record(f"id\r{i}", texts[i], {"\r": texts[i]}, rows[i]) for i in range(len(texts))]
    export(FakeIndex(tmp_path / "kb.vx", records), tmp_path / "out.csv", vectors=True)
    columns = Columns(text="text", id="id", metadata=("metadata.*",), vector="*")
    (batch,) = read_batches(tmp_path / "out.csv", columns)
    assert list(batch.ids) == [record.id for record in records]
    assert list(batch.texts) == texts
    assert list(batch.metadata) == [record.metadata for record in records]
    assert batch.vectors.tobytes() == rows.tobytes()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_export_is_read_back(index, tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    export(index, path, vectors=True)
    columns = Columns(text="text", id="id", metadata=("metadata.*",), vector="embedding")
    batches = list(read_batches(path, columns))
    vectors = np.concatenate([batch.vectors for batch in batches])
    assert np.array_equal(vectors, np.stack([record.vector for record in index.records]))
    assert [one for batch in batches for one in batch.ids] == [
        record.id for record in index.records
    ]
    assert [one for batch in batches for one in batch.texts] == [
        record.text for record in index.records
    ]
    assert batches[0].metadata[3]["n"] == 3
    assert batches[-1].metadata[-1] == {}


def test_parquet_is_written_by_row_groups(index, tmp_path):
    export(index, tmp_path / "out.parquet")
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups == 3
    assert file.schema_arrow.names == ["id", "text", "metadata"]
    assert json.loads(file.read().column("metadata")[5].as_py())["n"] == 5


def test_npy_holds_the_rows(index, tmp_path):
    assert export(index, tmp_path / "out.npy") == 2501
    rows = np.load(tmp_path / "out.npy")
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.stack([record.vector for record in index.records]))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "npy"])
def test_an_empty_index(tmp_path, suffix):
    empty = FakeIndex(tmp_path / "kb.vx", [], dim=None)
    assert export(empty, tmp_path / f"out.{suffix}", vectors=True) == 0
    columns = Columns() if suffix == "npy" else Columns(id="id")
    if suffix == "npy":
        assert np.load(tmp_path / "out.npy").shape == (0, 0)
    else:
        assert list(read_batches(tmp_path / f"out.{suffix}", columns)) == []


def test_ids_of_both_types(tmp_path):
    mixed = FakeIndex(tmp_path / "kb.vx", [Record(1, "a"), Record("1", "b")])
    export(mixed, tmp_path / "out.jsonl")
    assert [
        json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()
    ] == [1, "1"]
    with pytest.raises(InputError, match=r"export to \.jsonl"):
        export(mixed, tmp_path / "out.parquet")
    assert names(tmp_path) == ["out.jsonl"]
    export(FakeIndex(tmp_path / "kb.vx", [Record(5, "a")]), tmp_path / "ints.parquet")
    assert pq.read_table(tmp_path / "ints.parquet").column("id").to_pylist() == [5]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "npy"])
def test_an_interrupted_export_leaves_what_was_there(index, tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    path.write_text("older")
    index.fail_after = 2200
    with pytest.raises(KeyboardInterrupt):
        export(index, path, overwrite=True)
    assert path.read_text() == "older"
    assert names(tmp_path) == [path.name]


def test_overwriting_must_be_asked_for(index, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("older")
    with pytest.raises(InputError, match=r"out\.jsonl exists"):
        export(index, path)
    assert path.read_text() == "older"
    export(index, path, overwrite=True)
    assert len(path.read_text().splitlines()) == 2501


def test_places_that_are_refused(index, tmp_path):
    with pytest.raises(InputError, match="unknown suffix"):
        export(index, tmp_path / "out.xlsx")
    (tmp_path / "dir.jsonl").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        export(index, tmp_path / "dir.jsonl", overwrite=True)
    index.path.mkdir()
    with pytest.raises(InputError, match="lies inside the index"):
        export(index, index.path / "out.jsonl")
    with pytest.raises(FileNotFoundError):
        export(index, tmp_path / "nowhere" / "out.jsonl")
    assert names(index.path) == []


def test_pyarrow_may_be_missing(index, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        export(index, tmp_path / "out.parquet")
    assert names(tmp_path) == []


@pytest.mark.parametrize("off", [-1, 1])
def test_an_index_that_changes_meanwhile(index, tmp_path, off):
    index.length += off
    with pytest.raises(VecindexError, match="changed while it was read"):
        export(index, tmp_path / "out.npy")
    assert names(tmp_path) == []


def test_progress_is_reported(index, tmp_path):
    seen = []
    export(index, tmp_path / "out.jsonl", progress=lambda *what: seen.append(what))
    assert seen == [("export", rows, 2501) for rows in (1000, 2000, 2501)]


def test_the_bytes_are_on_storage_before_the_rename(index, tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def spy(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", spy)
    export(index, tmp_path / "out.jsonl")
    assert synced == [str(tmp_path / f"out.jsonl.partial-{os.getpid()}"), str(tmp_path)]


def test_json_text_is_strict():
    value = {
        "nan": float("nan"),
        "n": np.float32(0.5),
        "row": np.arange(2),
        "t": WHEN,
        "é": [1e999],
    }
    assert json_text(value) == (
        '{"nan": null, "n": 0.5, "row": [0, 1], "t": "2024-02-29T12:30:00+00:00", "é": [null]}'
    )
    with pytest.raises(TypeError, match="set cannot be written"):
        json_text({1, 2})
