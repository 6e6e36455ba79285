"""A way to run commands in this process, and an embedder that costs nothing."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vecindex.cli.app import app
from vecindex.embed import PROVIDERS, FunctionEmbedder
from vecindex.embed.resolve import Provider

FAQ = [
    {"id": "card", "text": "how to replace a lost card", "topic": "cards", "year": 2020},
    {"id": "cost", "text": "what is the monthly cost", "topic": "money", "year": 2021},
    {"id": "late", "text": "penalties for signing up late", "topic": "money", "year": 2022},
    {"id": "help", "text": "how to get help with the cost", "topic": "money", "year": 2023},
]


def bag_of_words(texts):
    """Return a direction per word, summed: texts that share words are near."""
    rows = np.full((len(texts), 32), 1e-3, dtype=np.float32)
    for i, text in enumerate(texts):
        for word in text.lower().split():
            rows[i] += np.frombuffer(hashlib.shake_128(word.encode()).digest(32), np.int8)
    return rows


@pytest.fixture(autouse=True)
def words(monkeypatch):
    """Make `--embedder words:bag` known."""
    provider = Provider(lambda name: FunctionEmbedder(bag_of_words, name=name))
    monkeypatch.setitem(PROVIDERS, "words", provider)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty directory; errors other than exits are not swallowed."""
    monkeypatch.chdir(tmp_path)

    def call(*args, code: int = 0):
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def run_json(run):
    """Run a command with --json and return its document, which must be all of its output."""

    def call(*args, code: int = 0):
        result = run(*args, "--json", code=code)
        assert result.stderr == ""
        return json.loads(result.stdout)

    return call


@pytest.fixture
def faq(tmp_path) -> Path:
    """Write a file of four records."""
    path = tmp_path / "faq.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in FAQ))
    return path


@pytest.fixture
def kb(run, faq, tmp_path) -> Path:
    """Build an index of the four records."""
    options = ("--text", "text", "--id", "id", "--metadata", "topic,year")
    run("build", faq, "--out", "kb.vx", "--embedder", "words:bag", *options)
    return Path("kb.vx")
