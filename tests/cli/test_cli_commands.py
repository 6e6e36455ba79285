"""The commands on a built index: what they print, what they change, what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from vecindex import VectorIndex

WORDS = ("--embedder", "words:bag")


def test_search_prints_score_id_and_text(run, kb):
    result = run("search", kb, "how to get help with the cost", *WORDS, "-k", 2)
    first, second = result.stdout.splitlines()
    assert first == "1.0000  help  how to get help with the cost"
    assert second.split()[1] in ("cost", "card")
    assert result.stderr == ""


def test_search_as_json(run_json, kb):
    document = run_json("search", kb, "the monthly cost", *WORDS, "-k", 1)
    assert list(document) == ["hits", "plan"]
    (hit,) = document["hits"]
    assert hit["id"] == "cost"
    assert hit["metadata"] == {"topic": "money", "year": 2021}
    assert 0.5 < hit["score"] < 1
    assert document["plan"].startswith("exact over 4 of 4 rows")


def test_search_options_reach_the_index(run_json, kb, monkeypatch):
    seen = {}
    real = VectorIndex.search

    def spy(self, query, k=10, **options):
        seen.update(options, k=k)
        return real(self, query, k, **{**options, "params": None})

    monkeypatch.setattr(VectorIndex, "search", spy)
    where = {"year": {"$gte": 2022}}
    options = ("-k", 3, "--exact", "--recall", 0.99, "--params", '{"ef_search": 9}')
    found = run_json("search", kb, "cost", *WORDS, "--where", json.dumps(where), *options)
    assert seen == {
        "k": 3, "where": where, "exact": True, "recall": 0.99, "params": {"ef_search": 9},
    }  # fmt: skip
    assert {hit["id"] for hit in found["hits"]} == {"late", "help"}


def test_search_with_a_vector(run, run_json, kb):
    with VectorIndex.open(kb) as index:
        vector = index.get(["late"], vectors=True)[0].vector
    for shape in ((-1,), (1, -1)):
        np.save("q.npy", vector.reshape(shape))
        assert run_json("search", kb, "--vector", "q.npy")["hits"][0]["id"] == "late"
    np.save("q.npy", np.stack([vector, vector]))
    assert "holds 2 vectors; expected one" in run("search", kb, "--vector", "q.npy", code=1).stderr
    np.save("q.npy", np.ones(3))
    assert "dimension 3" in run("search", kb, "--vector", "q.npy", code=1).stderr


def test_texts_cannot_steer_the_terminal(run):
    Path("a.jsonl").write_text(json.dumps({"text": "one\n\ttwo \x1b[31mred\x07", "id": "x\x1b[1m"}))
    run("build", "a.jsonl", "--out", "a.vx", "--text", "text", "--id", "id", *WORDS)
    for args in (("search", "a.vx", "one", *WORDS), ("get", "a.vx", "x\x1b[1m")):
        out = run(*args).stdout
        assert "one two \N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}" in out
        assert "\x1b" not in out
        assert "\x07" not in out


def test_get(run, run_json, kb):
    assert run("get", kb, "late", "card").stdout.splitlines() == [
        "id        late",
        "text      penalties for signing up late",
        'metadata  {"topic": "money", "year": 2022}',
        "",
        "id        card",
        "text      how to replace a lost card",
        'metadata  {"topic": "cards", "year": 2020}',
    ]
    records = run_json("get", kb, "late", "--vectors")["records"]
    assert np.linalg.norm(records[0]["vector"]) == pytest.approx(1)
    assert "vector" not in run_json("get", kb, "late")["records"][0]
    result = run("get", kb, "card", "nope", code=1)
    assert result.stdout == ""
    assert result.stderr == "vecindex: not in the index: 'nope'\n"


def test_ids_are_strings_first_and_integers_second(run, run_json):
    np.save("a.npy", np.eye(12))
    run("build", "a.npy", "--out", "a.vx", "--id", "row")
    Path("b.jsonl").write_text('{"id": "7", "v": [1,1,0,0,0,0,0,0,0,0,0,0]}\n')
    run("add", "a.vx", "b.jsonl", "--id", "id", "--vector", "v")
    Path("c.jsonl").write_text('{"id": -3, "v": [1,0,1,0,0,0,0,0,0,0,0,0]}\n')
    run("add", "a.vx", "c.jsonl", "--id", "id", "--vector", "v")
    records = run_json("get", "a.vx", "7", "8")["records"]
    assert [record["id"] for record in records] == ["7", 8]
    assert json.loads(run("get", "a.vx", "--json", "--", "-3").stdout)["records"][0]["id"] == -3
    for unknown in ("8.0", "1e0", "99", "9" * 30, "٨", "--", "1_0"):
        assert "not in the index" in run("get", "a.vx", "--", unknown, code=1).stderr
    assert run_json("remove", "a.vx", "7") == {"removed": 1, "rows": 13}
    assert run_json("remove", "a.vx", "7") == {"removed": 1, "rows": 12}
    assert run_json("remove", "a.vx", "7") == {"removed": 0, "rows": 12}


def test_remove(run, run_json, kb):
    assert run("remove", kb, "card").stdout == "1 row removed from kb.vx: 3 left\n"
    assert run_json("remove", kb, "--where", '{"year": {"$lt": 2023}}') == {"removed": 2, "rows": 1}
    assert [hit["id"] for hit in run_json("search", kb, "card", *WORDS)["hits"]] == ["help"]


@pytest.mark.parametrize("args", [(), ("card", "--where", "{}")])
def test_remove_needs_one_of_ids_and_where(run, run_json, kb, args):
    assert "give either ids or --where" in run("remove", kb, *args, code=2).stderr
    assert run_json("info", kb)["rows"] == 4


def test_info(run, run_json, kb):
    lines = dict(line.split(maxsplit=1) for line in run("info", kb).stdout.splitlines())
    assert lines["rows"] == "4"
    assert lines["embedder"] == "function:bag"
    assert lines["structure"] == "flat"
    info = run_json("info", kb)
    assert info["rows"] == 4
    assert info["mode"] == "r"


def test_optimize_and_compact(run, run_json):
    np.save("a.npy", np.random.default_rng(0).normal(size=(2000, 16)))
    run("build", "a.npy", "--out", "a.vx", "--id", "row")
    assert run_json("info", "a.vx")["structure"] == "flat"
    out = run("optimize", "a.vx", "--spec", "hnsw", "--target-recall", 0.9).stdout
    assert "recall@10" in out
    info = run_json("info", "a.vx")
    assert (info["structure"], info["target_recall"]) == ("hnsw", 0.9)
    point = next(p for p in info["calibration"]["points"] if p["params"] == info["params"])
    assert f"recall@10 {point['recall']:.4f}" in out
    assert run_json("optimize", "a.vx")["spec"]["kind"] == "hnsw"
    run("remove", "a.vx", *range(1000))
    assert run_json("info", "a.vx")["removed"] == 1000
    sizes = run_json("compact", "a.vx")
    assert sizes["size_bytes"] < sizes["size_bytes_before"]
    assert sizes["rows"] == 1000
    assert run_json("info", "a.vx")["removed"] == 0
    assert "now" in run("compact", "a.vx").stdout


def test_verify(run, run_json, kb):
    report = run_json("verify", kb)
    assert (report["ok"], report["rows"], report["problems"]) == (True, 4, [])
    assert run("verify", kb).stdout.startswith("kb.vx: no problem; ")


def test_verify_finds_damage(run, run_json, kb):
    path = next(kb.glob("vectors-*"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = run_json("verify", kb, code=1)
    assert report["ok"] is False
    assert [problem["file"] for problem in report["problems"]] == [path.name]
    lines = run("verify", kb, code=1).stdout.splitlines()
    assert lines[0].startswith(f"{path.name}, offset ")
    assert "1 problem;" in lines[-1]


def test_export(run, run_json, kb):
    assert run("export", kb, "out.jsonl").stdout == "4 rows written to out.jsonl\n"
    assert run("export", kb, "out.jsonl", code=1).stderr == (
        "vecindex: out.jsonl exists; --overwrite replaces it\n"
    )
    assert run_json("export", kb, "out.jsonl", "--overwrite", "--vectors") == {
        "path": "out.jsonl", "rows": 4,
    }  # fmt: skip
    assert len(json.loads(Path("out.jsonl").read_text().splitlines()[0])["embedding"]) == 32
    run("export", kb, "out.npy")
    assert np.load("out.npy").shape == (4, 32)
    run("export", kb, "out.csv", "--vectors")
    assert np.loadtxt("out.csv", delimiter=",", skiprows=1, usecols=range(-32, 0)).shape == (4, 32)
    assert run("export", kb, "out.faiss").stdout == "4 rows written to out.faiss\n"
    assert len(Path("out.faiss.ids.jsonl").read_text().splitlines()) == 4
    assert "out.faiss exists" in run("export", kb, "out.faiss", code=1).stderr
    assert "unknown suffix" in run("export", kb, "out.xml", code=1).stderr


@pytest.mark.parametrize(
    "args",
    [
        ("search", "kb.vx", "x", "--where", "{"),
        ("search", "kb.vx", "x", "--where", "[1]"),
        ("search", "kb.vx", "x", "--params", "ef=5"),
        ("search", "kb.vx"),
        ("search", "kb.vx", "x", "--vector", "q.npy"),
        ("search", "kb.vx", "x", "-k", "0"),
        ("search", "kb.vx", "x", "--recall", "2"),
        ("remove", "kb.vx", "--where", "nope"),
        ("optimize", "kb.vx", "--spec", "tree"),
        ("build", "q.npy", "--out", "x.vx", "--spec", "tree"),
        ("build", "q.npy"),
        ("get", "kb.vx"),
        ("nope",),
    ],
    ids=" ".join,
)
def test_wrong_usage(run, kb, args):
    result = run(*args, code=2)
    assert result.stdout == ""
    assert "Error" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("info", "nowhere.vx"), "nowhere.vx"),
        (("search", "kb.vx", "x"), "embedder"),
        (("search", "kb.vx", "x", *WORDS, "--params", '{"nope": 1}'), "has no parameter 'nope'"),
        (("search", "kb.vx", "x", *WORDS, "--where", '{"a": {"$near": 1}}'), r"$near"),
        (("search", "kb.vx", "--vector", "nowhere.npy"), "nowhere.npy: No such file or directory"),
        (
            ("add", "kb.vx", "nowhere.jsonl", "--text", "text", *WORDS),
            "nowhere.jsonl: No such file",
        ),
        (("verify", "faq.jsonl"), "faq.jsonl"),
    ],
)
def test_failures_are_one_message(run, kb, args, message):
    result = run(*args, code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("vecindex: ")
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_locked_index_names_its_writer(run, kb):
    with VectorIndex.open(kb, "r+"):
        assert "vecindex: " in run("remove", kb, "card", code=1).stderr
        assert run("get", kb, "card").stdout.startswith("id")  # reading goes on


def test_no_command_prints_help(run):
    assert "Start with: vecindex demo" in run(code=2).output
    assert run("--version").stdout == "vecindex 0.1.0\n"
