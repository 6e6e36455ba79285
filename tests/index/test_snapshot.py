"""Snapshots: whole copies of the newest state, made while writers go on, that share nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vecindex import VectorIndex
from vecindex.cli.app import app
from vecindex.errors import (
    CorruptIndexError,
    IndexPathError,
    StorageFailedError,
    StorageFullError,
)
from vecindex.store import snapshot as snapshots
from vecindex.store.files import Directory
from vecindex.store.log import LogWriter

DIM = 8
Content = list[tuple[Any, ...]]


def rows_of(ids: list[str], salt: int = 0) -> dict[str, Any]:
    """Return the columns of rows that depend on their ids."""
    vectors = [np.random.default_rng([*name.encode(), salt]).normal(size=DIM) for name in ids]
    metadata = [{"name": name, "salt": salt} for name in ids]
    texts = [f"text of {name}, {salt}" for name in ids]
    return {"ids": ids, "texts": texts, "metadata": metadata, "vectors": np.array(vectors)}


def shown(index: VectorIndex) -> Content:
    """Return everything that an index shows."""
    return [
        (record.id, record.text, record.metadata, record.vector.tobytes())
        for record in index.scan(vectors=True)
    ]


def shown_at(path: Path) -> Content:
    """Return what the index at a path shows, after checking every byte of it."""
    with VectorIndex.open(path) as index:
        report = index.verify()
        assert report.ok, report.problems
        assert index.info().notes == ()
        return shown(index)


def names(path: Path) -> list[str]:
    """Return the names in a directory, hidden ones too."""
    return sorted(os.listdir(path))  # noqa: PTH208  # names


@pytest.fixture
def index(create: Callable[..., VectorIndex]) -> VectorIndex:
    """An index with a segment, a structure, removed rows, columns, queries, and a log."""
    made = create(spec="ivf")
    made.add(**rows_of([f"a{number}" for number in range(60)]))
    made.optimize(queries=np.random.default_rng(0).normal(size=(9, DIM)))
    made.remove(["a3"])
    made._maintenance.seal()
    made.add(**rows_of(["b0", "b1"]))
    made.upsert(**rows_of(["a5"], 1))
    return made


def no_link(*_: Any, **__: Any) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
@pytest.mark.parametrize("handle", ["writer", "reader", "stale reader", "untrusted", "after"])
def test_a_snapshot_is_the_newest_state(
    index: VectorIndex,
    reopen: Callable[..., VectorIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    handle: str,
    linked: bool,
) -> None:
    if not linked:
        monkeypatch.setattr(os, "link", no_link)
    old = reopen(trusted=handle != "untrusted")
    before = shown(old)
    if handle == "stale reader":
        index.compact()
        index.add(**rows_of(["c"]))
    if handle == "after":
        index.close()
    taker = index if handle == "writer" else old
    expected = shown_at(index.path)
    copy = taker.snapshot(tmp_path / "new" / "copy.vx")
    assert copy == tmp_path / "new" / "copy.vx"
    assert names(copy.parent) == ["copy.vx"], "nothing is left beside it"
    assert shown_at(copy) == expected
    assert shown(old) == before, "what a reader shows does not change under it"
    immutable = [name for name in names(copy) if not name.startswith(("log", "MANIFEST"))]
    assert len(immutable) >= 4
    for name in names(copy):
        shared = (copy / name).samefile(index.path / name)
        assert shared == (linked and name in immutable), name
    with VectorIndex.open(copy) as reader:
        if handle == "untrusted":
            assert len(immutable) == 4, "what was not admitted does not come along"
        elif handle != "stale reader":
            assert reader.info().structure == "ivf"
        assert reader.search(np.ones(DIM), k=5, exact=True) == old.search(np.ones(DIM), k=5)


def test_an_empty_index_has_snapshots(create: Callable[..., VectorIndex], tmp_path: Path) -> None:
    index = create()
    (tmp_path / "empty").mkdir()
    assert shown_at(index.snapshot(str(tmp_path / "empty"))) == []
    with VectorIndex.open(tmp_path / "empty", "r+") as copy:
        copy.add(**rows_of(["x"]))
    assert len(index) == 0


def everything(index: VectorIndex) -> None:
    """Do all that changes files."""
    index.add(**rows_of(["new"], 2))
    index.upsert(**rows_of(["a7"], 3))
    index.remove(["a1", "b0"])
    index.optimize()
    index.remove(["a2"])
    index.compact()
    index.optimize("hnsw")
    index.add(**rows_of(["last"], 4))


@pytest.mark.parametrize("changed", ["origin", "copy"])
def test_neither_sees_what_is_done_to_the_other(
    index: VectorIndex, tmp_path: Path, changed: str
) -> None:
    copy = index.snapshot(tmp_path / "copy")
    before = shown(index)
    index.close()
    one, other = (index.path, copy) if changed == "origin" else (copy, index.path)
    untouched = {name: (other / name).read_bytes() for name in names(other)}
    with VectorIndex.open(one, "r+", maintenance="manual") as writer:
        everything(writer)
    log = next(one.glob("log-*"))
    log.write_bytes(log.read_bytes() + b"torn")  # recovery cuts it
    with VectorIndex.open(one, "r+", maintenance="manual") as writer:
        assert "dropped" in str(writer.info().notes)
        writer.remove(["last"])
    (one / next(name for name in names(one) if name.startswith("structure"))).unlink()
    VectorIndex.repair(one)
    assert {name: (other / name).read_bytes() for name in names(other)} == untouched
    assert shown_at(other) == before
    with VectorIndex.open(other, "r+", maintenance="manual") as writer:
        everything(writer)
    assert "new" in [row[0] for row in shown_at(other)]
    assert "last" not in [row[0] for row in shown_at(one)]


def test_what_is_kept_beside_for_builds_comes_along(index: VectorIndex, tmp_path: Path) -> None:
    (index.path / "build.json").write_text("{}")
    (index.path / "foreign").write_text("not ours")
    copy = index.snapshot(tmp_path / "copy")
    assert (copy / "build.json").read_text() == "{}"
    assert not (copy / "foreign").exists()
    assert not (copy / "LOCK").exists()


# -- where it cannot be put ------------------------------------------------------------------


def a_file(path: Path) -> None:
    path.write_text("mine")


def full_of_something(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("mine")


def a_link(path: Path) -> None:
    path.with_name("empty").mkdir()
    path.symlink_to(path.with_name("empty"))


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


@pytest.mark.parametrize("what", [a_file, full_of_something, a_link, nowhere])
def test_what_is_there_is_never_touched(
    index: VectorIndex, tmp_path: Path, what: Callable[[Path], None]
) -> None:
    dest = tmp_path / "dest"
    what(dest)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IndexPathError, match=f"^{dest} exists and is no empty directory; choose"):
        index.snapshot(dest)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("where", [".", "sub", "sub/further", "../link/sub"])
def test_an_index_holds_no_snapshot_of_itself(
    index: VectorIndex, tmp_path: Path, where: str
) -> None:
    (tmp_path / "link").symlink_to(index.path)
    before = names(index.path)
    with pytest.raises(IndexPathError, match="is in the index itself"):
        index.snapshot(index.path / where)
    assert names(index.path) == before


def test_what_appears_there_meanwhile_is_never_touched(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, real = tmp_path / "dest", Directory.move

    def late(self: Directory, path: Path) -> None:
        full_of_something(dest)
        real(self, path)

    monkeypatch.setattr(Directory, "move", late)
    with pytest.raises(IndexPathError, match="exists and is no empty directory"):
        index.snapshot(dest)
    assert names(dest) == ["file"]
    assert names(tmp_path) == ["dest", "x.vx"]


def test_a_parent_that_is_a_file(index: VectorIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageFailedError, match="Not a directory"):
        index.snapshot(tmp_path / "file" / "dest")


FULL, BROKEN = OSError(errno.ENOSPC, "no room"), OSError(errno.EIO, "broken")
FAILURES: dict[str, list[BaseException]] = {
    "mkdir": [FULL, KeyboardInterrupt()],
    "link": [KeyboardInterrupt()],  # other failures have the file copied
    "open": [BROKEN, KeyboardInterrupt()],
    "write": [FULL, BROKEN, KeyboardInterrupt()],
    "fdatasync": [BROKEN, KeyboardInterrupt()],
    "fsync": [BROKEN, KeyboardInterrupt()],
    "rename": [FULL, KeyboardInterrupt()],
}


@pytest.mark.parametrize("function", FAILURES)
def test_a_failure_anywhere_leaves_nothing_half(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    before, stored, copy = shown(index), names(index.path), tmp_path / "copy"
    for error in FAILURES[function]:
        for failures in count():
            calls, real = iter(range(failures + 1)), getattr(os, function)

            def once(*arguments: Any, **options: Any) -> Any:
                if next(calls, None) == failures:  # noqa: B023  # called in this turn
                    raise error  # noqa: B023
                return real(*arguments, **options)  # noqa: B023

            with monkeypatch.context() as patch:
                if function != "link":
                    patch.setattr(os, "link", no_link)
                patch.setattr(os, function, once)
                try:
                    index.snapshot(copy)
                except (StorageFullError, StorageFailedError, KeyboardInterrupt):
                    assert set(names(tmp_path)) <= {"x.vx", "copy"}
                else:
                    break
            if copy.exists():  # it is all there, only its durability is in doubt
                assert function in ("fsync", "open")  # of the directory in which it now is
                assert shown_at(copy) == before
                shutil.rmtree(copy)
        assert failures > 0
        assert shown_at(copy) == before == shown(index)
        assert names(index.path) == stored
        shutil.rmtree(copy)


# -- while others write ----------------------------------------------------------------------


@pytest.mark.parametrize("handle", ["writer", "reader"])
def test_files_that_vanish_have_it_begin_again(
    index: VectorIndex,
    reopen: Callable[..., VectorIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    handle: str,
) -> None:
    taker = index if handle == "writer" else reopen()
    real, done = Directory.map, []

    def late(self: Directory, name: str, **options: Any) -> Any:
        if options == {} and name.startswith("ids") and len(done) in (0, 2):
            done.append(name)
            index.remove([f"a{10 + len(done)}"])
            index.compact()
            done.append(name)
        return real(self, name, **options)

    monkeypatch.setattr(Directory, "map", late)
    copy = taker.snapshot(tmp_path / "copy")
    monkeypatch.undo()
    assert len(done) == 4
    assert shown_at(copy) == shown(index)
    assert set(names(copy)) == set(names(index.path)) - {"LOCK"}


@pytest.mark.parametrize("number", range(6))
def test_files_that_vanish_later_do_not_matter(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Or a writer that folds all the time could have it begin again for ever."""
    before, real, turns = shown(index), Directory.link, count()

    def late(self: Directory, name: str, target: Directory) -> bool:
        if next(turns) == number:
            index.remove(["a11"])
            index.compact()
        return real(self, name, target)

    monkeypatch.setattr(Directory, "link", late)
    copy = index.snapshot(tmp_path / "copy")
    assert next(turns) > number
    assert shown_at(copy) == before != shown(index)


