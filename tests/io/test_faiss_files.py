"""Indexes as plain FAISS files, and plain FAISS files as indexes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import faiss
import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.errors import (
    CorruptIndexError,
    DuplicateIdError,
    IdTypeError,
    IndexPathError,
    InputError,
    VectorValueError,
)
from vecindex.index import exchange

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 16)).astype(np.float32)
QUERIES = RNG.normal(size=(9, 16)).astype(np.float32)
UNIT = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VectorIndex]:
    with VectorIndex.create(tmp_path / "kb.vx", spec="flat/pq4", maintenance="manual") as made:
        ids = [i if i % 2 else f"id {i}" for i in range(400)]
        made.add(vectors=ROWS, ids=ids, texts=[f"text {i}" for i in range(400)])
        made.optimize()
        made.remove(ids[10:60])
        made.add(vectors=QUERIES[:3] * 2, ids=["x\ny", "é", "z"])
        yield made


def ids_of(path: Path) -> list[str | int]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_faiss_finds_what_the_index_finds(index: VectorIndex, tmp_path: Path) -> None:
    assert index.export_faiss(tmp_path / "kb.faiss") == 353
    plain = faiss.read_index(str(tmp_path / "kb.faiss"))
    ids = ids_of(tmp_path / "kb.faiss.ids.jsonl")
    assert type(plain) is faiss.IndexFlatIP
    assert ids == [record.id for record in index.scan()]
    scores, labels = plain.search(UNIT, 12)
    expected_ids, expected = index.search_arrays(QUERIES, 12, exact=True)
    assert [[ids[label] for label in row] for row in labels] == expected_ids.tolist()
    assert np.allclose(scores, expected, atol=1e-6)
    stored = np.stack([record.vector for record in index.scan(vectors=True)])
    assert plain.reconstruct_n(0, 353).tobytes() == stored.tobytes()


def test_a_data_set_loads_it(index: VectorIndex, tmp_path: Path) -> None:
    index.remove([record.id for record in index.scan() if isinstance(record.id, int)])
    index.export_faiss(tmp_path / "kb.faiss")
    index.to_parquet(tmp_path / "kb.parquet")
    rows = datasets.Dataset.from_parquet(
        str(tmp_path / "kb.parquet"), cache_dir=str(tmp_path / "cache")
    )
    rows.load_faiss_index("embedding", str(tmp_path / "kb.faiss"))
    scores, nearest = rows.get_nearest_examples("embedding", UNIT[4], k=8)
    hits = index.search(QUERIES[4], 8, exact=True)
    assert nearest["id"] == [hit.id for hit in hits]
    assert scores.tolist() == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_both_files_or_none(index: VectorIndex, tmp_path: Path) -> None:
    (tmp_path / "kb.faiss.ids.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"ids\.jsonl exists"):
        index.export_faiss(tmp_path / "kb.faiss")
    assert not (tmp_path / "kb.faiss").exists()
    seen: list[tuple[object, ...]] = []
    index.export_faiss(
        tmp_path / "kb.faiss", overwrite=True, progress=lambda *what: seen.append(what)
    )
    assert seen == [("export", 353, 353)]
    with pytest.raises(InputError, match="lies inside the index"):
        index.export_faiss(index.path / "kb.faiss")
    with (
        VectorIndex.create(tmp_path / "new.vx") as new,
        pytest.raises(InputError, match="no rows yet"),
    ):
        new.export_faiss(tmp_path / "new.faiss")
    assert sorted(p.name for p in tmp_path.glob("*.*")) == [
        "kb.faiss", "kb.faiss.ids.jsonl", "kb.vx", "new.vx",
    ]  # fmt: skip


def test_there_and_back(index: VectorIndex, tmp_path: Path) -> None:
    index.export_faiss(tmp_path / "kb.faiss")
    ids = ids_of(tmp_path / "kb.faiss.ids.jsonl")
    texts = [record.text for record in index.scan()]
    metadata = [{"n": number} for number in range(353)]
    with VectorIndex.import_faiss(
        tmp_path / "kb.faiss", tmp_path / "new.vx", ids=ids, texts=texts, metadata=metadata
    ) as new:
        assert new.mode == "r+"
        for mine, theirs in zip(
            new.search(QUERIES, 5), index.search(QUERIES, 5, exact=True), strict=True
        ):
            assert [hit.id for hit in mine] == [hit.id for hit in theirs]
            assert [hit.text for hit in mine] == [hit.text for hit in theirs]
        assert new.get([ids[17]])[0].metadata == {"n": 17}
        stored = np.stack([record.vector for record in index.scan(vectors=True)])
        back = np.stack([record.vector for record in new.scan(vectors=True)])
        assert np.abs(back - stored).max() <= 6e-8  # of so few dimensions the last bit may differ


def write(plain: faiss.Index, path: Path) -> Path:
    faiss.write_index(plain, str(path))
    return path


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF4,Flat", "IDMap,Flat", "IDMap,HNSW8"])
def test_what_others_made(factory: str, tmp_path: Path) -> None:
    plain = faiss.index_factory(16, factory)
    plain.train(ROWS)
    labels = np.arange(400)
    if factory.startswith("IDMap"):
        labels = RNG.permutation(400) * 3 - 9
        plain.add_with_ids(ROWS, labels)
    else:
        plain.add(ROWS)
    path = write(plain, tmp_path / "a.faiss")
    with VectorIndex.import_faiss(path, tmp_path / "a.vx") as index:
        assert [record.id for record in index.scan()] == labels.tolist()
        cosines = UNIT @ (ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)).T
        ids, scores = index.search_arrays(QUERIES, 3)
        assert ids.tolist() == labels[np.argsort(-cosines, axis=1)[:, :3]].tolist()
        assert np.allclose(scores, -np.sort(-cosines, axis=1)[:, :3], atol=1e-6)


def test_wide_vectors_are_added_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_BATCH_BYTES", 2 * 16 * 4)
    plain = faiss.IndexFlatIP(16)
    plain.add(ROWS[:5])
    path, seen = write(plain, tmp_path / "a.faiss"), []
    VectorIndex.import_faiss(
        path, tmp_path / "a.vx", progress=lambda *what: seen.append(what)
    ).close()
    assert [what for what in seen if what[0] == "rows"] == [("rows", n, 5) for n in (2, 4, 5)]


def test_an_embedder_asks_what_it_made(tmp_path: Path) -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 3.0] for text in texts]

    plain = faiss.IndexFlatL2(2)
    plain.add(np.array(embed(["a", "abcdef"]), dtype=np.float32))
    path = write(plain, tmp_path / "a.faiss")
    with VectorIndex.import_faiss(
        path, tmp_path / "a.vx", texts=["a", "abcdef"], embedder=embed, spec="flat"
    ) as index:
        assert index.search("fedcba", 1)[0].text == "abcdef"


def refused(error: type[Exception], match: str, path: Path, tmp_path: Path, **columns) -> None:
    with pytest.raises(error, match=match) as caught:
        VectorIndex.import_faiss(path, tmp_path / "a.vx", **columns)
    assert not (tmp_path / "a.vx").exists()
    if error in (VectorValueError, DuplicateIdError):
        assert "which begins at" in caught.value.__notes__[0]


def test_what_cannot_be_taken_in(tmp_path: Path) -> None:
    plain = faiss.IndexFlatIP(16)
    plain.add(ROWS)
    path = write(plain, tmp_path / "a.faiss")
    refused(InputError, "texts has 2 entries, but .* has 400", path, tmp_path, texts=["a", "b"])
    refused(InputError, "texts must be a list", path, tmp_path, texts="x" * 400)
    refused(IdTypeError, "ids must be a list", path, tmp_path, ids="x" * 400)
    refused(IdTypeError, "ids must be a list", path, tmp_path, ids=400)
    refused(DuplicateIdError, "occurs twice", path, tmp_path, ids=[0, *range(399)])
    refused(FileNotFoundError, "missing", tmp_path / "missing", tmp_path)
    (tmp_path / "text").write_text("no index at all")
    refused(InputError, "not a FAISS index of plain vectors", tmp_path / "text", tmp_path)
    (tmp_path / "short").write_bytes(path.read_bytes()[:-1])
    refused(CorruptIndexError, "damaged at offset", tmp_path / "short", tmp_path)
    plain.add(np.full((1, 16), np.nan, dtype=np.float32))
    refused(VectorValueError, "row 0", write(_of(plain, 400), tmp_path / "nan"), tmp_path)


def _of(plain: faiss.IndexFlatIP, last: int) -> faiss.IndexFlatIP:
    """Return an index of 400 vectors, the first of them being `plain`'s number `last`."""
    new = faiss.IndexFlatIP(plain.d)
    new.add(np.concatenate([plain.reconstruct_n(last, 1), ROWS[1:]]))
    return new


def test_an_index_that_is_there_stays(index: VectorIndex, tmp_path: Path) -> None:
    index.export_faiss(tmp_path / "kb.faiss")
    with pytest.raises(IndexPathError, match="exists"):
        VectorIndex.import_faiss(tmp_path / "kb.faiss", index.path)
    assert len(index) == 353
