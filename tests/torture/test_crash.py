"""A crash at every step: what was acknowledged is there, whole, and nothing else."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import vecindex
from vecindex import VectorIndex
from vecindex.store import frames, log, manifest, store
from vecindex.store.files import Appender, Directory, FileWriter
from vecindex.store.log import LogWriter
from vecindex.store.store import Store

from .calls import CHANGES
from .crash import (
    CrashError,
    Crashes,
    Tally,
    crash_a_script,
    crash_after_opening,
    working_directory,
)
from .disk import Image, read_image
from .operations import NAME, SCRIPTS, Content, Script, at_random, shown, unit_rows

Patch = Callable[[pytest.MonkeyPatch], None]

# Random images at each event, recoveries that are crashed, too, and the states that this makes.
SIZES = {
    "life": (24, 14, 5_000),
    "sealing": (8, 8, 4_500),
    "unsynced": (12, 10, 3_000),
    "taken back": (12, 10, 2_000),
    "asked": (12, 12, 2_000),
    "emptied": (10, 8, 1_500),
    "loaded": (10, 4, 700),
    "copied": (8, 2, 1_000),
}
SEEDS, LEAST = range(3), 700


def crash(name: str, samples: int, recoveries: int, seed: int = 1) -> Tally:
    run, options = SCRIPTS[name]
    return crash_a_script(run, options, seed, samples=samples, recoveries=recoveries)


@pytest.mark.long
@pytest.mark.parametrize("name", SCRIPTS)
def test_whatever_a_crash_leaves_is_what_was_acknowledged(name: str) -> None:
    samples, recoveries, least = SIZES[name]
    assert crash(name, samples, recoveries).states >= least


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crash_of_operations_at_random(seed: int) -> None:
    run, options = at_random(seed)
    tally = crash_a_script(run, options, seed, samples=8, recoveries=5)
    assert tally.states >= LEAST


def test_there_are_twenty_thousand_states() -> None:
    assert sum(least for *_, least in SIZES.values()) + LEAST * len(SEEDS) >= 20_000


WRITES = {
    "os": {"fdopen", *CHANGES},
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move"},
}
PATH_WRITES = {"open", "write_bytes", "write_text", "touch", "mkdir", "unlink", "rename", "rmdir"}


def test_every_write_goes_through_one_module() -> None:
    """Else what this file tests would not be all there is."""
    root = Path(vecindex.__file__).parent
    for path in (*root.glob("store/*.py"), *root.glob("index/*.py")):
        if path.name == "files.py":
            continue
        source = path.read_text()
        assert not re.search(r"O_WRONLY|O_RDWR|O_CREAT", source), path.name
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            place = f"{path.name}, line {node.lineno}"
            if isinstance(node.func, ast.Name):
                assert node.func.id != "open", place
            elif isinstance(node.func, ast.Attribute):
                owner, name = ast.unparse(node.func.value), node.func.attr
                assert name not in WRITES.get(owner, ()), place
                assert "path" not in owner.lower() or name not in PATH_WRITES, place


# -- what was found -------------------------------------------------------------------------


def torn_log(work: Path, tear: Callable[[bytearray, int], None]) -> tuple[Image, Content]:
    """Return an index with a segment and a log of two more rows, torn, and what it shows then."""
    root = work / "made"
    root.mkdir()
    path = root / NAME
    index = VectorIndex.create(path, durability="os", maintenance="manual")
    index.add(ids=["a"], vectors=unit_rows(["a"]))
    index._maintenance.seal()
    before = shown(index)
    (file,) = path.glob("log-*")
    index.add(ids=["b"], texts=["x" * 150], vectors=unit_rows(["b"]))
    first = file.stat().st_size
    index.add(ids=["c"], texts=["x" * 150], vectors=unit_rows(["c"]))
    image = read_image(root)
    index.close()
    log = bytearray(file.read_bytes())
    tear(log, first)
    return {**image, f"{NAME}/{file.name}": bytes(log)}, before


def short_of_a_zero(log: bytearray, first: int) -> None:
    """The first frame lacks the last byte of its padding."""
    del log[first - 1 :]


def a_hole(log: bytearray, first: int) -> None:
    """The first frame lacks some bytes; the second one, which follows it, is whole."""
    log[first - 64] ^= 255


TEARS = {"short of a zero": short_of_a_zero, "a hole": a_hole}


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS)
def test_what_recovery_dropped_never_comes_back(tear: Callable[[bytearray, int], None]) -> None:
    with working_directory() as work:
        image, before = torn_log(work, tear)
        for texts in (["x" * 150], ["x" * 1500], None):
            _drop_and_crash(work, image, before, texts)


def _drop_and_crash(work: Path, image: Image, before: Content, texts: list[str] | None) -> None:
    def run(script: Script) -> None:
        script.open()
        script.put(["n"], texts)
        script.close()

    crash_after_opening(Crashes(work), Random(0), image, before, run, 8)


# -- a crash test must find what is wrong ---------------------------------------------------


def no_sync(patch: pytest.MonkeyPatch) -> None:
    """Operations are acknowledged without being synced."""
    patch.setattr(LogWriter, "sync", lambda self: None)


def rename_first(patch: pytest.MonkeyPatch) -> None:
    """The manifest is put in place before its bytes are on the disk."""

    def write(self: Directory, name: str, data: bytes) -> None:
        self.remove(f"{name}.tmp")
        appender = self.create(f"{name}.tmp")
        appender.append([data])
        (self.path / f"{name}.tmp").replace(self.path / name)
        self.sync()
        appender.sync()
        appender.close()

    patch.setattr(Directory, "write", write)


def rename_unsynced(patch: pytest.MonkeyPatch) -> None:
    """The manifest is put in place, but nobody waits for the directory."""
    real = Directory.write

    def write(self: Directory, name: str, data: bytes) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Directory, "sync", lambda self: None)
            real(self, name, data)

    patch.setattr(Directory, "write", write)


def rewritten_in_place(patch: pytest.MonkeyPatch) -> None:
    """The manifest is written over."""

    def write(self: Directory, name: str, data: bytes) -> None:
        appender = self.reopen(name, 0) if name in self.names() else self.create(name)
        appender.append([data])
        appender.sync()
        appender.close()
        self.sync()

    patch.setattr(Directory, "write", write)


def tail_not_cut(patch: pytest.MonkeyPatch) -> None:
    """A torn tail stays where it is, and new frames are written over it."""

    def truncate(self: Appender, size: int) -> None:
        os.lseek(self._fd, size, os.SEEK_SET)

    patch.setattr(Appender, "truncate", truncate)


def cut_not_synced(patch: pytest.MonkeyPatch) -> None:
    """A torn tail is cut off, but may come back."""
    real = Directory.reopen

    def reopen(self: Directory, name: str, size: int) -> Appender:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Appender, "sync", lambda self: None)
            return real(self, name, size)

    patch.setattr(Directory, "reopen", reopen)


def taken_back_not_synced(patch: pytest.MonkeyPatch) -> None:
    """What failed is cut off, but may come back."""
    real = LogWriter.take_back

    def take_back(self: LogWriter, size: int) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Appender, "sync", lambda self: None)
            real(self, size)

    patch.setattr(LogWriter, "take_back", take_back)


def segments_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The manifest names files whose bytes are not on the disk."""
    real = FileWriter.finish

    def finish(self: FileWriter) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Appender, "sync", lambda self: None)
            return real(self)

    patch.setattr(FileWriter, "finish", finish)


