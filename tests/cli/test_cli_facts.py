"""What `build`, `info` and `optimize` say of recall, its promise, and what `auto` tried."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vecindex.cli.options import spec_names
from vecindex.spec import parse_spec, spec_name

WORDS = ("--embedder", "words:bag")


def clustered(n: int, seed: int = 0) -> np.ndarray:
    centres = np.random.default_rng(99).normal(size=(20, 16))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, 16))).astype(np.float32)


def facts_of(text: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in text.splitlines())


@pytest.fixture
def vectors() -> str:
    """Write 1,500 clustered rows into the current directory."""
    np.save("x.npy", clustered(1500))
    return "x.npy"


def test_all_names_are_specs():
    assert [spec_name(parse_spec(name)) for name in spec_names()] == spec_names()
    assert {"auto", "flat/pq4", "flat/sq8", "hnsw/bf16", "hnsw/sq4", "ivf/pq4"} < set(spec_names())
    assert "hnsw/pq4" not in spec_names()


def test_every_spec_can_be_built(run, run_json, vectors):
    for name in spec_names():
        info = run_json("build", vectors, "--out", f"{name.replace('/', '-')}.vx", "--spec", name)
        made = "flat" if name == "auto" else name
        assert f"{info['structure']}/{info['codes']}".removesuffix("/float32") == made
        assert (info["memory_bytes"] > 0) is (made != "flat")


@pytest.mark.parametrize("command", [("build", "x.npy", "--out", "b.vx"), ("optimize", "a.vx")])
@pytest.mark.parametrize("name", ["tree", "hnsw/pq4", "auto/pq4", "flat/", ""])
def test_a_wrong_spec_lists_all(run, vectors, command, name):
    error = run(*command, "--spec", name, code=2).stderr
    shown = re.sub(r"[\s│|]+", " ", error)
    assert f"{name!r} is no structure; expected one of {', '.join(spec_names())}" in shown


def test_the_promise(run, run_json, vectors):
    built = run("build", vectors, "--out", "a.vx", "--spec", "ivf/pq4").stdout
    info = run_json("info", "a.vx")
    point = next(p for p in info["calibration"]["points"] if p["params"] == info["params"])
    assert point["bound"] >= info["target_recall"]
    promise = (
        f"recall@10 {point['recall']:.4f} measured, at least {point['bound']:.4f} "
        "with 99 % confidence (1,000 rows as queries)"
    )
    assert built.startswith(f"a.vx: 1,500 rows, ivf/pq4, {promise}, ")
    facts = facts_of(run("info", "a.vx").stdout)
    assert facts["promise"] == promise
    assert facts["structure"] == "ivf/pq4"
    assert facts["spec"] == "ivf codes=pq4"
    assert facts["memory"].endswith("kB beside the mapped vectors")
    assert facts["latency"].startswith(f"{point['latency_ms']:.3f} ms a query")


def test_a_target_out_of_reach_is_said(run, run_json, vectors):
    run("build", vectors, "--out", "a.vx", "--spec", "flat/pq4", "--target-recall", 1.0)
    facts = facts_of(run("info", "a.vx").stdout)
    assert facts["promise"] == (
        "no setting promises recall 1 (1,500 rows as queries): every search is exact"
    )
    assert "params" not in facts
    built = run_json("build", vectors, "--out", "b.vx", "--spec", "flat/pq4", "--target-recall", 1)
    assert built["recall"] is None


def test_the_curve(run, run_json, vectors):
    run("build", vectors, "--out", "a.vx", "--spec", "hnsw")
    info = run_json("info", "a.vx", "--curve")
    lines = run("info", "a.vx", "--curve").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("hnsw, 1,000 rows as"))
    rows = [line.split() for line in lines[start:] if "ef_search=" in line]
    points = info["calibration"]["points"]
    assert [row[1] for row in rows] == [f"ef_search={p['params']['ef_search']}" for p in points]
    assert [row[3] for row in rows] == [f"{point['recall']:.4f}" for point in points]
    assert [row[5] for row in rows] == [f"{point['bound']:.4f}" for point in points]
    used = [p["params"] for p, row in zip(points, rows, strict=True) if "use" in row]
    assert used == [info["params"]]
    run("build", vectors, "--out", "b.vx", "--spec", "flat")
    assert "no curve: every search is exact" in run("info", "b.vx", "--curve").stdout


def test_what_auto_tried(run, run_json, vectors, monkeypatch):
    monkeypatch.setattr("vecindex.index.rebase.AUTO_ROWS", 1000)
    run("build", vectors, "--out", "a.vx")
    tried = run_json("info", "a.vx")["tried"]
    text = run("info", "a.vx").stdout
    assert {one["spec"] for one in tried} == {"flat", "flat/pq4", "ivf/pq4", "hnsw/sq4"}
    width = max(len(one["spec"]) for one in tried)
    for one in tried:
        assert f"  {one['spec']:<{width}}  {one['verdict']}\n" in text
    assert "graph would gain little" in text
    assert re.search(rf"^ {{{width + 4}}}exact, [0-9.]+ ms$", text, flags=re.MULTILINE)
    assert re.search(
        rf"^ {{{width + 4}}}built in .* kB, .*, recall 0\.\d+, at least 0\.", text, re.MULTILINE
    )
    budget = ("--build-seconds", 60, "--memory-bytes", 1000)
    tight = run_json("optimize", "a.vx", *budget)["tried"]
    verdicts = {one["spec"]: one["verdict"] for one in tight}
    assert "bytes, over the budget of 1,000" in verdicts["flat/pq4"]
    assert "graph would gain little" not in verdicts["hnsw/sq4"]


def test_optimize_with_queries(run, run_json, vectors):
    run("build", vectors, "--out", "a.vx", "--spec", "ivf")
    np.save("q.npy", clustered(70, seed=1))
    info = run_json("optimize", "a.vx", "--queries", "q.npy")
    assert (info["calibration"]["source"], info["calibration"]["queries"]) == ("queries", 70)
    assert "(70 given queries)" in run("info", "a.vx").stdout
    np.save("q.npy", clustered(1))
    assert "(1 given query)" in run("optimize", "a.vx", "--queries", "q.npy").stdout


def test_optimize_with_texts(run, run_json):
    lines = (json.dumps({"text": f"word{i} word{i % 7}"}) for i in range(300))
    Path("a.jsonl").write_text("\n".join(lines))
    run("build", "a.jsonl", "--out", "a.vx", "--text", "text", *WORDS, "--spec", "hnsw")
    Path("q.txt").write_text("word1 word2\n\nword7\nword100 word2\n")
    info = run_json("optimize", "a.vx", "--queries", "q.txt", *WORDS)
    assert (info["calibration"]["source"], info["calibration"]["queries"]) == ("queries", 3)
    assert "embedder" in run("optimize", "a.vx", "--queries", "q.txt", code=1).stderr


def test_files_that_hold_no_queries(run, kb):
    np.save("none.npy", np.ones((0, 32)))
    np.save("other.npy", np.ones((2, 3)))
    Path("none.txt").write_text("\n \n")
    Path("latin.txt").write_bytes(b"\xff\xfe\xfa")
    Path("q.jsonl").write_text("{}\n")
    for name, message in (
        ("none.npy", "none.npy"),
        ("other.npy", "dimension 3"),
        ("none.txt", "none.txt holds no queries"),
        ("latin.txt", "latin.txt is not UTF-8"),
        ("q.jsonl", "q.jsonl: expected queries as texts in a .txt file"),
        ("nowhere.txt", "nowhere.txt: No such file"),
    ):
        error = run("optimize", kb, "--queries", name, *WORDS, code=1).stderr
        assert error.startswith("vecindex: ")
        assert message in error


def test_a_budget_goes_with_auto(run, vectors):
    run("build", vectors, "--out", "a.vx", "--spec", "ivf")
    for options in (("--build-seconds", 5), ("--memory-bytes", 5)):
        error = run("optimize", "a.vx", "--spec", "hnsw", *options, code=2).stderr
        assert "go with --spec auto" in error
        assert "auto" in run("optimize", "a.vx", *options, code=1).stderr
    for options in (("--build-seconds", 0), ("--memory-bytes", -1)):
        assert "Error" in run("optimize", "a.vx", "--spec", "auto", *options, code=2).stderr


def test_explain(run, run_json, vectors):
    with Path("a.jsonl").open("w") as file:
        for number, row in enumerate(clustered(1500).tolist()):
            file.write(json.dumps({"v": row, "year": 2000 + number % 10}) + "\n")
    columns = ("--vector", "v", "--metadata", "year")
    run("build", "a.jsonl", "--out", "a.vx", *columns, "--spec", "flat/pq4")
    assert run("search", "a.vx", "--explain").stdout.startswith("flat/pq4 over 1,500 of 1,500 rows")
    where = ("--where", '{"year": {"$gte": 2005}}')
    plan = run_json("search", "a.vx", "--explain", *where, "-k", 5)
    assert (plan["searched"], plan["total"], plan["tail"]) == (750, 1500, 0)
    assert plan["costs_us"].keys() == {"exact", "structure", "all"}
    lines = run("search", "a.vx", "any text", "--explain", *where, "-k", 5).stdout.splitlines()
    assert lines[:2] == [plan["plan"], "reckoned for one query:"]
    assert [line.split()[-1] for line in lines[2:]] == ["us"] * 3
    assert f"{plan['costs_us']['exact']:,.1f} us" in "\n".join(lines)
    assert run("search", "a.vx", "--explain", "--exact").stdout == (
        "exact over 1,500 of 1,500 rows (asked for)\n"
    )
    assert "'nope'" in run("search", "a.vx", "--explain", "--params", '{"nope": 1}', code=1).stderr
