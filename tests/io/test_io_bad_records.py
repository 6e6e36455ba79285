"""What cannot be read is left out and counted, if that is asked for; else it stops the reading."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecindex.errors import InputError
from vecindex.io import Columns, Skipped, read_batches

ALL = Columns(text="text", id="id", vector="vec", metadata=("tag",))


def record(number, **changes):
    return {"id": number, "text": f"t{number}", "vec": [1, number], "tag": "x"} | changes


BAD = {
    "text": 5,
    "vec": [1, 2, 3],
    "id": None,
    "tag": 2**70,
}


def places(skipped):
    return [str(error).partition(":")[0].split(", ")[-1] for error in skipped.errors]


def test_jsonl(tmp_path):
    lines = [json.dumps(record(1))]
    lines += [json.dumps(record(2, **{name: value})) for name, value in BAD.items()]
    lines += ["nonsense", "[1]", "", json.dumps(record("3")), json.dumps({"id": 4, "text": "t4"})]
    lines += ['{"id": 5, "text": "\\ud800", "vec": [1, 2]}', json.dumps(record(6))]
    data = "\n".join(lines).encode() + b'\n{"text": "\xff"}\n' + json.dumps(record(7)).encode()
    (tmp_path / "a.jsonl").write_bytes(data)
    skipped = Skipped(keep=20)
    found = list(read_batches(tmp_path / "a.jsonl", ALL, 4, skip_bad=skipped))
    assert [batch.ids for batch in found] == [[1], [6, 7]]
    assert [batch.numbers for batch in found] == [[1], [12, 14]]
    assert np.concatenate([batch.vectors for batch in found]).tolist() == [[1, 1], [1, 6], [1, 7]]
    assert found[1].metadata == [{"tag": "x"}, {"tag": "x"}]
    lines = sorted(int(place.removeprefix("line ")) for place in places(skipped))
    assert lines == [2, 3, 4, 5, 6, 7, 9, 10, 11, 13]
    assert skipped.count == 10
    with pytest.raises(InputError, match="line 2: the text must be a string, not 5"):
        list(read_batches(tmp_path / "a.jsonl", ALL, 1))


def test_a_record_that_is_left_out_says_nothing_about_those_after_it():
    records = [
        {"id": "1", "text": "x", "vec": [1, 2, 3], "tag": {1}},
        {"id": 2, "text": "x", "vec": [1, 2]},
    ]
    (batch,) = read_batches(records, ALL, skip_bad=Skipped())
    assert batch.ids == [2]


def test_csv(tmp_path):
    text = b'id,text,tag\n1,a,x\n2,b\n3,"two\nlines",x\n4,c,x,y\n5,\xff,x\n6,"open"x,x\n7,d,x\n'
    (tmp_path / "a.csv").write_bytes(text)
    skipped = Skipped()
    (batch,) = read_batches(tmp_path / "a.csv", Columns("text", "id", ("tag",)), skip_bad=skipped)
    assert batch.ids == ["1", "3", "7"]
    assert batch.numbers == [2, 4, 9]
    assert places(skipped) == ["line 3", "line 6", "line 7", "line 8"]
    assert "2 fields, but the header has 3" in str(skipped.errors[0])


def test_a_csv_that_never_ends_its_quotes_ends(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,a\n2,"b\n3,c\n')
    skipped = Skipped()
    (batch,) = read_batches(tmp_path / "a.csv", skip_bad=skipped)
    assert (batch.ids, places(skipped)) == (["1"], ["line 3"])


def test_json_list(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([record(1), 5, record(2, text=5), record(3)]))
    skipped = Skipped()
    (batch,) = read_batches(tmp_path / "a.json", ALL, skip_bad=skipped)
    assert (batch.ids, batch.numbers) == ([1, 3], [1, 4])
    assert places(skipped) == ["record 2", "record 3"]


@pytest.mark.parametrize("stored", ["parquet", "table"])
def test_tables(tmp_path, stored):
    vectors = [[1, 0], None, [1, 2, 3], [1, None], [0, 0], [float("nan"), 1], [1, 6], [1, 7]]
    ids = [*range(6), None, 7]
    table = pa.table({"id": ids, "vec": pa.array(vectors, pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "a.parquet")
    source = table if stored == "table" else tmp_path / "a.parquet"
    skipped = Skipped()
    found = list(read_batches(source, Columns(id="id", vector="vec"), 3, skip_bad=skipped))
    assert [batch.ids for batch in found] == [[0], [7]]
    assert [batch.vectors.tolist() for batch in found] == [[[1, 0]], [[1, 7]]]
    assert places(skipped) == [f"row {row}" for row in range(1, 7)]


def test_an_array(tmp_path):
    rows = np.eye(4)
    rows[1] = 0
    np.save(tmp_path / "a.npy", rows)
    skipped = Skipped()
    (batch,) = read_batches(tmp_path / "a.npy", Columns(id="row"), skip_bad=skipped)
    assert (batch.ids, batch.vectors.tolist()) == ([0, 2, 3], rows[[0, 2, 3]].tolist())
    assert places(skipped) == ["row 1"]


def test_a_wrong_column_is_no_bad_record(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    for source in (tmp_path / "a.csv", pa.table({"id": ["1"], "text": ["a"]})):
        with pytest.raises(InputError, match="there is no column 'tag'"):
            list(read_batches(source, Columns("text", "id", ("tag",)), skip_bad=Skipped()))


def test_only_the_first_errors_are_kept():
    skipped = Skipped(keep=2)
    records = ({"text": number} for number in range(1000))
    assert list(read_batches(records, Columns(text="text"), skip_bad=skipped)) == []
    assert (skipped.count, places(skipped)) == (1000, ["row 0", "row 1"])
