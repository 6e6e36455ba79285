"""`VectorIndex.from_dataset`: a whole, optimized index of a data set, or nothing."""

import datasets
import numpy as np
import pandas as pd
import pytest

from vecindex import VectorIndex
from vecindex.errors import (
    DuplicateIdError,
    EmbedderError,
    IndexPathError,
    InputError,
    VectorValueError,
)
from vecindex.io import Skipped


def embed(texts):
    return np.array([[len(text), text.count("a"), 1] for text in texts], dtype=np.float32)


@pytest.fixture
def make(path):
    made = []

    def from_dataset(*args, **options):
        made.append(VectorIndex.from_dataset(path, *args, **options))
        return made[-1]

    yield from_dataset
    for index in made:
        index.close()


def test_texts_are_embedded(make, path):
    data = datasets.Dataset.from_dict(
        {"id": ["x", "y", "z"], "text": ["aaa", "bbb", "abc"], "year": [1, None, 3]}
    )
    seen = []
    index = make(
        data,
        metadata="year",
        embedder=embed,
        batch_rows=2,
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert (index.path, index.mode, len(index)) == (path, "r+", 3)
    assert index.info().structure == "flat"
    assert index.search("aaa", k=1)[0].id == "x"
    assert [(r.id, r.text, r.metadata) for r in index.scan()] == [
        ("x", "aaa", {"year": 1}),
        ("y", "bbb", {}),
        ("z", "abc", {"year": 3}),
    ]
    assert seen[:2] == [("rows", 2, 3), ("rows", 3, 3)]
    index.add(texts=["more"], ids=["w"])
    assert sorted(child.name for child in path.parent.iterdir()) == [path.name]


def test_vectors_are_taken_as_they_are(make, tmp_path):
    rows = np.random.default_rng(0).normal(size=(13, 6)).astype(np.float32)
    pd.DataFrame(rows).to_csv(tmp_path / "embeddings.csv", index=False)
    index = make(str(tmp_path / "embeddings.csv"))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.argsort(-(unit @ unit[3]), kind="stable")
    assert [hit.id for hit in index.search(rows[3], k=13)] == expected.tolist()


def test_the_structure_is_built(make):
    rows = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    info = make(rows, spec="hnsw", batch_rows=100).info()
    assert (info.structure, info.indexed, info.tail) == ("hnsw", 300, 0)


def test_columns_and_split_are_named(make):
    data = datasets.DatasetDict(
        train=datasets.Dataset.from_dict({"body": ["a"], "title": ["b"]}),
        test=datasets.Dataset.from_dict(
            {"body": ["c"], "title": ["d"], "id": [5], "emb": [[1, 2]]}
        ),
    )
    index = make(data, split="test", text="title", vector="emb", id=False, metadata=["*"])
    (record,) = index.scan()
    assert (record.id, record.text, record.metadata) == (0, "d", {"body": "c", "id": 5})
    assert index.dim == 2


def test_bad_records_are_left_out(make):
    records = [{"text": "a"}, {"text": None}, {"text": 5}, {"text": "b"}]
    skipped = Skipped()
    index = make(records, embedder=embed, skip_bad=skipped)
    assert [record.text for record in index.scan()] == ["a", "b"]
    assert skipped.count == 2


def interrupted():
    yield {"text": "a"}
    raise KeyboardInterrupt


def failing(texts):
    raise RuntimeError("no model")


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ([{"text": "a"}], {}, EmbedderError, "list: the texts of column 'text' must be embedded"),
        ([{"text": "a"}], {"text": "txt"}, InputError, "did you mean 'text'"),
        ([{"text": "a"}, {"text": 5}], {"embedder": embed}, InputError, "list, row 1: the text"),
        ([{"text": "a"}], {"embedder": failing}, RuntimeError, "no model"),
        ([{"vector": [0, 0]}], {}, VectorValueError, "row 0"),
        ([], {"embedder": embed}, InputError, "it has no records"),
        (
            [{"text": None}],
            {"embedder": embed, "skip_bad": Skipped()},
            InputError,
            "list: it has no records that can be used",
        ),
        ([{"text": "a"}], {"embedder": embed, "spec": "tree"}, InputError, "tree"),
        (interrupted(), {"embedder": embed, "batch_rows": 1}, KeyboardInterrupt, None),
    ],
)
def test_after_an_error_there_is_nothing(path, data, options, error, message):
    with pytest.raises(error, match=message):
        VectorIndex.from_dataset(path, data, **options)
    assert list(path.parent.iterdir()) == []


def test_an_id_that_comes_twice_is_named_with_its_batch(path):
    records = [{"id": number % 3, "vector": [1, number]} for number in range(4)]
    with pytest.raises(DuplicateIdError, match="the index has these ids already: 0") as caught:
        VectorIndex.from_dataset(path, records, batch_rows=2)
    assert caught.value.__notes__ == [
        "rows are counted from 0 in a batch of 2, which begins at list, row 2"
    ]
    assert not path.exists()


def test_what_is_there_is_left_alone(path):
    path.mkdir()
    (path / "mine").write_text("x")
    with pytest.raises(IndexPathError, match="exists; remove it, or choose another path"):
        VectorIndex.from_dataset(path, [{"text": "a"}], embedder=embed)
    assert (path / "mine").read_text() == "x"
