"""Faults: one file operation fails, and all that may follow from it is checked."""

from __future__ import annotations

import errno
import gc
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from vecindex import VectorIndex
from vecindex.errors import IndexPathError, StorageFailedError, StorageFullError, VecindexError
from vecindex.index import maintenance

from .calls import CHANGES, Calls, changes
from .crash import working_directory
from .disk import Image, read_image, write_image
from .operations import NAME, Content, shown, unit_rows

_SYNCS = ("fsync", "fdatasync")
_REOPEN = "close this handle and open the index again"


@dataclass(frozen=True)
class Failure:
    """What goes wrong: in which calls, with which error, and what is to be raised."""

    applies: Callable[[str, tuple[Any, ...]], bool]
    error: Callable[[], BaseException]
    raised: type[BaseException]
    after: bool = False
    """Whether the call is carried out before it fails."""


def _os(number: int) -> Callable[[], BaseException]:
    return lambda: OSError(number, os.strerror(number))


def _any(name: str, arguments: tuple[Any, ...]) -> bool:
    return name not in ("close", "lseek")  # a file that cannot be closed stays open


FAILURES = {
    "full": Failure(
        lambda name, given: changes(name, given) and name not in ("unlink", "ftruncate"),
        _os(errno.ENOSPC),
        StorageFullError,
    ),
    "broken write": Failure(
        lambda name, given: changes(name, given) and name not in _SYNCS,
        _os(errno.EIO),
        StorageFailedError,
    ),
    "broken sync": Failure(lambda name, _: name in _SYNCS, _os(errno.EIO), StorageFailedError),
    "too many files": Failure(
        lambda name, _: name == "open", _os(errno.EMFILE), StorageFailedError
    ),
    "no memory": Failure(_any, MemoryError, MemoryError),
    "interrupt": Failure(_any, KeyboardInterrupt, KeyboardInterrupt),
    "late interrupt": Failure(
        lambda name, _: name in CHANGES or name == "close", KeyboardInterrupt, KeyboardInterrupt,
        after=True,
    ),
}  # fmt: skip


class Faults(Calls):
    """Lets the n-th call that a failure applies to fail; a write that fails has done half."""

    def __init__(self, failure: Failure, number: int) -> None:
        super().__init__()
        self._failure, self._left = failure, number

    @property
    def hit(self) -> bool:
        """Whether it came to that call."""
        return self._left < 0

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Carry out one call, or fail."""
        if not self.hit and self._failure.applies(name, arguments):
            self._left -= 1
            if self.hit:
                if self._failure.after:
                    self._real[name](*arguments, **options)
                elif name == "write":
                    self._real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise self._failure.error()
        return None if name in _SYNCS else self._real[name](*arguments, **options)


class Handles:
    """The index of one try, open for writing and for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: list[VectorIndex] = []

    def to(self, mode: Any) -> VectorIndex:
        """Open the index, or return the one that was opened first."""
        index = VectorIndex.open(self.path, mode, maintenance="manual")
        self.open.append(index)
        return index

    @property
    def writer(self) -> VectorIndex:
        """The index open for writing."""
        return self.open[0]


@dataclass(frozen=True)
class Operation:
    """What is done on the template."""

    run: Callable[[Handles], object]
    prepare: Callable[[Handles], object] = lambda handles: handles.to("r+")
    seals: bool = False
    """Whether the operation folds, too."""


def _add(handles: Handles) -> object:
    return handles.writer.add(ids=["n", 77], vectors=unit_rows(["n", 77]), texts=["one", "two"])


def _upsert(handles: Handles) -> object:
    return handles.writer.upsert(ids=["n", 3], vectors=unit_rows([1, 2]), texts=["one", "two"])


def _prepare_refresh(handles: Handles) -> None:
    writer, reader = handles.to("r+"), handles.to("r")
    writer.add(ids=["seen"], vectors=unit_rows(["seen"]))
    writer._maintenance.seal()
    assert "seen" not in reader


def _nothing(_: Handles) -> None:
    pass


OPERATIONS = {
    "add": Operation(_add),
    "add and fold": Operation(_add, seals=True),
    "upsert": Operation(_upsert),
    "remove": Operation(lambda handles: handles.writer.remove([3, 4, "b"])),
    "remove and fold": Operation(lambda handles: handles.writer.remove([3, "b"]), seals=True),
    "fold": Operation(lambda handles: handles.writer._maintenance.seal()),
    "optimize": Operation(lambda handles: handles.writer.optimize()),
    "change": Operation(lambda handles: handles.writer.optimize("flat/sq8")),
    "compact": Operation(lambda handles: handles.writer.compact()),
    "close": Operation(lambda handles: handles.writer.close()),
    "recover": Operation(lambda handles: handles.to("r+"), _nothing),
    "read": Operation(lambda handles: handles.to("r"), _nothing),
    "refresh": Operation(lambda handles: handles.open[1].refresh(), _prepare_refresh),
}