def test_a_missing_cache_is_missing_in_the_copy(index: VectorIndex, tmp_path: Path) -> None:
    (structure,) = index.path.glob("structure-*")
    structure.unlink()
    with VectorIndex.open(index.path) as reader:
        copy = reader.snapshot(tmp_path / "copy")
    with VectorIndex.open(copy) as opened:
        assert shown(opened) == shown(index)
    with VectorIndex.open(copy, "r+", maintenance="manual") as opened:
        opened.optimize()
        assert opened.verify().ok


def test_a_cache_that_a_commit_replaces_is_not_missed(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.optimize()
    real, done = Directory.map, []

    def late(self: Directory, name: str, **options: Any) -> Any:
        if name.startswith("structure") and not done:
            done.append(name)
            index.optimize("hnsw")  # leaves the segment as it is
        return real(self, name, **options)

    monkeypatch.setattr(Directory, "map", late)
    copy = index.snapshot(tmp_path / "copy")
    assert done
    assert shown_at(copy) == shown(index)
    assert any(name.startswith("structure") for name in names(copy))


def spoil(path: Path, pattern: str) -> str:
    """Flip a byte of a file; return its name."""
    (file,) = path.glob(pattern)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    return file.name


@pytest.mark.parametrize("pattern", ["vectors-*", "rows-*", "ids-*", "queries-*", "dead-*"])
def test_damaged_files_are_not_copied_silently(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    index.remove(["a9"])
    index._maintenance.seal()
    if pattern in ("vectors-*", "rows-*", "ids-*"):
        index.compact()
    monkeypatch.setattr(os, "link", no_link)
    name, tries, real = spoil(index.path, pattern), [], snapshots.copy_file

    def counting(data: Any, target: Directory, file: str) -> Any:
        tries.append(file)
        return real(data, target, file)

    monkeypatch.setattr(snapshots, "copy_file", counting)
    with pytest.raises(CorruptIndexError, match=rf"x\.vx/{name} is damaged"):
        index.snapshot(tmp_path / "copy")
    assert tries.count(name) == 1, "it may be large, and will not get better"
    assert names(tmp_path) == ["x.vx"]


@pytest.mark.parametrize("handle", ["writer", "reader"])
def test_a_damaged_log_is_named(
    index: VectorIndex, reopen: Callable[..., VectorIndex], tmp_path: Path, handle: str
) -> None:
    taker = index if handle == "writer" else reopen()
    name = spoil(index.path, "log-*")
    with pytest.raises(CorruptIndexError, match=rf"x\.vx/{name} is damaged at offset \d+"):
        taker.snapshot(tmp_path / "copy")
    assert names(tmp_path) == ["x.vx"]


def test_an_index_that_is_gone_has_no_snapshot(
    index: VectorIndex, reopen: Callable[..., VectorIndex], tmp_path: Path
) -> None:
    reader = reopen()
    index.close()
    shutil.rmtree(index.path)
    with pytest.raises(IndexPathError, match="no MANIFEST"):
        reader.snapshot(tmp_path / "copy")
    assert names(tmp_path) == []


def test_a_call_that_is_not_acknowledged_is_not_in_it(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = shown(index), LogWriter.sync

    def late(self: LogWriter) -> None:
        index.snapshot(tmp_path / "copy")  # all is written, but nothing promised
        real(self)

    monkeypatch.setattr(LogWriter, "sync", late)
    index.add(**rows_of(["c"]))
    monkeypatch.undo()
    assert shown_at(tmp_path / "copy") == before != shown(index)


def test_a_call_taken_back_under_a_reader(
    index: VectorIndex,
    reopen: Callable[..., VectorIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader has seen a call that then failed, while its log is being copied."""
    before, reader, real = shown(index), reopen(), Directory.read
    real_sync = LogWriter.sync

    def failing(self: LogWriter) -> None:
        monkeypatch.setattr(LogWriter, "sync", real_sync)
        reads = count()

        def late(directory: Directory, name: str, offset: int = 0) -> bytes:
            if name.startswith("log") and next(reads) == 1:  # the first one was the reader's
                self.take_back(size)
                index_log.write_bytes(index_log.read_bytes() + b"another call")
            return real(directory, name, offset)

        with monkeypatch.context() as patch:
            patch.setattr(Directory, "read", late)
            reader.snapshot(tmp_path / "copy")
        raise KeyboardInterrupt

    (index_log,) = index.path.glob("log-*")
    size = index_log.stat().st_size
    monkeypatch.setattr(LogWriter, "sync", failing)
    with pytest.raises(KeyboardInterrupt):
        index.add(**rows_of(["c"]))
    assert shown_at(tmp_path / "copy") == before == shown(index)


WRITER = """
import sys
import numpy as np
from vecindex import VectorIndex
from vecindex.index import maintenance
maintenance._SEAL_OPERATIONS = 5
rng = np.random.default_rng(0)
with VectorIndex.open(sys.argv[1], "r+", durability="os", maintenance="manual") as index:
    print("ready", flush=True)
    for number in range(100_000):
        ids = [f"{number}.{row}" for row in range(4)]
        index.add(ids=ids, vectors=rng.normal(size=(4, 8)))
        if number:
            index.upsert(ids=[f"{number - 1}.1"], vectors=rng.normal(size=(1, 8)))
        if number >= 20:
            index.remove([f"{number - 20}.{row}" for row in range(4)])
        if number % 7 == 0:
            index.compact()
"""


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
def test_readers_take_snapshots_while_a_writer_process_compacts(
    index: VectorIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """Each is one whole state: rows come and go by four, in order."""
    index.remove(where={"salt": {"$gte": 0}})
    path = index.path
    index.close()
    if not linked:
        monkeypatch.setattr(os, "link", no_link)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen = []
    try:
        assert process.stdout.readline() == "ready\n"
        with VectorIndex.open(path) as reader:
            while len(set(seen)) < 12 and len(seen) < 500:
                copy = reader.snapshot(tmp_path / "copy")
                groups = [record[0].split(".") for record in shown_at(copy)]
                found: dict[int, set[str]] = {}
                for group, row in groups:
                    found.setdefault(int(group), set()).add(row)
                assert all(len(rows) == 4 for rows in found.values())
                seen.append(max(found, default=-1))
                assert sorted(found) == list(range(min(found, default=0), seen[-1] + 1))
                shutil.rmtree(copy)
    finally:
        process.kill()
        process.communicate()
    assert seen == sorted(seen)
    assert len(set(seen)) == 12
    assert names(tmp_path) == ["x.vx"]


def test_threads_take_snapshots_while_others_write(index: VectorIndex, tmp_path: Path) -> None:
    failures: list[BaseException] = []
    stop = threading.Event()

    def take(number: int) -> None:
        try:
            for turn in range(8):
                copy = index.snapshot(tmp_path / f"copy-{number}-{turn}")
                found = {row[0] for row in shown_at(copy)}
                assert all({f"t{n}", f"u{n}"} <= found for n in range(1000) if f"t{n}" in found)
        except BaseException as error:
            failures.append(error)
        finally:
            stop.set() if number == 0 else None

    threads = [threading.Thread(target=take, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1000):
        index.add(**rows_of([f"t{number}", f"u{number}"]))
        if number % 5 == 0:
            index.compact()
        if stop.is_set():
            break
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_fork_of_the_writer_takes_what_is_there_now(index: VectorIndex, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.read(reading, 1)
            index.snapshot(tmp_path / "copy")
        finally:
            os._exit(0)
    index.add(**rows_of(["c"]))
    index.compact()
    os.write(writing, b"x")
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    assert shown_at(tmp_path / "copy") == shown(index)


def test_the_command(index: VectorIndex, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["snapshot", str(index.path), str(tmp_path / "copy")])
    assert done.exit_code == 0, done.output
    assert "61 rows" in done.stdout
    assert shown_at(tmp_path / "copy") == shown(index)
    done = run(app, ["snapshot", str(index.path), str(tmp_path / "other"), "--json"])
    facts = json.loads(done.stdout)
    assert (facts["path"], facts["rows"]) == (str(tmp_path / "other"), 61)
    again = run(app, ["snapshot", str(index.path), str(tmp_path / "copy")])
    assert again.exit_code == 1
    assert "exists" in again.stderr