def entries_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The manifest names files whose names are not on the disk."""
    patch.setattr(Directory, "sync", lambda self: None)
    real = manifest.write_manifest
    sync = Directory.sync

    def write(directory: Directory, content: manifest.Manifest) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Directory, "sync", sync)
            real(directory, content)

    patch.setattr(store, "write_manifest", write)


def removed_too_early(patch: pytest.MonkeyPatch) -> None:
    """Old files go before the new manifest is in place."""
    real = Store._commit

    def commit(self: Store, content: manifest.Manifest, *state: Any) -> None:
        for name in self.state.manifest.names() - content.names():
            self.directory.remove(name)
        real(self, content, *state)

    patch.setattr(Store, "_commit", commit)


def body_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Frames are believed by their header."""

    crc32 = frames.crc32

    def of_headers(data: Any, start: int = 0) -> int:
        return crc32(data, start) if memoryview(data).nbytes == 60 else 0

    patch.setattr(frames, "crc32", of_headers)


def torn_is_damage(patch: pytest.MonkeyPatch) -> None:
    """An unfinished write passes for damage."""
    patch.setattr(log, "has_later_frame", lambda *_: True)


def nothing_swept(patch: pytest.MonkeyPatch) -> None:
    """What was given up stays for ever."""
    patch.setattr(Store, "sweep", lambda self: None)


def rotated_unsynced(patch: pytest.MonkeyPatch) -> None:
    """A log is closed without being on the disk."""
    real = Store.freeze

    def freeze(self: Store) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(LogWriter, "sync", lambda self: None)
            return real(self)

    patch.setattr(Store, "freeze", freeze)


def moved_unsynced(patch: pytest.MonkeyPatch) -> None:
    """A whole index is put in place, but nobody waits for its name."""
    patch.setattr(Directory, "move", lambda self, path: self.path.rename(path))


BROKEN: list[tuple[Patch, str]] = [
    (no_sync, "emptied"),
    (rename_first, "emptied"),
    (rename_unsynced, "emptied"),
    (rewritten_in_place, "emptied"),
    (tail_not_cut, "a hole"),
    (cut_not_synced, "short of a zero"),
    (taken_back_not_synced, "taken back"),
    (segments_not_synced, "emptied"),
    (entries_not_synced, "emptied"),
    (removed_too_early, "emptied"),
    (body_not_checked, "emptied"),
    (torn_is_damage, "emptied"),
    (nothing_swept, "emptied"),
    (rotated_unsynced, "unsynced"),
    (moved_unsynced, "loaded"),
]


@pytest.mark.parametrize(("broken", "name"), BROKEN, ids=[patch.__name__ for patch, _ in BROKEN])
def test_a_store_that_is_broken_is_found_out(
    broken: Patch, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(CrashError):
        if name in SCRIPTS:
            crash(name, 6, 4)
        else:
            test_what_recovery_dropped_never_comes_back(TEARS[name])
