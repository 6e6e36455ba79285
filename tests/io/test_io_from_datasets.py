"""Data sets in, through the real `datasets`: objects, directories and names; no network."""

import tracemalloc

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vecindex.errors import HubError, InputError, MissingExtraError
from vecindex.io import Columns, open_source, read_batches

ROWS = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
DATA = {"id": [1, 2, 3], "text": ["a", None, "c"], "embedding": ROWS, "tag": ["x", None, "z"]}
ALL = Columns(text="text", id="id", vector="embedding", metadata=("tag",))


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def data():
    return datasets.Dataset.from_dict(DATA)


def examples(last="z"):
    for number in range(3):
        yield {name: column[number] for name, column in DATA.items()} | {
            "tag": None if number < 2 else last
        }


SOURCES = {
    "dataset": lambda data: data,
    "a format": lambda data: data.with_format("pandas"),
    "some columns": lambda data: data.with_format("numpy", columns=["id"]),
    "selected": lambda data: datasets.concatenate_datasets([data, data]).select([3, 1, 5]),
    "fixed lists": lambda data: data.cast_column(
        "embedding", datasets.List(datasets.Value("float32"), length=2)
    ),
    "iterable": lambda data: data.to_iterable_dataset(num_shards=2),
    "mapped iterable": lambda data: data.to_iterable_dataset().map(lambda row: {"n": row["id"]}),
    "generator": lambda data: datasets.IterableDataset.from_generator(examples),
    "one split": lambda data: datasets.DatasetDict(train=data),
    "streamed split": lambda data: datasets.IterableDatasetDict(
        train=data.to_iterable_dataset(num_shards=2)
    ),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("batch_rows", [1, 3])
def test_every_kind_gives_the_same(data, name, batch_rows):
    source = SOURCES[name](data)
    found = list(read_batches(source, ALL, batch_rows))
    assert [len(batch) for batch in found] == ([3] if batch_rows == 3 else [1, 1, 1])
    assert [value for batch in found for value in batch.ids] == [1, 2, 3]
    assert [value for batch in found for value in batch.texts] == ["a", None, "c"]
    assert np.concatenate([batch.vectors for batch in found]).tolist() == ROWS
    assert found[-1].metadata[-1] == {"tag": "z"}
    assert found[-1].place(-1) == f"{type(source).__name__}, row 2"


@pytest.mark.parametrize("name", SOURCES)
def test_columns_are_found(data, name):
    (batch,) = open_source(SOURCES[name](data)).batches()
    assert (batch.ids, batch.texts, batch.vectors.tolist()) == ([1, 2, 3], ["a", None, "c"], ROWS)


def test_a_type_that_is_known_only_later():
    stream = datasets.IterableDataset.from_generator(examples, gen_kwargs={"last": "end"})
    found = list(read_batches(stream, Columns(id="id", metadata=("tag",)), 1))
    assert [batch.metadata[0]["tag"] for batch in found] == [None, None, "end"]


def test_a_stream_that_is_not_of_its_type():
    features = datasets.Features({"text": datasets.Value("string"), "n": datasets.Value("int64")})

    def rows():
        yield {"text": "a", "n": 1}
        yield {"text": "b", "n": "two"}

    stream = datasets.IterableDataset.from_generator(rows, features=features)
    with pytest.raises(InputError, match="IterableDataset, from row 0 on: cannot be read: "):
        list(read_batches(stream, Columns(text="text", metadata=("n",))))


def test_splits_are_listed(data):
    both = datasets.DatasetDict(train=data, test=data.select([2]))
    (batch,) = read_batches(both, split="test")
    assert batch.ids == [3]
    with pytest.raises(InputError, match=r"say which split .* there is: train, test$"):
        read_batches(both)
    with pytest.raises(InputError, match=r"no split 'tset'; there is: train, test$"):
        read_batches(both, split="tset")
    for source in (data, [{"text": "x"}]):
        with pytest.raises(InputError, match="leave out split='train'"):
            read_batches(source, split="train")


def test_a_saved_data_set(data, tmp_path):
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=data, test=data.select([2])).save_to_disk(tmp_path / "two")
    for name in (tmp_path / "one", f"dataset:{tmp_path / 'one'}"):
        (batch,) = read_batches(name)
        assert (batch.ids, batch.vectors.tolist()) == ([1, 2, 3], ROWS)
    assert batch.place(2) == f"{tmp_path / 'one'}, row 2"
    (batch,) = read_batches(str(tmp_path / "two"), split="test")
    assert batch.ids == [3]
    with pytest.raises(InputError, match="two: say which split"):
        read_batches(tmp_path / "two")


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_directory_of_files(data, tmp_path, form):
    for name, part in (("train", data), ("test", data.select([2]))):
        path = tmp_path / f"{name}.{form}"
        part.to_parquet(path) if form == "parquet" else part.to_json(path)
    (batch,) = read_batches(tmp_path, split="train")
    assert (batch.ids, batch.texts, batch.vectors.tolist()) == ([1, 2, 3], ["a", None, "c"], ROWS)
    with pytest.raises(InputError, match="there is: train, test"):
        read_batches(tmp_path)


