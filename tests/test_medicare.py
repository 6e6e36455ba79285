"""The main job: 13 Medicare questions, one question asked, the published answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vecindex import VectorIndex
from vecindex.cli.app import app
from vecindex.examples.medicare import QUERY, QUESTIONS

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SPECS = ["flat", "hnsw", "ivf"]
IDS = [8, 7, 3, 9, 10]
SCORES = [0.7565, 0.7419, 0.7253, 0.6736, 0.6505]
FIRST_ROW = [-0.0238895, 0.0552585, -0.0116549]
FRESH = """
import json, sys
from vecindex import VectorIndex
answers = {}
for path in sys.argv[2:]:
    with VectorIndex.open(path) as index:
        hits = index.search(sys.argv[1], k=5)
        answers[path] = [[hit.id, hit.score, hit.text] for hit in hits]
print(json.dumps(answers))
"""


def check(ids: Sequence[Any], scores: Sequence[float], texts: Sequence[str | None]) -> None:
    assert list(ids) == IDS
    assert list(scores) == pytest.approx(SCORES, abs=1e-4)
    assert list(texts) == [QUESTIONS[number] for number in IDS]


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def command(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("medicare")
    vectors = None
    for spec in SPECS:
        with VectorIndex.create(folder / spec, embedder=MODEL, spec=spec) as index:
            index.add(texts=QUESTIONS, ids=range(len(QUESTIONS)))
            check_hits(index)  # from the log
            index.optimize()
            check_hits(index)  # from the structure
            vectors = index.get([0], vectors=True)[0].vector
            assert index.info().structure == spec
    assert vectors is not None
    assert vectors[:3].tolist() == pytest.approx(FIRST_ROW, abs=1e-4)
    return [str(folder / spec) for spec in SPECS]


def check_hits(index: VectorIndex) -> None:
    hits = index.search(QUERY, k=5)
    check([h.id for h in hits], [h.score for h in hits], [h.text for h in hits])


def test_questions_are_the_thirteen() -> None:
    assert len(QUESTIONS) == 13
    assert QUESTIONS[11] == "What is TRICARE?"


def test_python_api_before_reopening_and_in_this_process(paths: list[str]) -> None:
    for path in paths:
        with VectorIndex.open(path) as index:
            check_hits(index)
            ranking = [hit.id for hit in index.search(QUERY, k=100)]
            assert sorted(ranking) == list(range(13))


def test_python_api_in_a_fresh_process(paths: list[str]) -> None:
    answers = json.loads(run(sys.executable, "-c", FRESH, QUERY, *paths))
    assert sorted(answers) == sorted(paths)
    for hits in answers.values():
        check(*zip(*hits, strict=True))


@pytest.mark.parametrize("spec", SPECS)
def test_command_line(spec: str, tmp_path: Path) -> None:
    lines = [json.dumps({"id": i, "q": question}) for i, question in enumerate(QUESTIONS)]
    (tmp_path / "faqs.jsonl").write_text("\n".join(lines))
    out = str(tmp_path / "faqs.vx")
    source = str(tmp_path / "faqs.jsonl")
    build = ("build", source, "--out", out, "--text", "q", "--id", "id", "--embedder", MODEL)
    command(*build, "--spec", spec)
    found = json.loads(command("search", out, QUERY, "-k", "5", "--json"))
    hits = found["hits"]
    check([h["id"] for h in hits], [h["score"] for h in hits], [h["text"] for h in hits])
