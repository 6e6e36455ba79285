"""Directories of every format so far open with the same rows and answers, and are never changed."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.make import HERE, answers
from vecindex import VectorIndex
from vecindex.errors import FormatVersionError
from vecindex.store.frames import FORMAT

GOLDEN = sorted(path for path in HERE.glob("*-[0-9]*") if path.is_dir())


def test_there_is_one_of_this_format() -> None:
    assert {f"flat-{FORMAT}", f"full-{FORMAT}"} <= {path.name for path in GOLDEN}
    kinds = {file.name.partition("-")[0] for file in (HERE / f"full-{FORMAT}").iterdir()}
    assert kinds == {
        "MANIFEST", "log", "vectors", "rows", "ids", "columns", "dead", "queries", "structure",
    }  # fmt: skip


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, with the answers beside it."""
    shutil.copytree(request.param, tmp_path / request.param.name)
    shutil.copy(request.param.with_suffix(".json"), tmp_path)
    return tmp_path / request.param.name


def check_answers(index: VectorIndex, path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    found = answers(index)
    np.testing.assert_allclose(found.pop("scores"), expected.pop("scores"), atol=1e-6)
    assert found == expected


@pytest.mark.parametrize("trusted", [True, False])
def test_rows_and_answers_are_the_same(golden: Path, trusted: bool) -> None:
    with VectorIndex.open(golden, trusted=trusted) as index:
        if not trusted:  # without the structure every search is exact
            expected = json.loads(golden.with_suffix(".json").read_text())
            expected["structure"] = expected["found"]
            golden.with_suffix(".json").write_text(json.dumps(expected))
        check_answers(index, golden)
        assert index.verify().ok
        assert index.info().format == int(golden.name.rpartition("-")[2])


def test_the_structure_is_read(golden: Path) -> None:
    with VectorIndex.open(golden) as index:
        index.search_arrays(np.eye(8)[:1], k=3, params={"rescore": 8})
        assert index._view().structure(pytest.fail) is not None or golden.name.startswith("flat")
        assert index.info().notes == ()


def test_a_writer_goes_on(golden: Path) -> None:
    with VectorIndex.open(golden, "r+", maintenance="manual") as index:
        check_answers(index, golden)
        before = len(index)
        index.add(vectors=np.eye(8), texts=["more"] * 8)
        index.remove(["id 7"])
        index.optimize()
    with VectorIndex.open(golden) as index:
        assert index.verify().ok
        assert len(index) - before == (7 if golden.name.startswith("full") else 8)


def test_a_reader_never_writes(golden: Path) -> None:
    def seen() -> dict[str, object]:
        return {
            str(file): (file.stat().st_mtime_ns, file.stat().st_ino, file.read_bytes())
            for file in (golden, *golden.iterdir())
            if file.is_file()
        } | {"directory": golden.stat().st_mtime_ns}

    before = seen()
    with VectorIndex.open(golden) as index:
        answers(index)
        index.verify()
        index.refresh()
        index.explain(5)
    VectorIndex.repair(golden, dry_run=True)
    assert seen() == before


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_lines_that_read_it_without_vecindex(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of ARCHITECTURE.md, word for word."""
    text = (HERE.parents[1] / "ARCHITECTURE.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (lines,) = (block for block in blocks if "import msgpack" in block)
    assert "vecindex" not in lines
    monkeypatch.chdir(golden.rename(golden.with_name("kb.vx")).parent)
    found: dict[str, Any] = {}
    exec(lines, found)
    with VectorIndex.open("kb.vx") as index:
        expected = next(iter(index.scan(vectors=True)))
    assert (found["record_id"], found["text"]) == (expected.id, expected.text)
    assert list(found["metadata"]) == list(expected.metadata)
    assert found["vectors"].shape == (found["segment"]["rows"], 8)
    assert np.array_equal(found["vectors"][0], expected.vector)


@pytest.mark.parametrize("call", ["r", "r+", "untrusted", "repair"])
def test_a_newer_format_is_refused_by_name(golden: Path, call: str) -> None:
    data = bytearray((golden / "MANIFEST").read_bytes())
    struct.pack_into("<H", data, 4, FORMAT + 1)
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    (golden / "MANIFEST").write_bytes(data)
    before = sorted((file.name, file.read_bytes()) for file in golden.iterdir())
    calls: dict[str, Callable[[], object]] = {
        "r": lambda: VectorIndex.open(golden),
        "r+": lambda: VectorIndex.open(golden, "r+"),
        "untrusted": lambda: VectorIndex.open(golden, trusted=False),
        "repair": lambda: VectorIndex.repair(golden),
    }
    with pytest.raises(FormatVersionError, match=f"MANIFEST has format {FORMAT + 1};.*newer"):
        calls[call]()
    assert sorted((file.name, file.read_bytes()) for file in golden.iterdir()) == before
