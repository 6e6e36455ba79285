"""The page of reliability says what the result files say, and names only what there is."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from . import report
from . import results as kept
from .__main__ import PARTS

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_results_give() -> None:
    assert report.PAGE.read_text() == report.page(), "run: python -m tests.torture report"


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", report.page()))
    assert len(named) > 40
    for file, name in named:
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{file}::{name}"


def test_every_part_has_its_place() -> None:
    assert {part for promise in report.PROMISES for part in promise.parts} == set(PARTS)
    assert [promise.number for promise in report.PROMISES] == list(range(1, 10))
    assert {entry["promise"] for entry in report.found()} <= set(range(1, 10))


def test_a_failure_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = kept.Results(tmp_path / "crash.json", "crash")
    for seed in results.seeds(60, lambda: results.count("states") >= 1_234_567):
        results.add(states=1_234_567)
        results.fail(seed, AssertionError("a row is lost"))
    monkeypatch.setattr(report, "HERE", tmp_path)
    page = report.page()
    assert "1,234,567 different states" in page
    assert "a row is lost (`python -m tests.torture crash --replay 0`)" in page


def test_results_are_added_up_for_the_same_code_only(tmp_path: Path) -> None:
    path = tmp_path / "crash.json"
    for code, seed, count in (("a", 0, 5), ("a", 1, 10), ("b", 0, 5)):
        results = kept.Results(path, "crash", code)
        for tried in results.seeds(60, lambda r=results, c=count: r.count("states") >= c):
            assert tried == seed
            results.add(states=5)
    with pytest.raises(SystemExit, match="holds results of 'crash'"):
        kept.Results(path, "faults", "b")
    assert json.loads(path.read_text())["code"] == "b"


def test_a_fingerprint_is_of_code_not_of_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    seen = []
    for text in ('def f():\n    """One."""\n    return 1\n', "def f():  # two\n    return 1\n",
                 "def f():\n    return 2\n"):  # fmt: skip
        (tmp_path / "room" / "file.py").write_text(text)
        seen.append(kept.fingerprint(["room"]))
    assert seen[0] == seen[1] != seen[2]
