"""Columns found by their plain names, named otherwise, and vectors over several columns."""

import numpy as np
import pandas as pd
import pytest

from vecindex.errors import DimensionError, InputError
from vecindex.io import Columns, Skipped, column_names, find_columns, read_batches


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["doc_id", "Text", "year"], Columns(text="Text", id="doc_id")),
        (["ID", "body", "Embedding"], Columns(text="body", id="ID", vector="Embedding")),
        (["content", "text", "_id", "id"], Columns(text="text", id="id")),  # the plainest wins
        (["2", "0", "1"], Columns(vector="*")),
        (["", "0", "1", "question"], Columns(text="question", vector="*")),
        (["0", "text"], Columns(text="text")),  # a single column called 0 may hold anything
        (["00", "01", "text"], Columns(text="text")),
    ],
)
def test_plain_names_are_found(names, expected):
    assert find_columns(names) == expected


def test_what_is_named_is_taken_and_what_is_false_is_not():
    names = ["a", "text", "id", "embedding", "year"]
    assert find_columns(names, text="a") == Columns(text="a", id="id")  # these are to be embedded
    assert find_columns(names, text="a", vector="embedding").vector == "embedding"
    assert find_columns(names, vector="embedding", text=False, id=False) == Columns(
        vector="embedding"
    )
    assert find_columns(names, vector=False) == Columns(text="text", id="id")
    assert find_columns(names, metadata="year").metadata == ("year",)
    assert find_columns(names, metadata=["year", "later"]).metadata == ("year", "later")


@pytest.mark.parametrize(
    ("names", "named", "message"),
    [
        (["Id", "tex"], {}, r"no column is plainly .* \(text or vector\); there is: Id, tex$"),
        (["body", "content"], {}, "any of 'body', 'content'; name it, as in text='body'"),
        (["text", "Text"], {"id": False}, "the text column may be any of 'text', 'Text'"),
        (["text", "uuid", "uid"], {}, "the id column may be any of 'uuid', 'uid'"),
        (
            ["id", "Title"],
            {"text": "titel"},
            r"'titel' \(did you mean 'Title'\?\); there is: id, T",
        ),
        (["text"], {"vector": "v"}, "there is no column 'v'; there is: text"),
        (["text"], {"vector": "*"}, "there is no column '0'; there is: text"),
        (["0", "1", "3"], {}, "the columns of a vector have a gap: there is '3', but no '2'"),
        (["e1", "e2"], {"vector": "e*"}, "there is 'e2', but no 'e0'"),
        (["text", "text"], {"text": "text"}, "more than one column 'text'"),
        (["text", "text"], {}, "more than one column 'text'"),
        ([], {}, "it has no records"),
    ],
)
def test_what_cannot_be_found_is_said(names, named, message):
    with pytest.raises(InputError, match=f"^the data: .*{message}"):
        find_columns(names, **named, source="the data")


def test_many_columns_are_not_all_listed():
    with pytest.raises(InputError, match=r"36, 37, 38, 39 and 344 more$"):
        find_columns(map(str, range(384)), text="body")


@pytest.mark.parametrize("index", [False, True])
def test_the_published_embeddings_csv(tmp_path, index):
    rows = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    pd.DataFrame(rows).to_csv(tmp_path / "embeddings.csv", index=index)
    names = column_names(tmp_path / "embeddings.csv")
    assert names == [""] * index + [str(i) for i in range(12)]
    first, second = read_batches(tmp_path / "embeddings.csv", batch_rows=3)
    assert np.array_equal(np.concatenate([first.vectors, second.vectors]), rows)
    assert (first.ids, first.texts, second.place(1)) == (
        None,
        None,
        f"{tmp_path / 'embeddings.csv'}, line 6",
    )


def test_columns_of_a_dimension_each_in_any_order():
    frame = pd.DataFrame({"e_1": [1.0], "text": ["x"], "e_0": [0], "e_2": [2], "e_x": ["no"]})
    columns = Columns(text="text", vector="e_*", metadata=("*",))
    for source in (frame, frame.to_dict("records")):
        (batch,) = read_batches(source, columns)
        assert batch.vectors.tolist() == [[0, 1, 2]]
        assert batch.metadata == [{"e_x": "no"}]


@pytest.mark.parametrize("kind", ["csv", "pandas", "dicts"])
def test_a_dimension_that_is_no_number_is_named(tmp_path, kind):
    frame = pd.DataFrame({"0": ["1", "1", "nan", "0", "9"], "1": ["2", "two", "1", "0", "8"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    source = {"csv": tmp_path / "a.csv", "pandas": frame, "dicts": frame.to_dict("records")}[kind]
    skipped = Skipped()
    (batch,) = read_batches(source, skip_bad=skipped)
    first = 2 if kind == "csv" else 0
    assert batch.vectors.tolist() == [[1, 2], [9, 8]]
    assert batch.numbers == [first, first + 4]
    name = tmp_path / "a.csv" if kind == "csv" else type(source).__name__
    unit = "line" if kind == "csv" else "row"
    assert [str(error) for error in skipped.errors] == [
        f"{name}, {unit} {first + 1}: column '1', one dimension of the vector, must hold a number, "
        "not 'two'",
        f"{name}, {unit} {first + 2}: the vector holds nan in dimension 0; expected numbers that "
        "float32 can hold",
        f"{name}, {unit} {first + 3}: the vector is all zeros and so has no direction",
    ]


def test_a_dict_with_one_dimension_more():
    records = [{"0": 1, "1": 2}, {"0": 1, "1": 2, "2": 3}]
    with pytest.raises(DimensionError, match="row 1: the vector has dimension 3, those before it"):
        list(read_batches(records))
