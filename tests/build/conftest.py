"""A model, and sources in an empty directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from build_data import Model


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Write a file of records in an empty directory that is the current one; return its name."""
    monkeypatch.chdir(tmp_path)

    def write(records, name="source.jsonl") -> str:
        lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
        Path(name).write_text("\n".join(lines) + "\n")
        return name

    return write
