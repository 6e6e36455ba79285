"""`build` and `add`: what gets in, and what an error or Ctrl-C leaves behind."""

import json
from pathlib import Path

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.cli import build
from vecindex.embed import FunctionEmbedder

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
    assert added == {"path": "a.vx", "added": 1, "rows": 1501, "tail": 1, "notes": []}
    np.save("q.npy", np.eye(8)[0])
    hits = run_json("search", "a.vx", "--vector", "q.npy", "-k", 1)["hits"]
    assert hits == [{"id": 9000, "score": pytest.approx(1.0), "text": None, "metadata": None}]


def test_an_existing_index_is_updated(run, run_json, kb, faq):
    same = (*COLUMNS, *WORDS, "--metadata", "topic,year")
    out = run("build", faq, "--out", kb, *same).stdout
    assert out.splitlines()[1] == "4 unchanged"
    lines = faq.read_text().splitlines()
    faq.write_text("\n".join([lines[0].replace("lost", "stolen"), *lines[2:], "nonsense"]))
    built = run_json("build", faq, "--out", kb, *same, "--skip-bad")
    counts = ("rows", "added", "changed", "unchanged", "removed", "skipped", "embedded")
    assert [built[name] for name in counts] == [4, 0, 1, 2, 0, 1, 1]
    refused = run("build", faq, "--out", kb, *same, "--skip-bad", "--prune", code=1).stderr
    assert "1 records cannot be read, so it is not known which are gone" in refused
    faq.write_text("\n".join(faq.read_text().splitlines()[:-1]))
    out = run("build", faq, "--out", kb, *same, "--prune").stdout
    assert out.splitlines()[1] == "3 unchanged, 1 removed"
    assert names() == ["faq.jsonl", "kb.vx"]


def test_what_is_no_index_is_not_touched(run, faq):
    Path("other.vx").mkdir()
    result = run("build", faq, "--out", "other.vx", *COLUMNS, *WORDS, code=1)
    assert "other.vx exists and is not an index; choose another path" in result.stderr
    assert list(Path("other.vx").iterdir()) == []
    Path("link.vx").symlink_to("nothing")
    result = run("build", faq, "--out", "link.vx", *COLUMNS, *WORDS, code=1)
    assert "link.vx exists and is not an index" in result.stderr


