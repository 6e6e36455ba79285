"""`build` and `add`: what gets in, and what an error or Ctrl-C leaves behind."""

import json
from pathlib import Path

import numpy as np
import pytest

from vecindex import VectorIndex

WORDS = ("--embedder", "words:bag")
COLUMNS = ("--text", "text", "--id", "id")


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_build_and_search(run, run_json, faq):
    built = run_json("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS, "--batch-rows", 3)
    assert (built["path"], built["rows"], built["structure"]) == ("kb.vx", 4, "flat")
    assert built["seconds"] > 0
    assert names() == ["faq.jsonl", "kb.vx"]
    hits = run_json("search", "kb.vx", "lost card", *WORDS, "-k", 2)["hits"]
    assert [hit["id"] for hit in hits][:1] == ["card"]
    assert len(hits) == 2


def test_build_says_what_it_made(run, faq):
    out = run("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS).stdout
    assert out.startswith("kb.vx: 4 rows, flat, ")
    assert len(out.splitlines()) == 1


def test_metadata_is_comma_separated_and_repeatable(run, run_json, faq):
    options = ("--metadata", "topic, year", "--metadata", "id")
    run("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS, *options)
    (record,) = run_json("get", "kb.vx", "late")["records"]
    assert record == {
        "id": "late",
        "text": "penalties for signing up late",
        "metadata": {"topic": "money", "year": 2022, "id": "late"},
    }


def test_several_sources_of_vectors_and_a_structure(run, run_json):
    rng = np.random.default_rng(0)
    np.save("a.npy", rng.normal(size=(1500, 8)).astype(np.float16))
    Path("b.jsonl").write_text('{"id": 9000, "v": [1, 0, 0, 0, 0, 0, 0, 0]}\n')
    run("build", "a.npy", "--out", "a.vx", "--id", "row", "--spec", "ivf", "--target-recall", 0.9)
    info = run_json("info", "a.vx")
    assert (info["rows"], info["structure"], info["target_recall"]) == (1500, "ivf", 0.9)
    added = run_json("add", "a.vx", "b.jsonl", "--id", "id", "--vector", "v")
    assert added == {"path": "a.vx", "added": 1, "rows": 1501, "tail": 1}
    np.save("q.npy", np.eye(8)[0])
    hits = run_json("search", "a.vx", "--vector", "q.npy", "-k", 1)["hits"]
    assert hits == [{"id": 9000, "score": pytest.approx(1.0), "text": None, "metadata": None}]


def test_an_existing_index_is_not_overwritten(run, kb, faq):
    before = run("get", kb, "card").stdout
    result = run("build", faq, "--out", kb, *COLUMNS, *WORDS, code=1)
    assert result.stderr == "vecindex: kb.vx exists; remove it, or choose another --out\n"
    assert run("get", kb, "card").stdout == before
    Path("other.vx").mkdir()
    run("build", faq, "--out", "other.vx", *COLUMNS, *WORDS, code=1)


def test_a_build_that_fails_halfway_says_what_to_do(run, faq):
    with faq.open("a") as file:
        file.write("nonsense\n")
    result = run("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS, "--batch-rows", 3, code=1)
    first, second = result.stderr.splitlines()
    assert first == f"vecindex: {faq}, line 5: not JSON: Expecting value: line 1 column 1 (char 0)"
    assert second == (
        "vecindex: kb.vx.partial holds the first 3 rows, unfinished; "
        "to start again: rm -r kb.vx.partial, then the same command"
    )
    assert names() == ["faq.jsonl", "kb.vx.partial"]
    again = run("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS, code=1)
    assert "kb.vx.partial is left from a build that did not finish; to start again" in again.stderr


@pytest.mark.parametrize("moment", ["add", "optimize"])
def test_a_build_that_is_interrupted_says_what_to_do(run, faq, monkeypatch, moment):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    real, calls = VectorIndex.add, []

    def add(self, **columns):
        calls.append(1)
        return interrupted() if len(calls) == 2 else real(self, **columns)

    if moment == "add":
        monkeypatch.setattr(VectorIndex, "add", add)
    else:
        monkeypatch.setattr(VectorIndex, "optimize", interrupted)
    result = run("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS, "--batch-rows", 3, code=130)
    rows = 3 if moment == "add" else 4
    assert result.stderr.startswith(
        f"vecindex: interrupted\nvecindex: kb.vx.partial holds the first {rows} rows, unfinished"
    )
    assert names() == ["faq.jsonl", "kb.vx.partial"]


def test_a_build_that_fails_at_once_leaves_nothing(run, faq):
    Path("bad.jsonl").write_text('{"text": 5}\n')
    run("build", "bad.jsonl", "--out", "kb.vx", "--text", "text", *WORDS, code=1)
    run("build", faq, "--out", "kb.vx", "--text", "nope", *WORDS, code=1)
    run("build", faq, "--out", "kb.vx", "--text", "text", "--embedder", "nope:x", code=1)
    Path("empty.jsonl").write_text("")
    result = run("build", "empty.jsonl", "--out", "kb.vx", "--text", "text", *WORDS, code=1)
    assert result.stderr == "vecindex: no records in empty.jsonl: there is nothing to build\n"
    assert names() == ["bad.jsonl", "empty.jsonl", "faq.jsonl"]


def test_a_bad_row_is_placed_in_its_file(run, faq):
    with faq.open("a") as file:
        file.write('{"id": "card", "text": "again"}\n')
    options = (*COLUMNS, *WORDS, "--batch-rows", 2)
    result = run("build", faq, "--out", "kb.vx", *options, code=1)
    assert "the index has these ids already: 'card' (row 0)" in result.stderr
    assert (
        f"rows are counted from 0 in a batch of 1 record, which begins at line 5 of {faq}"
        in result.stderr
    )


def test_neither_texts_nor_vectors(run, faq):
    result = run("build", faq, "--out", "kb.vx", code=2)
    words = " ".join(result.stderr.split())
    assert "say which column holds the texts (--text) or the vectors (--vector)" in words
    assert "id, text, topic, year" in words
    assert names() == ["faq.jsonl"]


def test_add_reports_what_stays(run, run_json, kb):
    Path("more.jsonl").write_text(
        '{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n{"id": "c"}\n'
    )
    result = run("add", kb, "more.jsonl", *COLUMNS, *WORDS, "--batch-rows", 2, code=1)
    assert "more.jsonl, line 3: there is no column 'text'; there is: id" in result.stderr
    assert "vecindex: 2 rows added before that; they stay\n" in result.stderr
    assert run_json("info", kb)["rows"] == 6
    Path("more.jsonl").write_text('{"id": "a", "text": "new"}\n{"id": "c", "text": "z"}\n')
    run("add", kb, "more.jsonl", *COLUMNS, *WORDS, code=1)
    result = run("add", kb, "more.jsonl", *COLUMNS, *WORDS, "--upsert")
    assert result.stdout == "2 rows put in: kb.vx has 7 rows now\n"
    assert [r["text"] for r in run_json("get", kb, "a", "c")["records"]] == ["new", "z"]


def test_upsert_needs_ids(run, kb, faq):
    assert "--id" in run("add", kb, faq, "--text", "text", "--upsert", code=2).stderr


def test_what_was_exported_builds_again(run, run_json, kb):
    run("export", kb, "out.jsonl")
    options = ("--text", "text", "--id", "id", "--metadata", "metadata.*")
    run("build", "out.jsonl", "--out", "again.vx", *WORDS, *options)
    ids = ("card", "cost", "late", "help")
    assert run_json("get", "again.vx", *ids) == run_json("get", kb, *ids)
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert lines == run_json("get", kb, *ids)["records"]
