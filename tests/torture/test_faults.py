"""Every file operation fails in its turn: a typed error, the state before, and work goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from vecindex import VectorIndex
from vecindex.errors import StorageFailedError
from vecindex.store.files import Appender

from .disk import Image
from .faults import FAILURES, OPERATIONS, fail_everywhere, fail_to_create, make_template
from .operations import Content
from .small_disk import permitted, run


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Image, Content]:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_call_may_fail(template: tuple[Image, Content], operation: str, failure: str) -> None:
    fail_everywhere(OPERATIONS[operation], FAILURES[failure], *template)


@pytest.mark.parametrize("failure", FAILURES)
def test_every_call_of_a_creation_may_fail(failure: str) -> None:
    assert fail_to_create(FAILURES[failure]) > 0


@pytest.mark.skipif(not permitted(), reason="mounting a small disk needs rights of its own")
def test_a_disk_that_is_too_small_by_any_number_of_pages(tmp_path: Path) -> None:
    pages = run(tmp_path, [f"size={4 * count}k" for count in range(1, 51)])
    full = list(pages.values())
    assert full[0] and not full[-1], "the sizes lie on both sides of what is needed"
    assert sum(count > 0 for count in full) > 30
    files = run(tmp_path, [f"nr_inodes={count}" for count in range(3, 25)])
    assert set(map(bool, files.values())) == {True, False}


# -- what was found -------------------------------------------------------------------------


def raising(error: BaseException) -> Any:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def test_a_full_disk_keeps_nobody_out_who_wants_to_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    VectorIndex.create(tmp_path / "x.vx").close()
    monkeypatch.setattr(os, "pwrite", raising(OSError(errno.ENOSPC, "full")))
    for _ in range(2):
        VectorIndex.open(tmp_path / "x.vx", "r+").close()


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_an_open_that_was_interrupted_gives_up_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    VectorIndex.create(tmp_path / "x.vx").close()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, call, raising(KeyboardInterrupt()))
        VectorIndex.open(tmp_path / "x.vx", "r+")
    VectorIndex.open(tmp_path / "x.vx", "r+").close()


def test_a_close_that_was_interrupted_gives_up_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = VectorIndex.create(tmp_path / "x.vx")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Appender, "close", raising(KeyboardInterrupt()))
        index.close()
    VectorIndex.open(tmp_path / "x.vx", "r+").close()


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_too_many_open_files_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    VectorIndex.create(tmp_path / "x.vx").close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", raising(OSError(errno.EMFILE, os.strerror(errno.EMFILE))))
        with pytest.raises(StorageFailedError, match=r"cannot read .*Too many open files"):
            VectorIndex.open(tmp_path / "x.vx", mode)
    VectorIndex.open(tmp_path / "x.vx", mode).close()
