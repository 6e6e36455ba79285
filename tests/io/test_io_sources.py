"""Readers: every format, the place of every mistake, and no file in memory as a whole."""

import gzip
import json
import tracemalloc
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecindex.errors import InputError, MissingExtraError
from vecindex.io import Columns, column_names, read_batches

RECORDS = [
    {"id": "a", "text": "first", "topic": "x", "year": 2020, "vec": [1.0, 0.0]},
    {"id": "b", "text": None, "topic": "y", "year": 2021, "vec": [0.0, 1.0]},
    {"id": "c", "text": "third, with ümlaut", "topic": "z", "year": 2022, "vec": [0.5, 0.5]},
]
ALL = Columns(text="text", id="id", metadata=("topic", "year"), vector="vec")


def write_jsonl(path: Path, records: list) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def one_batch(path: Path, columns: Columns):
    (batch,) = read_batches(path, columns)
    return batch


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.JSONL"])
def test_jsonl(tmp_path, name):
    batch = one_batch(write_jsonl(tmp_path / name, RECORDS), ALL)
    assert batch.texts == ["first", None, "third, with ümlaut"]
    assert batch.ids == ["a", "b", "c"]
    assert batch.metadata[0] == {"topic": "x", "year": 2020}
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert (batch.first_line, len(batch)) == (1, 3)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json(tmp_path, name):
    path = tmp_path / name
    data = json.dumps(RECORDS, indent=1).encode()
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    batch = one_batch(path, ALL)
    assert (batch.ids, batch.texts[1], batch.first_line) == (["a", "b", "c"], None, 1)


def test_batches_know_where_they_begin(tmp_path):
    lines = [json.dumps({"text": str(i)}) + "\n" for i in range(5)]
    lines.insert(2, "\n")  # blank lines count as lines and are no records
    (tmp_path / "a.jsonl").write_text("".join(lines))
    found = list(read_batches(tmp_path / "a.jsonl", Columns(text="text"), batch_rows=2))
    assert [batch.texts for batch in found] == [["0", "1"], ["2", "3"], ["4"]]
    assert [batch.first_line for batch in found] == [1, 4, 6]
    assert found[0].ids is None
    assert found[0].metadata is None
    assert found[0].vectors is None


def test_csv_values_are_strings_and_quotes_span_lines(tmp_path):
    text = '\ufeffid,text,year\n7,"two\nlines, one ""cell""",2020\n8,,2021\n'
    (tmp_path / "a.csv").write_text(text)
    path = tmp_path / "a.csv"
    first, second = read_batches(path, Columns(text="text", id="id", metadata=("year",)), 1)
    assert (first.ids, first.metadata) == (["7"], [{"year": "2020"}])
    assert first.texts == ['two\nlines, one "cell"']
    assert (second.texts, second.first_line) == ([""], 4)


def test_tsv_with_crlf_and_vectors_as_json(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"id\tvec\r\nx\t[1, 2.5]\r\ny\t[3, 4]\r\n")
    batch = one_batch(tmp_path / "a.tsv", Columns(id="id", vector="vec"))
    assert batch.ids == ["x", "y"]
    assert batch.vectors.tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize(
    "vector_type", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.float16())]
)
def test_parquet(tmp_path, vector_type):
    table = pa.Table.from_pylist(RECORDS)
    vectors = pa.array(
        [np.array(r["vec"], vector_type.value_type.to_pandas_dtype()) for r in RECORDS]
    )
    table = table.set_column(4, "vec", vectors.cast(vector_type))
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read_batches(tmp_path / "a.parquet", ALL, batch_rows=2)
    assert first.texts == ["first", None]
    assert second.texts == ["third, with ümlaut"]
    assert first.metadata == [{"topic": "x", "year": 2020}, {"topic": "y", "year": 2021}]
    assert first.vectors.dtype == np.float32
    assert first.vectors.tolist() == [[1, 0], [0, 1]]
    assert (first.first_line, second.first_line) == (0, 2)


def test_parquet_nulls_are_absent_and_dates_are_datetimes(tmp_path):
    day = datetime(2024, 2, 29)
    table = pa.table({"text": ["a", "b"], "day": pa.array([day.date(), None])})
    pq.write_table(table, tmp_path / "a.parquet")
    batch = one_batch(tmp_path / "a.parquet", Columns(text="text", metadata=("day",)))
    assert batch.metadata == [{"day": day}, {}]


def test_npy_is_sliced_and_numbered(tmp_path):
    rows = np.arange(10, dtype=np.float16).reshape(5, 2)
    np.save(tmp_path / "a.npy", rows)
    found = list(read_batches(tmp_path / "a.npy", Columns(id="row"), batch_rows=2))
    assert [batch.ids for batch in found] == [[0, 1], [2, 3], [4]]
    assert [batch.first_line for batch in found] == [0, 2, 4]
    assert found[0].vectors.dtype == np.float32
    assert np.array_equal(np.concatenate([batch.vectors for batch in found]), rows)
    assert next(read_batches(tmp_path / "a.npy")).ids is None


