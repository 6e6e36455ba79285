"""Each worked example runs, and says what is right."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.examples import faq, files, topics
from vecindex.examples.medicare import QUESTIONS

FAQ = """\
How can Medicare help me?
0.7565   8  How can I get help with my Medicare Part A and Part B premiums?
0.7419   7  What is Medicare and who can get it?
0.7253   3  How do I sign up for Medicare?
0.6736   9  What are the different parts of Medicare?
0.6505  10  Will my Medicare premiums be higher because of my higher income?
"""


def test_faq_as_a_module(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["faq"])
    runpy.run_path(faq.__file__, run_name="__main__")
    assert capsys.readouterr().out == FAQ


def test_faq_leaves_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faq.main("How do I get a new card?", tmp_path)
    assert capsys.readouterr().out.splitlines()[1].endswith(QUESTIONS[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embeddings.csv", "faq.vx"]
    table = np.loadtxt(tmp_path / "embeddings.csv", delimiter=",", skiprows=1)
    assert table.shape == (13, 384)


def test_topics(capsys: pytest.CaptureFixture[str]) -> None:
    topics.main()
    joining, costs, share = capsys.readouterr().out.splitlines()
    assert (joining.split()[0], costs.split()[0]) == ("joining", "costs")
    assert "77%" in share


def embed(texts: list[str]) -> np.ndarray:
    """Return the counts of letters: texts that share words are near."""
    return np.array([[text.lower().count(letter) + 0.1 for letter in "abcdefghijklmnopqrstuvwxyz"]
                     for text in texts])  # fmt: skip


def test_paragraphs_know_their_lines() -> None:
    text = "\n\none\nmore\n \n\n  two  \n\n\n"
    assert list(files.paragraphs(text)) == [(3, "one\nmore"), (7, "two")]
    assert list(files.paragraphs(" \n ")) == []


def test_files_says_how_to_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["files", str(tmp_path)])
    with pytest.raises(SystemExit, match="usage: "):
        runpy.run_path(files.__file__, run_name="__main__")
    with pytest.raises(SystemExit, match="notes is not a directory"):
        files.main(str(tmp_path / "notes"), "any", embed)
    assert list(tmp_path.iterdir()) == []


def test_files_keeps_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.md").write_text("# Zebras\n\nzebra zoo\n")
    (folder / "deep" / "b.txt").write_text("quick fox\n\njumps\n")
    (folder / "c.py").write_text("zebra")
    (folder / "folder.md").mkdir()
    (folder / "dead.md").symlink_to("nowhere")

    def run(question: str) -> list[str]:
        files.main(str(folder), question, embed)
        return capsys.readouterr().out.splitlines()

    count, best, *_ = run("zebra zoo")
    assert count == "2 files read, 4 paragraphs"
    assert best.split(maxsplit=1)[1] == "a.md:3  zebra zoo"
    assert run("fox")[0] == "0 files read, 4 paragraphs"
    (folder / "a.md").write_text("okapi\n")
    (folder / "deep" / "b.txt").unlink()
    count, best = run("okapi")
    assert (count, best.split()[1]) == ("1 files read, 1 paragraphs", "a.md:1")
    with VectorIndex.open(tmp_path / "notes.vx", embedder=embed) as index:
        assert [record.id for record in index.scan()] == ["a.md:1"]
