"""The demo's handling of what it finds at its place, with an embedder that costs nothing."""

from pathlib import Path

import pytest

from vecindex import VectorIndex
from vecindex.cli import demo
from vecindex.embed import resolve


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Let the demo use the bag of words, also when it opens the index by its name."""
    embedder = resolve("words:bag")
    real = VectorIndex.open.__func__
    monkeypatch.setattr(demo, "DEFAULT_EMBEDDER", embedder)

    def open_with(cls, path, mode="r", **options):
        return real(cls, path, mode, **{"embedder": embedder, **options})

    monkeypatch.setattr(VectorIndex, "open", classmethod(open_with))


def test_the_questions():
    assert len(demo.QUESTIONS) == 13
    assert demo.QUESTIONS[4].endswith("health insurance through an employer?")


def test_it_is_built_once_and_used_again(run, run_json):
    out = run("demo").stdout
    assert out.splitlines()[0] == "How can Medicare help me?"
    assert len(out.splitlines()[2:7]) == 5
    assert "The index is now on disk: vecindex-demo.vx" in out
    assert [path.name for path in Path().iterdir()] == ["vecindex-demo.vx"]
    again = run_json("demo")
    assert again["reused"] is True
    assert [f"{h['score']:.4f}" for h in again["hits"]] == [
        x.split()[0] for x in out.splitlines()[2:7]
    ]
    records = run_json("get", "vecindex-demo.vx", *range(13))["records"]
    assert [record["text"] for record in records] == list(demo.QUESTIONS)


def test_questions_that_were_removed_come_back(run, run_json):
    before = run_json("demo", "--out", "d.vx")["hits"]
    run("remove", "d.vx", *(hit["id"] for hit in before))
    assert run_json("demo", "--out", "d.vx")["hits"] == before
    run("remove", "d.vx", *range(13))
    assert run_json("demo", "--out", "d.vx")["hits"] == before


def test_an_empty_directory_is_a_fine_place(run):
    Path("d.vx").mkdir()
    run("demo", "--out", "d.vx")


def test_what_is_not_a_demo_is_left_alone(run, run_json, kb):
    result = run("demo", "--out", kb, code=1)
    assert result.stderr == "vecindex: kb.vx is an index of something else; choose another --out\n"
    assert run_json("info", kb)["rows"] == 4
    Path("mine").mkdir()
    Path("mine/file").write_text("x")
    assert "choose another directory for the demo" in run("demo", "--out", "mine", code=1).stderr
    assert Path("mine/file").read_text() == "x"
    run("demo", "--out", "mine/file", code=1)


def test_a_demo_that_fails_leaves_nothing(run, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VectorIndex, "add", full)
    assert run("demo", code=1).stderr == "vecindex: No space left on device\n"
    assert list(Path().iterdir()) == []