def test_missing_metadata_key_is_absent_and_null_stays(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"text": "y", "tag": None}])
    assert one_batch(path, Columns(text="text", metadata=("tag",))).metadata == [{}, {"tag": None}]


def test_an_object_is_spread(tmp_path):
    records = [{"id": 1, "meta": {"a": 1}}, {"id": 2, "meta": '{"b": 2}'}, {"id": 3, "meta": None}]
    path = write_jsonl(tmp_path / "a.jsonl", records)
    batch = one_batch(path, Columns(id="id", metadata=("meta.*",)))
    assert batch.metadata == [{"a": 1}, {"b": 2}, {}]
    path = write_jsonl(tmp_path / "b.jsonl", [{"id": 1, "meta": 5}])
    with pytest.raises(InputError, match=r"b\.jsonl, line 1: column 'meta' must hold an object"):
        one_batch(path, Columns(id="id", metadata=("meta.*",)))


def test_csv_holds_long_texts(tmp_path):
    text = "long " * 100_000
    (tmp_path / "a.csv").write_text(f"id,text\n1,{text}\n2,short\n")
    (batch,) = read_batches(tmp_path / "a.csv", Columns(text="text"))
    assert batch.texts == [text, "short"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
@pytest.mark.parametrize(
    "columns",
    [Columns(text="body"), Columns(id="body"), Columns(text="text", metadata=("body",))],
    ids=["text", "id", "metadata"],
)
def test_a_column_that_does_not_exist(tmp_path, name, columns):
    path, records = tmp_path / name, [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]
    if name == "a.jsonl":
        write_jsonl(path, records)
    elif name == "a.json":
        path.write_text(json.dumps(records))
    elif name == "a.csv":
        path.write_text("id,text\n1,x\n2,y\n")
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
    with pytest.raises(
        InputError, match=r"there is no column 'body'; there is: id, text$"
    ) as caught:
        list(read_batches(path, columns))
    assert str(caught.value).startswith(str(path))


def test_a_metadata_column_is_missed_before_anything_is_yielded(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": str(i)} for i in range(100)])
    stream = read_batches(path, Columns(text="text", metadata=("tag",)), batch_rows=1)
    with pytest.raises(InputError, match="no column 'tag'"):
        next(stream)


def test_npy_has_only_rows(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    with pytest.raises(InputError, match="no column 'text'; there is: row, vector"):
        list(read_batches(tmp_path / "a.npy", Columns(text="text")))
    with pytest.raises(InputError, match="no column 'id'; there is: row, vector"):
        list(read_batches(tmp_path / "a.npy", Columns(id="id")))


GOOD = '{"id": "a", "text": "x", "vec": [1, 2]}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "text"\n', "not JSON"),
        ("[1, 2]\n", "expected a JSON object, not a list"),
        ('{"id": "b"}\n', "there is no column 'text'; there is: id"),
        ('{"id": 5, "text": "y", "vec": [1, 2]}\n', "the id 5 is an integer, but .* a string"),
        ('{"id": null, "text": "y", "vec": [1, 2]}\n', "the id must be a string or an integer"),
        ('{"id": true, "text": "y", "vec": [1, 2]}\n', "the id must be .* not True"),
        ('{"id": 1.5, "text": "y", "vec": [1, 2]}\n', "the id must be .* not 1.5"),
        ('{"id": "b", "text": 5, "vec": [1, 2]}\n', "the text must be a string, not 5"),
        ('{"id": "b", "text": "y", "vec": [1, 2, 3]}\n', "has dimension 3, those before it have 2"),
        ('{"id": "b", "text": "y", "vec": [1, "2"]}\n', "must be a list of numbers"),
        ('{"id": "b", "text": "y", "vec": [[1], [2, 3]]}\n', "must be a list of numbers"),
        ('{"id": "b", "text": "y", "vec": null}\n', "must be a list of numbers, not null"),
        ('{"id": "b", "text": "y", "vec": []}\n', "must be a list of numbers"),
        ("[" * 100_000 + "\n", "not JSON"),
        ("1" * 5000 + "\n", "not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(GOOD + "\n" + line)
    columns = Columns(text="text", id="id", vector="vec")
    with pytest.raises(InputError, match=rf"a\.jsonl, line 3: .*{message}"):
        list(read_batches(tmp_path / "a.jsonl", columns))


def test_batches_before_a_bad_line_are_yielded(tmp_path):
    (tmp_path / "a.jsonl").write_text(GOOD + GOOD + "nonsense\n")
    stream = read_batches(tmp_path / "a.jsonl", Columns(text="text"), batch_rows=2)
    assert next(stream).texts == ["x", "x"]
    with pytest.raises(InputError, match="line 3"):
        next(stream)


def test_mixed_ids_are_found_across_batches(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"id": 1}, {"id": 2}, {"id": "3"}])
    with pytest.raises(InputError, match=r"line 3: the id '3' is a string, .* an integer"):
        list(read_batches(path, Columns(id="id"), batch_rows=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\n1,x\n2,y,z\n", "line 3: 3 fields, but the header has 2"),
        ('id,text\n1,"x\n2,y\n', "line 2: not CSV: unexpected end of data"),
        ("id,id,text\n1,2,x\n", "there is more than one column 'id'"),
        ("", "empty; expected a header row"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_batches(tmp_path / "a.csv", Columns(text="text", id="id")))


@pytest.mark.parametrize(
    ("data", "row"), [([[1, 2], None], 1), ([[1, 2], [1]], 1), ([[], [1, 2]], 0)]
)
def test_bad_parquet_vectors(tmp_path, data, row):
    pq.write_table(pa.table({"v": pa.array(data, pa.list_(pa.float32()))}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet, row {row}: the vector"):
        list(read_batches(tmp_path / "a.parquet", Columns(vector="v")))


@pytest.mark.parametrize(
    ("column", "message"),
    [(["a"], "not JSON: 'a'"), ([["a"]], "must be a list of numbers, not"), ([1], "not 1")],
)
def test_parquet_vectors_must_be_lists_of_numbers(tmp_path, column, message):
    pq.write_table(pa.table({"v": column}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet, row 0: .*{message}"):
        list(read_batches(tmp_path / "a.parquet", Columns(vector="v")))


def test_files_that_are_not_what_their_suffix_says(tmp_path):
    for name in ("a.parquet", "a.npy", "a.jsonl.gz", "a.json"):
        (tmp_path / name).write_text("nonsense")
        with pytest.raises(InputError, match=r"not (Parquet|an array|gzip|JSON)"):
            list(read_batches(tmp_path / name, Columns(vector="vector")))
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    (tmp_path / "a.npz").rename(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.ones(3))
    np.save(tmp_path / "d.npy", np.array([["a"]]))
    for name in ("b.npy", "c.npy", "d.npy"):
        with pytest.raises(InputError, match="expected numbers of shape"):
            list(read_batches(tmp_path / name))


def test_a_cut_gzip_and_bytes_that_are_not_utf8(tmp_path):
    data = gzip.compress(b"".join(b'{"text": "%d"}\n' % i for i in range(5000)))
    (tmp_path / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz, after line \d+: not gzip"):
        list(read_batches(tmp_path / "a.jsonl.gz", Columns(text="text")))
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n{"text": "\xff"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: not UTF-8"):
        list(read_batches(tmp_path / "a.jsonl", Columns(text="text")))


def test_asking_wrongly(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", RECORDS)
    with pytest.raises(InputError, match="no column was asked for; there is: id, text, topic"):
        read_batches(path, Columns())
    with pytest.raises(InputError, match=r"unknown suffix; expected one of \.jsonl"):
        read_batches(tmp_path / "a.xlsx", ALL)
    with pytest.raises(InputError, match="batch_rows"):
        read_batches(path, ALL, batch_rows=0)
    with pytest.raises(FileNotFoundError):
        list(read_batches(tmp_path / "gone.jsonl", ALL))
    with pytest.raises(FileNotFoundError):
        list(read_batches(tmp_path / "gone.parquet", ALL))


def test_pyarrow_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vecindex\[arrow\]'"):
        list(read_batches(tmp_path / "a.parquet", ALL))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.npy"])
def test_column_names(tmp_path, name):
    path = tmp_path / name
    if name == "a.jsonl":
        write_jsonl(path, RECORDS)
    elif name == "a.json":
        path.write_text(json.dumps(RECORDS))
    elif name == "a.csv":
        path.write_text("id,text,topic,year,vec\n")
    elif name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    else:
        np.save(path, np.ones((1, 2)))
    expected = ["row", "vector"] if name == "a.npy" else ["id", "text", "topic", "year", "vec"]
    assert column_names(path) == expected


def test_empty_files_hold_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "a.csv").write_text("text,tag\n")
    np.save(tmp_path / "a.npy", np.empty((0, 3)))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        assert list(read_batches(tmp_path / name, Columns(text="text"))) == []
    assert list(read_batches(tmp_path / "a.npy")) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "a.npy"])
def test_a_large_file_is_never_in_memory(tmp_path, name):
    path, size = tmp_path / name, 20_000_000
    rng = np.random.default_rng(0)
    texts = [rng.bytes(500).hex() for _ in range(size // 1000)]
    if name == "a.csv":
        path.write_text("text\n" + "\n".join(texts))
    elif name == "a.parquet":
        pq.write_table(pa.table({"text": texts}), path, row_group_size=500)
    elif name == "a.npy":
        np.save(path, rng.random((size // 4000, 1000), dtype=np.float32))
    else:
        write_jsonl(path, [{"text": text} for text in texts])
    del texts
    columns = Columns() if name == "a.npy" else Columns(text="text")
    tracemalloc.start()
    rows = arrow_peak = 0
    for batch in read_batches(path, columns, batch_rows=100):
        rows += len(batch)
        arrow_peak = max(arrow_peak, pa.total_allocated_bytes())  # not seen by tracemalloc
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == (5000 if name == "a.npy" else 20_000)
    assert peak < 4_000_000
    assert arrow_peak < 4_000_000