def test_a_plan_builds_nothing(run, run_json, faq):
    options = ("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS)
    planned = run_json(*options, "--plan")
    assert (planned["records"], planned["added"], planned["to_embed"]) == (4, 4, 4)
    lines = run(*options, "--plan").stdout.splitlines()
    assert lines[:3] == [
        "records   4", "rows      4 new, 0 changed, 0 unchanged", "to embed  4 texts",
    ]  # fmt: skip
    assert lines[-1] == "nothing was built; without --plan this makes or updates kb.vx"
    assert names() == ["faq.jsonl"]


def test_a_cache_and_passages(run, run_json, faq):
    options = (*COLUMNS, *WORDS, "--chunk", 3, "--overlap", 1, "--cache", "cache")
    built = run_json("build", faq, "--out", "a.vx", *options)
    assert (built["cache_hits"], built["cache_misses"]) == (0, built["rows"])
    (record,) = run_json("get", "a.vx", "card#1")["records"]
    assert record == {"id": "card#1", "text": "replace a lost", "metadata": {"parent": "card"}}
    out = run("build", faq, "--out", "b.vx", *options).stdout.splitlines()
    assert out[1] == f"{built['rows']} of {built['rows']} texts from the cache"
    assert names() == ["a.vx", "b.vx", "cache", "faq.jsonl"]


@pytest.mark.parametrize("moment", ["add", "optimize"])
def test_a_build_that_is_interrupted_goes_on(run, run_json, faq, monkeypatch, moment):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    real, calls = VectorIndex.add, []

    def add(self, **columns):
        calls.append(1)
        return interrupted() if len(calls) == 2 else real(self, **columns)

    options = (*COLUMNS, *WORDS, "--batch-rows", 3)
    with monkeypatch.context() as patch:
        patch.setattr(VectorIndex, moment, add if moment == "add" else interrupted)
        patch.setattr("sys.argv", ["/bin/vecindex", "build", "my faq.jsonl"])
        result = run("build", faq, "--out", "kb.vx", *options, code=130)
    rows = 3 if moment == "add" else 4
    assert result.stderr == (
        f"vecindex: interrupted\nvecindex: kb.vx.partial holds {rows} rows, all of them whole; "
        "the same build goes on from there\n"
        "vecindex: to go on, type: vecindex build 'my faq.jsonl'\n"
    )
    assert names() == ["faq.jsonl", "kb.vx.partial"]
    built = run_json("build", faq, "--out", "kb.vx", *options)
    assert (built["rows"], built["unchanged"], built["embedded"]) == (4, rows, 4 - rows)
    assert names() == ["faq.jsonl", "kb.vx"]


def test_a_build_that_was_killed_before_the_first_row(run_json, faq, monkeypatch):
    VectorIndex.create("kb.vx.partial").close()
    monkeypatch.setattr(build, "DEFAULT_EMBEDDER", "words:bag")
    assert run_json("build", faq, "--out", "kb.vx", *COLUMNS)["rows"] == 4


def test_a_build_that_fails_at_once_leaves_nothing(run, faq):
    Path("bad.jsonl").write_text('{"text": 5}\n')
    run("build", "bad.jsonl", "--out", "kb.vx", "--text", "text", *WORDS, code=1)
    run("build", faq, "--out", "kb.vx", "--text", "nope", *WORDS, code=1)
    run("build", faq, "--out", "kb.vx", "--text", "text", "--embedder", "nope:x", code=1)
    Path("empty.jsonl").write_text("")
    result = run("build", "empty.jsonl", "--out", "kb.vx", "--text", "text", *WORDS, code=1)
    assert result.stderr.startswith("vecindex: empty.jsonl: it has no records")
    assert names() == ["bad.jsonl", "empty.jsonl", "faq.jsonl"]


def test_twins_are_placed_in_their_files(run, faq):
    with faq.open("a") as file:
        file.write('{"id": "card", "text": "again"}\n')
    result = run("build", faq, "--out", "kb.vx", *COLUMNS, *WORDS, code=1)
    assert f"the id 'card' occurs twice: in {faq}, line 1, and in {faq}, line 5" in result.stderr
    assert names() == ["faq.jsonl"]


def test_plain_columns_are_found_and_others_must_be_named(run, run_json, faq):
    built = run_json("build", faq, "--out", "kb.vx", *WORDS)
    assert (built["rows"], built["embedded"]) == (4, 4)
    assert run_json("get", "kb.vx", "card")["records"][0]["metadata"] is None
    Path("odd.jsonl").write_text('{"a": "x", "b": "y"}\n')
    result = run("build", "odd.jsonl", "--out", "odd.vx", code=1)
    assert "no column is plainly the texts or the vectors" in result.stderr
    assert "there is: a, b" in result.stderr
    assert names() == ["faq.jsonl", "kb.vx", "odd.jsonl"]


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


def test_add_says_what_the_model_cut(run, kb, monkeypatch):
    monkeypatch.setattr(FunctionEmbedder, "truncated", 0, raising=False)
    real = FunctionEmbedder.embed_documents

    def cutting(self, texts, **options):
        self.truncated += sum(len(text) > 20 for text in texts)
        return real(self, texts, **options)

    monkeypatch.setattr(FunctionEmbedder, "embed_documents", cutting)
    Path("more.jsonl").write_text(json.dumps({"id": "a", "text": "word " * 9}) + "\n")
    lines = run("add", kb, "more.jsonl", *WORDS).stdout.splitlines()
    assert lines[0] == "1 row added: kb.vx has 5 rows now"
    assert lines[1].startswith("note: 1 text was longer than function:bag reads")


def test_add_takes_a_split(run, run_json, kb):
    datasets = pytest.importorskip("datasets")
    parts = {name: datasets.Dataset.from_dict({"id": [name], "text": ["x"]}) for name in ("a", "b")}
    datasets.DatasetDict(parts).save_to_disk("saved")
    assert "say which split" in run("add", kb, "saved", *WORDS, code=1).stderr
    run("add", kb, "saved", *WORDS, "--split", "b")
    assert run_json("get", kb, "b")["records"][0]["text"] == "x"
    assert run_json("info", kb)["rows"] == 5


def test_upsert_needs_ids(run, kb):
    Path("bare.jsonl").write_text('{"text": "x"}\n')
    assert "--id" in run("add", kb, "bare.jsonl", "--upsert", code=2).stderr


def test_what_was_exported_builds_again(run, run_json, kb):
    run("export", kb, "out.jsonl")
    options = ("--text", "text", "--id", "id", "--metadata", "metadata.*")
    run("build", "out.jsonl", "--out", "again.vx", *WORDS, *options)
    ids = ("card", "cost", "late", "help")
    assert run_json("get", "again.vx", *ids) == run_json("get", kb, *ids)
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert lines == run_json("get", kb, *ids)["records"]
