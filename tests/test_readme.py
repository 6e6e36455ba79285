"""The README's Python blocks and command lines run, and print what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
FAQS = [
    {"id": "card", "text": "How do I get a replacement Medicare card?", "topic": "card"},
    {"id": "premium", "text": "What is the premium for Part B?", "topic": "costs", "year": 2024},
    {"id": "signup", "text": "How do I sign up for Medicare?", "topic": "start", "year": None},
]


def python_and_output() -> tuple[str, str]:
    code, output = [], []
    for language, text in BLOCKS:
        if language == "python":
            code.append(text)
        elif language == "text":
            output.append(text)
    return "\n".join(code), "".join(output)


def commands() -> list[str]:
    lines = [
        line for language, text in BLOCKS if language == "console" for line in text.split("\n")
    ]
    return [line[2:] for line in lines if line.startswith("$ vecindex ")]


def test_python_blocks_print_what_the_readme_says(tmp_path: Path) -> None:
    code, output = python_and_output()
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == output


@pytest.mark.long
def test_command_lines_run_in_order(tmp_path: Path) -> None:
    lines = [json.dumps(faq) for faq in FAQS]
    (tmp_path / "faqs.jsonl").write_text("\n".join(lines))
    more = [{"id": f"m{i}", "text": f"Question {i}", "topic": "x", "year": i} for i in range(20)]
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, more)))
    assert len(commands()) >= 12
    for command in commands():
        words = [sys.executable, "-m", *shlex.split(command)]
        run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
    assert len((tmp_path / "kb-copy.jsonl").read_text().splitlines()) == len(FAQS) - 1 + len(more)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_targets_of_the_readme_exist(target: str) -> None:
    assert f"$ make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_every_command_is_in_the_readme() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "vecindex", "--help"], capture_output=True, text=True, check=True
    ).stdout
    listed = set(re.findall(r"^[│|]?\s+([a-z]+)  +[A-Z]", help_text, flags=re.MULTILINE))
    assert {"build", "search", "verify"} <= listed
    shown = {command.split()[1] for command in commands()} | {"demo"}
    assert listed <= shown
