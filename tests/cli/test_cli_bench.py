"""`vecindex bench` from end to end: what it prints and writes, and when it fails."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from vecindex import VectorIndex

WORDS = ("--embedder", "words:bag")
QUICK = ("-k", 10, "--repeats", 1, "--sample", 30)


def clustered(n: int, seed: int = 0) -> np.ndarray:
    centres = np.random.default_rng(99).normal(size=(20, 16))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, 16))).astype(np.float32)


@pytest.fixture
def vectors(run) -> str:
    """Write 400 clustered rows into the current directory."""
    np.save("x.npy", clustered(400))
    return "x.npy"


def measured(name: str) -> dict:
    return json.loads(Path(name).read_text())


def test_bench(run, run_json, kb):
    quick = ("--repeats", 1, "--sample", 3)
    report = run_json("bench", kb, "-k", 2, "-k", 1, "--out", "report.json", *quick)
    assert [(row["name"], row["k"], row["recall"]) for row in report["rows"]] == [
        ("exact", 1, 1.0), ("default", 1, 1.0), ("exact", 2, 1.0), ("default", 2, 1.0),
    ]  # fmt: skip
    assert json.loads(Path("report.json").read_text())["facts"]["rows"] == 4
    assert "| default | 3 | 1.0000 |" in run("bench", kb, *quick).stdout


def test_bench_with_queries(run, run_json, kb):
    np.save("q.npy", np.random.default_rng(0).normal(size=(7, 32)))
    quick = ("-k", 1, "--repeats", 1)
    assert run_json("bench", kb, "--queries", "q.npy", *quick)["facts"]["queries"] == 7
    Path("q.txt").write_text("lost card\n\nthe cost\n")
    report = run_json("bench", kb, "--queries", "q.txt", *WORDS, *quick)
    assert report["facts"]["queries"] == 2
    assert report["facts"]["query_source"] == "given"
    Path("q.txt").write_text("\n")
    assert "holds no queries" in run("bench", kb, "--queries", "q.txt", *WORDS, code=1).stderr
    Path("q.txt").write_text("card\n")
    assert "embedder" in run("bench", kb, "--queries", "q.txt", code=1).stderr


def test_an_index_with_everything(run, vectors, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    run("build", vectors, "--out", "a.vx", "--spec", "ivf")
    files = {path: path.read_bytes() for path in Path("a.vx").iterdir() if path.name != "LOCK"}
    outputs = ("--out", "r.json", "--markdown", "r.md", "--html", "r.html")
    conditions = ("--filters", "50%,1%", "--deleted", "30%", "--tail", "5%")
    result = run("bench", "a.vx", "--structures", "flat,hnsw", *conditions, *outputs, *QUICK)
    assert {path: path.read_bytes() for path in files} == files
    assert list(temporary.iterdir()) == []
    assert result.stdout == Path("r.md").read_text()
    assert result.stderr == ""
    report = measured("r.json")
    assert {row["structure"] for row in report["rows"]} == {"this index", "flat", "hnsw"}
    names = [row["name"] for row in report["conditions"] if row["structure"] == "flat"]
    assert names == [
        "filter 50%", "filter 1%", "deleted 30% at random", "deleted 30% nearest to a query",
        "tail 5%",
    ]  # fmt: skip
    assert all(row["returned"] == row["expected"] for row in report["conditions"])
    assert all(row["recall"] == 1 for row in report["conditions"] if row["structure"] == "flat")
    assert str(tmp_path) not in Path("r.html").read_text() + Path("r.json").read_text()
    assert Path("r.html").read_text().count('class="point') == len(report["rows"])


def test_alternatives_are_the_usual_structures(run_json, run, vectors):
    from vecindex.bench import STRUCTURES

    run("build", vectors, "--out", "a.vx")
    report = run_json("bench", "a.vx", "--alternatives", *QUICK)
    assert list(dict.fromkeys(row["structure"] for row in report["rows"])) == [
        "this index", *STRUCTURES,
    ]  # fmt: skip


def test_vectors_and_queries(run_json, vectors):
    np.save("q.npy", clustered(7, seed=1))
    files = ("--vectors", vectors, "--queries", "q.npy")
    report = run_json("bench", *files, "--structures", "flat", "--target-recall", 0.9, *QUICK)
    facts = {name: report["facts"][name] for name in ("index", "data", "rows", "queries")}
    assert facts == {"index": None, "data": "x.npy", "rows": 400, "queries": 7}
    assert report["facts"]["target_recall"] == 0.9
    held = run_json("bench", "--vectors", vectors, "--structures", "flat", *QUICK)
    assert (held["facts"]["rows"], held["facts"]["queries"]) == (370, 30)


def test_an_hdf5_file(run_json, run):
    rows, asked = clustered(300), clustered(20, seed=1)
    with h5py.File("set.hdf5", "w") as file:
        file.attrs["distance"] = "euclidean"
        file["train"], file["test"] = rows, asked
        file["neighbors"] = np.zeros((20, 5), dtype=np.int32)
    options = ("--vectors", "set.hdf5", "--structures", "flat")
    report = run_json("bench", *options, *QUICK)
    assert report["facts"]["queries"] == 20
    assert "distance is euclidean" in report["facts"]["notes"][0]
    measured = [(row["structure"], row["recall"]) for row in report["rows"]]
    assert measured == [("exact", 1.0), ("flat", 1.0)]
    run("bench", *options, "--queries", "q.npy", code=2)


def test_fail_under(run, vectors):
    np.save("all-over.npy", np.random.default_rng(0).normal(size=(2000, 16)))
    options = ("--vectors", "all-over.npy", "--structures", "ivf", "-k", 1, "--repeats", 1)
    assert run("bench", *options, "--fail-under", 0.5, "--target-recall", 0.8).stderr == ""
    result = run("bench", *options, "--fail-under", 1, "--target-recall", 0.5, code=1)
    assert "the best calibrated default, that of ivf, has recall@10 0." in result.stderr
    assert "below the 1 asked for" in result.stderr
    assert "| ivf | default | 10 |" in result.stdout  # k=10 is measured though it was not named
    run("build", vectors, "--out", "a.vx")
    assert run("bench", "a.vx", *QUICK, "--fail-under", 1).stderr == ""


def test_baseline(run, vectors):
    options = ("--vectors", vectors, "--structures", "flat", *QUICK, "--tolerance", 1000)
    run("bench", *options, "--out", "old.json")
    assert run("bench", *options, "--baseline", "old.json").stderr == ""
    old = measured("old.json")
    old["rows"][1] |= {"p50_ms": 1e-6, "recall": 1.5}
    Path("better.json").write_text(json.dumps(old))
    result = run("bench", *options, "--baseline", "better.json", "--out", "new.json", code=1)
    worse = "vecindex: worse than the baseline: flat, default, k=10: "
    first, second = result.stderr.splitlines()
    assert first.startswith(worse + "recall 1.0000, was 1.5000")
    assert second.startswith(worse + "p50")
    assert len(measured("new.json")["rows"]) == 2
    result = run("bench", *options, "--seed", 1, "--baseline", "old.json", code=1)
    assert "measured on other data: hash of the rows" in result.stderr


def test_an_interrupt_leaves_nothing_behind(run, vectors, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    seen = []

    def interrupt(self, **_):
        seen.extend(temporary.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(VectorIndex, "optimize", interrupt)
    result = run("bench", "--vectors", vectors, "--out", "r.json", *QUICK, code=130)
    assert result.stderr == "vecindex: interrupted\n"
    assert len(seen) == 1
    assert list(temporary.iterdir()) == []
    assert not Path("r.json").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give an INDEX or --vectors FILE"),
        (("kb.vx", "--vectors", "x.npy"), "give an INDEX or --vectors FILE"),
        (("--vectors", "x.npy", "--structures", "flat,tree"), "unknown structure 'tree'"),
        (("--vectors", "x.npy", "--structures", ","), "no structure is named"),
        (("--vectors", "x.npy", "--filters", "10"), "'10' is not a share of the rows"),
        (("--vectors", "x.npy", "--tail", "5%;6%"), "'5%;6%' is not a share of the rows"),
        (("--vectors", "x.npy", "--deleted", "100%"), "deleted: 100% is not a share"),
        (("--vectors", "x.npy", "--fail-under", "95"), "--fail-under"),
        (("kb.vx", "--target-recall", "0.9"), "--target-recall goes with --vectors"),
    ],
)
def test_wrong_usage(run, args, message):
    result = run("bench", *args, code=2)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere.vx",), "nowhere.vx"),
        (("--vectors", "nowhere.npy"), "nowhere.npy: No such file or directory"),
        (("--vectors", "nowhere.hdf5"), "nowhere.hdf5: No such file or directory"),
        (("--vectors", "text.hdf5"), "text.hdf5: not an HDF5 file"),
        (("--vectors", "text.csv"), "expected vectors in a .npy file"),
        (("--vectors", "flat.npy"), "expected numbers of shape (n, dim)"),
        (("--vectors", "x.npy", "--queries", "q.txt"), "q.txt: expected vectors in a .npy file"),
        (("--vectors", "x.npy", "--queries", "wide.npy"), "queries have dimension 17"),
        (("--vectors", "x.npy", "--baseline", "nowhere.json"), "nowhere.json: No such file"),
        (("--vectors", "x.npy", "--baseline", "text.hdf5"), "text.hdf5: not JSON"),
    ],
)
def test_what_cannot_be_measured(run, vectors, args, message):
    np.save("flat.npy", np.ones(9))
    np.save("wide.npy", np.ones((2, 17)))
    Path("text.hdf5").write_text("no")
    Path("text.csv").write_text("a,b\n1,2\n")
    result = run("bench", *args, code=1)
    assert message in result.stderr
    assert result.stdout == ""