def make_template(root: Path) -> tuple[Image, Content]:
    """Return an index with a structure, a sealed segment, removed rows, and a torn log."""
    path = root / NAME
    with VectorIndex.create(path, spec="ivf", maintenance="manual") as index:
        for first in (0, 10, 20):
            ids = list(range(first, first + 10))
            metadata = [{"third": number % 3 == 0} for number in ids]
            index.add(ids=ids, vectors=unit_rows(ids), metadata=metadata)
            if first == 0:
                index.optimize()
            elif first == 10:
                index._maintenance.seal()
            index.remove([first + 1, first + 5])
        index.add(ids=["a", "b"], vectors=unit_rows(["a", "b"]))
        content = shown(index)
    image = read_image(root)
    name = max(name for name in image if "/log-" in name)
    return {**image, name: (image[name] or b"") + b"VXF\n torn"}, content


def fail_everywhere(operation: Operation, failure: Failure, image: Image, before: Content) -> int:
    """Let every call of an operation fail in its turn; return how many there were."""
    with working_directory() as work:
        after = _undisturbed(operation, work / "after", image)
        number = 0
        while True:
            root = work / str(number)
            write_image(root, image)
            try:
                hit = _fail(operation, failure, number, root / NAME, before, after)
            except BaseException as error:
                error.add_note(f"call {number}")
                raise
            shutil.rmtree(root)
            if not hit:
                break
            number += 1
        _nothing_mapped(work)
        return number


def _undisturbed(operation: Operation, root: Path, image: Image) -> Content:
    write_image(root, image)
    handles = Handles(root / NAME)
    operation.prepare(handles)
    operation.run(handles)
    for index in handles.open:
        index.close()
    with VectorIndex.open(root / NAME) as index:
        return shown(index)


def _fail(
    operation: Operation,
    failure: Failure,
    number: int,
    path: Path,
    before: Content,
    after: Content,
) -> bool:
    """Let one call fail; return whether it came to that."""
    handles = Handles(path)
    operation.prepare(handles)
    if handles.open:
        before = shown(handles.open[-1])
    faults = Faults(failure, number)
    raised = False
    seal_operations = 1 if operation.seals else 4096
    with patch.object(maintenance, "_SEAL_OPERATIONS", seal_operations), faults.active():
        try:
            operation.run(handles)
        except (VecindexError, MemoryError, KeyboardInterrupt) as error:
            assert isinstance(error, failure.raised), repr(error)
            raised = True  # the error itself would keep mapped files open
    allowed = [before, after] if raised and failure.raised in _ABRUPT else [before]
    if not raised:
        allowed = [after]
    content = _goes_on(handles, allowed, failed=faults.hit)
    _nothing_open(path)
    _next_one(path, content, number)
    return faults.hit


_ABRUPT = (KeyboardInterrupt, MemoryError)
"""They may come when all is done; then it is done in whole."""


def _goes_on(handles: Handles, allowed: list[Content], *, failed: bool) -> list[Content]:
    """Go on with the handles that there are, and return what the next one may find."""
    if handles.open and not handles.open[-1].closed:
        shows = shown(handles.open[-1])
        assert shows in allowed, f"it shows {[row[0] for row in shows]}"
    if handles.open and not handles.writer.closed and handles.writer.mode == "r+":
        stands = shown(handles.writer)
        row = {"ids": ["next"], "vectors": unit_rows(["next"])}
        try:
            handles.writer.add(**row)
        except StorageFailedError as error:
            assert failed and _REOPEN in str(error)
            allowed = [stands]
        else:
            allowed = [(*stands, ("next", (None, "None", row["vectors"][0].tobytes())))]
            assert shown(handles.writer) == allowed[0]
    for index in handles.open:
        index.close()
    handles.open.clear()
    return allowed


def _open_files(path: Path) -> list[str]:
    """Return the files below a path that this process has open, or mapped."""
    held = []
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with suppress(FileNotFoundError):
            held.append(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
    return [target for target in held if target.startswith(str(path))]


def _nothing_open(path: Path) -> None:
    """Check that no file is open any more that is not mapped: those go with their arrays."""
    held = [name for name in _open_files(path) if re.search(r"LOCK|MANIFEST|/log-|vx$", name)]
    assert not held, f"still open: {held}"


def _nothing_mapped(path: Path) -> None:
    gc.collect()
    held = _open_files(path)
    assert not held, f"still open: {held}"


def _next_one(path: Path, allowed: list[Content], number: int) -> None:
    """Check what the next writer finds, and that nothing is in its way."""
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        found = shown(again)
        assert found in allowed, f"the next one finds {[row[0] for row in found]}"
        named = again._store.state.manifest.names() | {"MANIFEST", "LOCK"}
        left = {file.name for file in path.iterdir()} - named
        assert not left, f"left behind: {sorted(left)}"
        if number % 3 == 0:
            assert again.verify().ok
        if number % 7 == 1:
            again.compact()
        again.upsert(ids=["after all"], vectors=unit_rows(["after all"]))
        assert shown(again)[:-1] == found


def fail_to_create(failure: Failure) -> int:
    """Let every call of the creation of an index fail in its turn; return how many there were."""
    with working_directory() as work:
        number = 0
        while True:
            path = work / str(number) / NAME
            faults = Faults(failure, number)
            with faults.active():
                try:
                    VectorIndex.create(path).close()
                except (VecindexError, *_ABRUPT) as error:
                    assert isinstance(error, failure.raised), repr(error)
            _nothing_open(path)
            try:
                VectorIndex.create(path).close()
            except IndexPathError:
                assert (path / "MANIFEST").exists()
            _next_one(path, [()], number)
            if not faults.hit:
                break
            number += 1
        _nothing_mapped(work)
        return number
