"""Repair: caches come back whole, of the rest what is whole is kept, and nothing is guessed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.torture.samples import ask, copied, make_full, names, rows
from vecindex import VectorIndex
from vecindex.cli.app import app
from vecindex.errors import CorruptIndexError, IndexLockedError, StorageFullError
from vecindex.store import repair as repair_module
from vecindex.store.files import BLOCK_BYTES


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repair") / "full.vx"
    make_full(path)
    return path


@pytest.fixture
def path(full: Path, tmp_path: Path) -> Path:
    return copied(full, tmp_path / "x.vx")


def spoil(path: Path, kind: str, offset: int = 80, number: int = 0) -> str:
    """Change one byte of one file and return its name."""
    name = sorted(name for name in names(path) if name.startswith(kind))[number]
    data = bytearray((path / name).read_bytes())
    data[offset] ^= 0xFF
    (path / name).write_bytes(data)
    return name


def shown(path: Path) -> dict[Any, Any]:
    with VectorIndex.open(path) as index:
        assert index.verify().ok
        found = {r.id: (r.text, r.metadata, r.vector.tobytes()) for r in index.scan(vectors=True)}
        assert len(index) == len(found) == len(index.get(list(found)))
    return found


@pytest.mark.parametrize("kind", ["structure", "columns", "queries", "ids"])
def test_what_can_be_made_anew_is(path: Path, kind: str) -> None:
    with VectorIndex.open(path) as index:
        right = ask(index)
    name = spoil(path, kind)
    report = VectorIndex.repair(path)
    assert (report.rebuilt, report.lossless, report.rows) == ((name,), True, right["len"])
    with VectorIndex.open(path, "r+", maintenance="manual") as index:
        assert index.verify().ok
        assert ask(index) == right
        assert index.info().structure == "flat"
        index.upsert(**rows(0, 2))
    assert Path(report.aside or "", name).exists()
    assert VectorIndex.repair(path).problems == ()


def test_a_missing_cache_is_made_anew(path: Path) -> None:
    (path / spoil(path, "structure")).unlink()
    assert VectorIndex.repair(path).lossless
    with VectorIndex.open(path) as index:
        assert index.verify().ok


def test_sound_indexes_are_left_alone(path: Path) -> None:
    before = {name: (path / name).read_bytes() for name in names(path)}
    report = VectorIndex.repair(path)
    assert (report.problems, report.aside, report.lossless) == ((), None, True)
    assert {name: (path / name).read_bytes() for name in names(path)} == before
    assert [file.name for file in path.parent.iterdir()] == ["x.vx"]


@pytest.mark.parametrize("kind", ["rows", "vectors"])
def test_whole_rows_of_a_damaged_segment_are_kept(path: Path, kind: str) -> None:
    right = shown(path)
    name = spoil(path, kind, 100)
    damaged = (path / name).read_bytes()
    report = VectorIndex.repair(path)
    found = shown(path)
    assert found == {key: value for key, value in right.items() if key in found}
    lost = set(right) - set(found)
    # A block of 16 records; of the vectors the one block that they all are in.
    first = {f"id {n}" for n in range(16 if kind == "rows" else 40)} & set(right)
    assert lost == set(report.lost_ids) == first
    assert report.lost_rows == len(lost)
    assert report.rows == len(found)
    assert Path(report.aside or "", name).read_bytes() == damaged


def large(path: Path, *, text: str = "t") -> dict[int, bytes]:
    """Make an index with three blocks of vectors and return its rows."""
    vectors = np.random.default_rng(0).normal(size=(2500, 64))
    with VectorIndex.create(path, spec="flat", maintenance="manual") as index:
        index.add(ids=list(range(2500)), vectors=vectors, texts=[text] * 2500)
        index.remove(list(range(10, 20)))
        index.optimize()
        index.remove([2400])
        return {r.id: r.vector.tobytes() for r in index.scan(vectors=True)}


def test_vectors_of_other_blocks_are_kept(tmp_path: Path) -> None:
    right = large(tmp_path / "x.vx")
    spoil(tmp_path / "x.vx", "vectors", BLOCK_BYTES + 5)
    report = VectorIndex.repair(tmp_path / "x.vx")
    found = {key: vector for key, (_, _, vector) in shown(tmp_path / "x.vx").items()}
    assert found.items() <= right.items()
    assert 1000 <= len(report.lost_ids) == len(right) - len(found) <= 1026
    assert set(report.lost_ids) == set(right) - set(found)


def test_a_cut_file_keeps_what_it_still_has(tmp_path: Path) -> None:
    right = large(tmp_path / "x.vx")
    name = spoil(tmp_path / "x.vx", "vectors")
    os.truncate(tmp_path / "x.vx" / name, 2 * BLOCK_BYTES)
    spoil(tmp_path / "x.vx", "vectors")  # and back
    VectorIndex.repair(tmp_path / "x.vx")
    found = {key: vector for key, (_, _, vector) in shown(tmp_path / "x.vx").items()}
    assert found.items() <= right.items()
    assert len(found) > 2000


def test_records_at_another_ones_place_are_lost(tmp_path: Path) -> None:
    """Their own checksums hold; kept as they are, they would get other vectors."""
    path = tmp_path / "x.vx"
    right = large(path)
    (name,) = (name for name in names(path) if name.startswith("rows"))
    data = bytearray((path / name).read_bytes())
    blocks = -(-2490 // 16)
    table = np.frombuffer(data, "<u8", blocks + 1, len(data) - 4 - 8 * (blocks + 1)).tolist()
    a, b = (slice(*table[i : i + 2]) for i in (60, 61))
    assert a.stop - a.start == b.stop - b.start
    data[a], data[b] = data[b], data[a]
    (path / name).write_bytes(data)
    for ids_too in (False, True):
        again = copied(path, tmp_path / "y.vx")
        if ids_too:  # nothing left to compare with
            spoil(again, "ids", 200)
        report = VectorIndex.repair(again)
        found = {key: vector for key, (_, _, vector) in shown(again).items()}
        assert found.items() <= right.items()
        assert (report.lost_rows == 32) != ids_too


def test_a_damaged_block_table_loses_nothing(tmp_path: Path) -> None:
    right = large(tmp_path / "x.vx")
    (name,) = (name for name in names(tmp_path / "x.vx") if name.startswith("rows"))
    size = (tmp_path / "x.vx" / name).stat().st_size
    spoil(tmp_path / "x.vx", "rows", size - 40)
    assert VectorIndex.repair(tmp_path / "x.vx").lossless
    assert set(shown(tmp_path / "x.vx")) == set(right)


def test_removed_rows_come_back_only_if_asked(path: Path) -> None:
    right = shown(path)
    before = {name: (path / name).read_bytes() for name in names(path)}
    before[spoil(path, "dead", 1)] = b""
    with pytest.raises(CorruptIndexError, match=r"dead-\d+.vxd is damaged.*restore_removed=True"):
        VectorIndex.repair(path)
    assert names(path) == sorted(before)
    assert [file.name for file in path.parent.iterdir()] == ["x.vx"]
    VectorIndex.repair(path, restore_removed=True)
    found = shown(path)
    assert right.items() <= found.items()
    assert set(found) - set(right) <= {"id 3", "id 21", "id 5", "id 1002"}
    assert {"id 3", "id 21"} <= set(found)


def logged(path: Path) -> None:
    with VectorIndex.create(path, spec="flat", maintenance="manual") as index:
        index.add(**rows(0, 10))
        index.optimize()
        index.add(**rows(100, 3))
        index.add(**rows(200, 3))
        index.remove(["id 1"])
        index.add(**rows(300, 3))


@pytest.mark.parametrize("lost", ["put", "remove", "header"])
def test_whole_operations_of_a_damaged_log_are_kept(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "x.vx"
    logged(path)
    right = shown(path)
    (name,) = (name for name in names(path) if name.startswith("log"))
    data = (path / name).read_bytes()
    starts = [at for at in range(0, len(data), 64) if data[at : at + 4] == b"VXF\n"]
    at = {"put": starts[1] + 64, "remove": starts[2] + 64, "header": starts[1]}[lost]
    spoil(path, "log", at)
    with pytest.raises(CorruptIndexError):
        VectorIndex.open(path)
    if lost != "put":  # what was lost may have removed something
        with pytest.raises(CorruptIndexError, match=r"lost operations.*nothing was changed"):
            VectorIndex.repair(path)
    report = VectorIndex.repair(path, restore_removed=lost != "put")
    assert (report.lost_operations, report.lossless) == (1, False)
    found = shown(path)
    added = {f"id {n}" for n in range(200, 203)}
    assert set(found) == (set(right) | {"id 1"} if lost == "remove" else set(right) - added)
    with VectorIndex.open(path, "r+", maintenance="manual") as index:
        index.add(**rows(400, 2))
    assert len(shown(path)) == len(found) + 2


def test_a_missing_log(tmp_path: Path) -> None:
    logged(tmp_path / "x.vx")
    (name,) = (name for name in names(tmp_path / "x.vx") if name.startswith("log"))
    (tmp_path / "x.vx" / name).unlink()
    report = VectorIndex.repair(tmp_path / "x.vx", restore_removed=True)
    assert report.lost_operations >= 1
    assert set(shown(tmp_path / "x.vx")) == {f"id {n}" for n in range(10)}


def test_a_damaged_manifest_is_beyond_repair(path: Path) -> None:
    spoil(path, "MANIFEST", 100)
    before = {name: (path / name).read_bytes() for name in names(path)}
    with pytest.raises(CorruptIndexError, match=r"MANIFEST is damaged at offset 0.*from a backup"):
        VectorIndex.repair(path)
    assert {name: (path / name).read_bytes() for name in names(path)} == before


def test_not_while_a_writer_is_at_work(path: Path) -> None:
    with VectorIndex.open(path, "r+", maintenance="manual"):
        with pytest.raises(IndexLockedError):
            VectorIndex.repair(path)
        assert VectorIndex.repair(path, dry_run=True).problems == ()


@pytest.mark.parametrize("function", ["write_manifest", "write_records", "copy_file", "write_ids"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_repair_is_begun_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, function: str, when: str
) -> None:
    for kind, offset in (("rows", 100), ("columns", 80), ("structure", 80)):
        spoil(path, kind, offset)
    real: Callable[..., Any] = getattr(repair_module, function)

    def failing(*arguments: Any) -> None:
        if when == "after":
            real(*arguments)
        raise StorageFullError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(repair_module, function, failing)
        with pytest.raises(StorageFullError):
            VectorIndex.repair(path)
    VectorIndex.repair(path)
    assert len(shown(path)) > 20
    with VectorIndex.open(path, "r+", maintenance="manual") as index:
        expected = set(index._store.state.manifest.names()) | {"MANIFEST"}
    assert set(names(path)) == expected


def test_the_command(path: Path) -> None:
    run = CliRunner().invoke
    spoil(path, "rows", 100)
    spoil(path, "log", 100)
    shown_by = run(app, ["verify", str(path)])
    assert (shown_by.exit_code, "log-" in shown_by.output) == (1, True)
    assert run(app, ["repair", "--dry-run", str(path)]).exit_code == 1
    done = run(app, ["repair", str(path)])
    assert done.exit_code == 1  # something is lost
    assert "lost 14 rows and 1 logged operation" in done.output
    assert "lost ids: 'id 0', 'id 1', 'id 2', 'id 4'" in done.output
    assert run(app, ["verify", str(path)]).exit_code == 0
    assert "no problem" in run(app, ["repair", str(path)]).output