def test_an_embeddings_csv_as_a_data_set(tmp_path):
    rows = np.random.default_rng(0).normal(size=(13, 8)).astype(np.float32)
    pd.DataFrame(rows).to_csv(tmp_path / "embeddings.csv", index=False)
    loaded = datasets.Dataset.from_pandas(pd.read_csv(tmp_path / "embeddings.csv"))
    (batch,) = read_batches(loaded)
    assert np.array_equal(batch.vectors, rows)


def test_directories_without_data(tmp_path):
    with pytest.raises(InputError, match=r"cannot be loaded as a data set: .*any data files"):
        read_batches(tmp_path)
    (tmp_path / "MANIFEST").touch()
    with pytest.raises(InputError, match="is an index; expected data"):
        read_batches(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dataset:org/name", ("org/name", {})),
        ("dataset:org/name#en", ("org/name", {"name": "en"})),
        ("hf://datasets/org/name", ("org/name", {})),
        ("hf:/datasets/org/name#en", ("org/name", {"name": "en"})),  # as a path keeps it
        ("hf://datasets/org/name@v2", ("org/name", {"revision": "v2"})),
        (
            "hf://datasets/org/name@v2/data/a.parquet",
            ("org/name", {"revision": "v2", "data_files": "data/a.parquet"}),
        ),
    ],
)
def test_names_on_the_hub_are_streamed(monkeypatch, data, name, expected):
    asked = []

    def load_dataset(path, *, streaming, **options):
        asked.append((path, options, streaming))
        return datasets.IterableDatasetDict(train=data.to_iterable_dataset())

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (batch,) = read_batches(name)
    assert asked == [(*expected, True)]
    assert batch.place(0) == f"{name}, row 0"


def test_a_name_that_cannot_be_loaded(monkeypatch):
    def refuse(*_args, **_options):
        raise ValueError("Config name is missing. Please pick one among: en, de")

    with pytest.raises(HubError, match="dataset:no/where: Couldn't reach"):
        read_batches("dataset:no/where")
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match=r"dataset:a/b: cannot be loaded .* among: en, de"):
        read_batches("dataset:a/b")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[text\]'"):
        read_batches("dataset:a/b")


@pytest.mark.parametrize("typed", [True, False])
def test_a_large_stream_is_never_in_memory(typed):
    rng = np.random.default_rng(0)

    def rows():
        for number in range(2000):
            yield {"text": rng.bytes(5000).hex(), "id": number}

    features = {"text": datasets.Value("string"), "id": datasets.Value("int64")}
    stream = datasets.IterableDataset.from_generator(
        rows, features=datasets.Features(features) if typed else None
    )
    tracemalloc.start()
    count = arrow_peak = 0
    for batch in read_batches(stream, batch_rows=10):
        count += len(batch)
        arrow_peak = max(arrow_peak, pa.total_allocated_bytes())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2000
    assert peak < 4_000_000
    assert arrow_peak < 4_000_000
