"""Tables, arrays and dicts in memory: values as Python's, vectors as they are."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from vecindex.errors import InputError, MissingExtraError
from vecindex.io import Columns, column_names, open_source, read_batches

IDS, TEXTS = ["a", "b", "c"], ["first", None, "third"]
ROWS = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
LISTS = pa.list_(pa.float32())
ALL = Columns(text="text", id="id", vector="embedding", metadata=("year",))


def arrow(vectors=LISTS):
    years = pa.array([2020, None, 2022], pa.int16())
    return pa.table({"id": IDS, "text": TEXTS, "embedding": pa.array(ROWS, vectors), "year": years})


def pandas_frame():
    return pd.DataFrame({"id": IDS, "text": TEXTS, "embedding": ROWS, "year": [2020, None, 2022]})


SOURCES = {
    "pandas": pandas_frame,
    "pandas, arrays": lambda: pandas_frame().assign(embedding=[np.array(row) for row in ROWS]),
    "pandas, arrow types": lambda: arrow().to_pandas(types_mapper=pd.ArrowDtype),
    "pandas, another index": lambda: pandas_frame().set_index(pd.Index([7, 7, 9])),
    "polars": lambda: pl.from_arrow(arrow()),
    "polars, array": lambda: pl.from_arrow(arrow(pa.list_(pa.float32(), 2))),
    "arrow": arrow,
    "arrow, chunks": lambda: pa.concat_tables([arrow().slice(0, 1), arrow().slice(1)]),
    "arrow, fixed": lambda: pa.concat_tables([arrow(pa.list_(pa.float64(), 2))] * 2).slice(3),
    "arrow, large": lambda: arrow(pa.large_list(pa.float16())),
    "arrow reader": lambda: arrow().to_reader(max_chunksize=1),
    "arrow batch": lambda: arrow().to_batches()[0],
    "dicts": lambda: arrow().to_pylist(),
    "generator": lambda: iter(arrow().to_pylist()),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("batch_rows", [2, 3])
def test_every_kind_gives_the_same(name, batch_rows):
    found = list(read_batches(SOURCES[name](), ALL, batch_rows))
    assert [len(batch) for batch in found] == ([2, 1] if batch_rows == 2 else [3])
    assert [value for batch in found for value in batch.ids] == IDS
    assert [value for batch in found for value in batch.texts] == TEXTS
    vectors = np.concatenate([batch.vectors for batch in found])
    assert vectors.dtype == np.float32
    assert vectors.tolist() == ROWS
    years = [entry.get("year") for batch in found for entry in batch.metadata]
    assert years == [2020, None, 2022]
    assert found[-1].place(-1) == f"{type(SOURCES[name]()).__name__}, row 2"


@pytest.mark.parametrize("name", SOURCES)
def test_columns_are_found(name):
    source = open_source(SOURCES[name]())
    assert source.names() == ["id", "text", "embedding", "year"]
    (batch,) = source.batches()
    assert (batch.ids, batch.texts, batch.vectors.tolist()) == (IDS, TEXTS, ROWS)
    assert batch.metadata is None
    assert set(batch.arguments()) == {"ids", "texts", "vectors"}


def test_values_become_python_values():
    frame = pd.DataFrame(
        {
            "text": ["x", "y"],
            "when": pd.to_datetime(["2024-02-29T12:30:00.000001234", None], format="ISO8601"),
            "zone": pd.to_datetime(["2024-02-29", None], utc=True),
            "count": pd.array([1, None], "Int64"),
            "share": np.array([0.5, np.nan], np.float32),
            "kind": pd.Categorical(["a", None]),
            "true": [True, False],
            "tags": [np.array(["u", "v"]), ["w"]],
        }
    )
    (batch,) = read_batches(frame, Columns(text="text", metadata=("*",)))
    assert batch.metadata == [
        {
            "when": datetime(2024, 2, 29, 12, 30, 0, 1),
            "zone": datetime(2024, 2, 29, tzinfo=UTC),
            "count": 1,
            "share": 0.5,
            "kind": "a",
            "true": True,
            "tags": ["u", "v"],
        },
        {"true": False, "tags": ["w"]},
    ]
    assert [type(value) for value in batch.metadata[0].values()] == [
        datetime, datetime, int, float, str, bool, list,
    ]  # fmt: skip


def test_values_of_dicts_become_python_values():
    record = {
        "text": np.str_("x"),
        "day": date(2024, 2, 29),
        "price": Decimal("1.5"),
        "stamp": np.datetime64("2024-02-29T00:00:00", "ns"),
        "deep": {"n": np.int8(3), "list": (np.float64(0.5), None, pd.NA, pd.NaT)},
    }
    (batch,) = read_batches([record], Columns(text="text", metadata=("*",)))
    day = datetime(2024, 2, 29)
    deep = {"n": 3, "list": [0.5, None, None, None]}
    assert batch.metadata == [{"day": day, "price": 1.5, "stamp": day, "deep": deep}]
    assert [type(value) for value in batch.metadata[0]["deep"]["list"][:1]] == [float]
    assert type(batch.metadata[0]["day"]) is datetime


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2, 3}]}, r"metadata m\.a\[1\] cannot be stored: \{2, 3\}, of type set"),
        ({1: 2}, "metadata m: keys must be strings, not 1"),
        (2**70, "metadata m: 1180591620717411303424 does not fit into 64 bits"),
        (pd.Timedelta(1), "metadata m cannot be stored: Timedelta"),
        (np.array([1j]), "metadata m cannot be stored"),
        ("\ud800", "metadata m is not valid Unicode"),
        (nested(100), "at most 60 deep"),
        (nested(5000), "at most 60 deep"),
    ],
    ids=["set", "key", "number", "delta", "complex", "unicode", "deep", "deeper"],
)
def test_a_value_that_metadata_cannot_hold(value, message):
    records = [{"text": "a"}, {"text": "b", "m": value}]
    with pytest.raises(InputError, match=rf"^list, row 1: .*{message}"):
        list(read_batches(records, Columns(text="text", metadata=("m",))))


def test_whole_floats_are_integer_ids():
    frame = pd.DataFrame({"id": [3, None, 5], "text": ["a", "b", "c"]})  # makes floats of them
    bad = []
    (batch,) = read_batches(frame, skip_bad=bad.append)
    assert batch.ids == [3, 5]
    assert [type(value) for value in batch.ids] == [int, int]
    assert [str(error) for error in bad] == [
        "DataFrame, row 1: the id must be a string or an integer, not null"
    ]
    for wrong in (1.5, 2.0**60, float("inf"), True):
        with pytest.raises(InputError, match="row 0: the id"):
            list(read_batches([{"id": wrong, "text": "a"}]))


def test_a_missing_text_needs_a_vector():
    for missing in (None, float("nan"), pd.NA):
        (batch,) = read_batches([{"text": missing, "vector": [1]}])
        assert batch.texts == [None]
        with pytest.raises(InputError, match=r"list, row 1: the text is missing, and there is no"):
            list(read_batches([{"text": "x"}, {"text": missing}]))


def test_mixed_ids_are_named_with_both_places():
    frame = pd.DataFrame({"id": [1, 2, "3"], "text": ["a", "b", "c"]})
    with pytest.raises(
        InputError, match="DataFrame, row 2: the id '3' is a string, but the first id, 1 in row 0,"
    ):
        list(read_batches(frame, batch_rows=1))


@pytest.mark.parametrize("make", [list, iter])
def test_a_metadata_column_in_no_dict(make):
    records = make([{"text": "x", "tag": 1}, {"text": "y"}])
    with pytest.raises(InputError, match=r"'tags' \(did you mean 'tag'\?\); there is: text, tag$"):
        list(read_batches(records, Columns(text="text", metadata=("tags",))))
    found = read_batches(
        make([{"text": "x"}, {"text": "y", "tag": 1}]), Columns("text", None, ("tag",))
    )
    assert next(found).metadata == [{}, {"tag": 1}]


def test_a_wrong_metadata_column_of_a_list_is_missed_before_anything_is_yielded():
    found = read_batches([{"text": "x"}] * 9, Columns(text="text", metadata=("tag",)), 1)
    with pytest.raises(InputError, match="no column 'tag'"):
        next(found)


def test_an_array_is_its_rows():
    rows = np.arange(10, dtype=np.float64).reshape(5, 2)
    first, second = read_batches(rows, Columns(id="row"), 3)
    assert (first.ids, second.ids) == ([0, 1, 2], [3, 4])
    assert np.array_equal(np.concatenate([first.vectors, second.vectors]), rows)
    with pytest.raises(InputError, match=r"expected numbers of shape \(n, dim\)"):
        read_batches(np.zeros(3))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, "cannot read records from int"),
        ({"text": ["a"]}, "cannot read records from dict"),
        (pl.LazyFrame({"text": ["a"]}), "a lazy one must be collected"),
        (pl.Series([1]), "Series: not a table of columns"),
        (["a"], "list, row 0: expected a dict, not 'a'"),
        ([], "list: it has no records"),
        ("", "the source is empty"),
    ],
)
def test_what_is_no_source(source, message):
    with pytest.raises(InputError, match=message):
        list(read_batches(source))


def test_an_iterator_keeps_its_first_record():
    with pytest.raises(InputError, match="can be read only once"):
        column_names(iter([{"text": "x"}]))
    source = open_source(iter([{"text": "x"}, {"text": "y"}]))
    assert source.names() == source.names() == ["text"]
    assert next(source.batches()).texts == ["x", "y"]


def test_no_library_is_loaded_to_recognise_its_tables():
    code = (
        "import sys, json; from vecindex.io import read_batches\n"
        "list(read_batches([{'text': 'x'}]))\n"
        "print(json.dumps([m for m in ('pandas', 'polars', 'pyarrow', 'datasets', 'torch')"
        " if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_pyarrow_may_be_missing(monkeypatch):
    frame = pl.DataFrame({"text": ["a"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[arrow\]'"):
        read_batches(frame)
