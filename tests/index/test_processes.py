"""Several processes at once: readers beside a writer.

The scripts of the child processes are `reader.py` and `writer.py` in `children/`. Processes that
are killed are in `tests/torture`, in `test_kills.py` and `test_soak.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vecindex import VectorIndex

CHILDREN = Path(__file__).parent / "children"


def start(script: str, *arguments: Any) -> subprocess.Popen[str]:
    """Start one of the scripts in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(CHILDREN / script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a script printed at its end; its traceback if it failed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, f"exit code {process.returncode}\n{err}"
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("spec", ["flat", "hnsw"])
def test_readers_beside_a_writer_see_whole_states(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "x.vx"
    VectorIndex.create(path, spec=spec, dim=16).close()
    writer = start("writer.py", path)
    readers = [start("reader.py", path) for _ in range(3)]
    for process in readers:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", result(process)
    reports = [result(process) for process in readers]
    assert writer.stdin is not None
    writer.stdin.write("enough\n")
    written = result(writer)
    for report in reports:
        assert report["loops"] > 10
        assert report["states"] > 3, "a reader that saw no change has shown nothing"
        assert report["batches"] > 10
    assert written["operations"] > 10
    assert written["seals"] > 2
    assert spec == "flat" or written["folds"] > 0
    with VectorIndex.open(path) as index:
        assert index.verify().ok
        assert sorted(record.id for record in index.scan()) == sorted(written["ids"])
