"""Storage that refuses: a typed error, the state before stands, and work goes on.

Every system call that changes anything fails once in its turn, for every kind of operation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sample_rows import row_of, rows_of

from vecindex import VectorIndex
from vecindex.errors import StorageFailedError, StorageFullError, VecindexError
from vecindex.index import maintenance
from vecindex.store.segment import TailView

CALLS = ("open", "write", "fdatasync", "fsync", "ftruncate", "replace", "unlink")


class Faults:
    """Replaces the system calls of `os`; the n-th call of one kind fails.

    Parameters
    ----------
    kind : str
        Which call.
    number : int
        Which one of these, from 0.
    error : BaseException
        What it raises. A write puts half of its bytes into the file before.
    """

    def __init__(self, kind: str, number: int, error: BaseException) -> None:
        self.kind, self.number, self.error = kind, number, error
        self.count = 0
        self.real = {name: getattr(os, name) for name in CALLS}

    @property
    def hit(self) -> bool:
        """Whether the call was reached."""
        return self.count > self.number

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return self.real[name](*arguments, **options)
        if name == self.kind:
            self.count += 1
            if self.count - 1 == self.number:
                if name == "write":
                    self.real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise self.error
        if name in ("fdatasync", "fsync"):
            return None  # nothing here depends on the disk itself
        return self.real[name](*arguments, **options)

    @contextmanager
    def active(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(
                    os,
                    name,
                    lambda *arguments, name=name, **options: self.call(name, *arguments, **options),
                )
            yield


def shown(index: VectorIndex) -> dict[Any, Any]:
    """Return all records with their rows."""
    return {
        record.id: (record.text, record.metadata, record.vector.tolist())
        for record in index.scan(vectors=True)
    }


def add(index: VectorIndex) -> object:
    ids, _, vectors = rows_of(["new", 77])
    return index.add(ids=ids, vectors=vectors, texts=["one", "two"])


def upsert(index: VectorIndex) -> object:
    ids, _, vectors = rows_of(["new", 3])
    return index.upsert(ids=ids, vectors=-vectors, texts=["one", "two"])


OPERATIONS: dict[str, Callable[[VectorIndex], object]] = {
    "add": add,
    "upsert": upsert,
    "remove": lambda index: index.remove([3, 4, "b"]),
    "remove where": lambda index: index.remove(where={"third": True}),
    "optimize": lambda index: index.optimize(),
    "optimize flat": lambda index: index.optimize("flat"),
    "compact": lambda index: index.compact(),
    "flush": lambda index: index.flush(),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segment with an IVF structure, a sealed segment and a log, with removed rows in each."""
    path = tmp_path_factory.mktemp("template") / "x.vx"
    with VectorIndex.create(path, spec="ivf", maintenance="manual") as index:
        for first in (0, 20, 40):
            ids, _, vectors = rows_of(range(first, first + 20))
            index.add(ids=ids, vectors=vectors, metadata=[{"third": i % 3 == 0} for i in ids])
            if first == 0:
                index.optimize()
            elif first == 20:
                index._maintenance.seal()
            index.remove([first + 1, first + 5])
        ids, _, vectors = rows_of(["a", "b"])
        index.add(ids=ids, vectors=vectors)
    return path


@pytest.fixture(scope="module")
def expected(
    template: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[Any, Any], dict[Any, Any]]]:
    """What is shown before and after each operation when nothing fails."""
    found = {}
    for name, operation in OPERATIONS.items():
        path = tmp_path_factory.mktemp("expected") / "x.vx"
        shutil.copytree(template, path)
        with VectorIndex.open(path, "r+", maintenance="manual") as index:
            before = shown(index)
            operation(index)
            found[name] = before, shown(index)
    return found


CASES = [
    *[
        (name, False)
        for name in ("add", "upsert", "remove", "optimize", "optimize flat", "compact")
    ],
    *[(name, True) for name in ("upsert", "remove")],
]
FAILURES: dict[str, Callable[[], BaseException]] = {
    "full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "broken": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "interrupted": KeyboardInterrupt,
}


USUAL = dict.fromkeys(CALLS, "broken") | dict.fromkeys(("open", "write"), "full")


@pytest.mark.parametrize(
    ("kind", "failure"), [*USUAL.items(), *((kind, "interrupted") for kind in CALLS)]
)
@pytest.mark.parametrize(
    ("operation", "sealing"), CASES, ids=[f"{name}{' and seal' * seal}" for name, seal in CASES]
)
def test_any_call_may_fail(
    template: Path,
    expected: dict[str, tuple[dict[Any, Any], dict[Any, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    sealing: bool,
    kind: str,
    failure: str,
) -> None:
    before, after = expected[operation]
    for number in range(60):
        path = tmp_path / f"{number}.vx"
        shutil.copytree(template, path)
        faults = Faults(kind, number, FAILURES[failure]())
        acknowledged = dict(after)
        with Faults("", 0, OSError()).active():
            index = VectorIndex.open(path, "r+", maintenance="manual")
        assert shown(index) == before
        monkeypatch.setattr(maintenance, "_SEAL_OPERATIONS", 1 if sealing else 4096)
        with faults.active():
            try:
                OPERATIONS[operation](index)
            except (VecindexError, KeyboardInterrupt) as error:
                check_error(error, failure)
                # An interrupt may come when all is done; then it is done in whole.
                if failure == "interrupted" and shown(index) == after:
                    acknowledged = after
                else:
                    assert shown(index) == before, f"{kind} {number}: the state before stands"
                    acknowledged = before
            else:
                assert shown(index) == after, f"{kind} {number}"
        monkeypatch.setattr(maintenance, "_SEAL_OPERATIONS", 4096)
        with Faults("", 0, OSError()).active():
            go_on(index, path, acknowledged, f"{kind} {number}", compact=number % 5 == 1)
        shutil.rmtree(path)
        if not faults.hit:
            break
    assert not faults.hit, "there are more calls than were tried"


def check_error(error: BaseException, failure: str) -> None:
    if failure == "interrupted":
        assert isinstance(error, KeyboardInterrupt)
    else:
        wanted = StorageFullError if failure == "full" else StorageFailedError
        assert type(error) is wanted, repr(error)
        assert isinstance(error, OSError)
        assert error.errno == (errno.ENOSPC if failure == "full" else errno.EIO)
        assert "cannot" in str(error)


def go_on(
    index: VectorIndex, path: Path, acknowledged: dict[Any, Any], where: str, *, compact: bool
) -> None:
    """Check that the next operation works, or says what to do, and that a new handle agrees."""
    ids, _, vectors = rows_of(["next"])
    stands = dict(acknowledged)
    assert index.search(row_of("a"), k=1)[0].id == "a", where
    try:
        index.add(ids=ids, vectors=vectors)
    except StorageFailedError as error:
        assert "close this handle and open the index again" in str(error)
    else:
        stands["next"] = (None, None, vectors[0].tolist())
    assert shown(index) == stands, where
    index.close()
    with VectorIndex.open(path) as reader:
        assert shown(reader) == stands, f"{where}: what a reader finds"
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        assert shown(again) == stands, f"{where}: what the next writer finds"
        report = again.verify()
        assert report.ok, (where, report.problems)
        named = again._store.state.manifest.names() | {"MANIFEST", "LOCK"}
        assert {file.name for file in path.iterdir()} == named, f"{where}: left behind"
        again.upsert(ids=["after all"], vectors=vectors)
        if compact:
            again.compact()
        assert list(shown(again)) == [*stands, "after all"]


def test_a_failed_sync_ends_the_handle_for_writing_not_for_reading(
    template: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.vx"
    shutil.copytree(template, path)
    index = VectorIndex.open(path, "r+", maintenance="manual")
    before = shown(index)
    faults = Faults("fdatasync", 0, OSError(errno.EIO, "Input/output error"))
    with faults.active(), pytest.raises(StorageFailedError, match="cannot sync"):
        add(index)
    for name, operation in OPERATIONS.items():
        with pytest.raises(StorageFailedError, match="close this handle and open the index again"):
            operation(index)
        assert shown(index) == before, name
    assert index.search(row_of("a"), k=1)[0].id == "a"
    index.close()
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        assert shown(again) == before
        add(again)


def test_a_failed_flush_loses_no_row_that_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.vx"
    index = VectorIndex.create(path, durability="os", maintenance="manual")
    ids, _, vectors = rows_of(["a", "b"])
    index.add(ids=ids, vectors=vectors)
    faults = Faults("fdatasync", 0, OSError(errno.EIO, "Input/output error"))
    with faults.active(), pytest.raises(StorageFailedError):
        index.flush()
    with pytest.raises(StorageFailedError, match="open the index again"):
        index.remove(["a"])
    assert "a" in index
    index.close()
    with VectorIndex.open(path) as again:
        assert [record.id for record in again.scan()] == ["a", "b"]


@pytest.mark.parametrize("kind", ["write", "fdatasync", "fsync", "open", "replace"])
@pytest.mark.parametrize("failure", ["full", "broken"])
def test_the_first_rows_may_fail(tmp_path: Path, kind: str, failure: str) -> None:
    """They commit the dimension, too."""
    ids, _, vectors = rows_of(["a", "b"])
    for number in range(20):
        path = tmp_path / f"{number}.vx"
        with Faults("", 0, OSError()).active():
            index = VectorIndex.create(path, maintenance="manual")
        faults = Faults(kind, number, FAILURES[failure]())
        with faults.active():
            try:
                index.add(ids=ids, vectors=vectors)
            except (StorageFullError, StorageFailedError) as error:
                check_error(error, failure)
                assert len(index) == 0
        if faults.hit:
            index.close()
            index = VectorIndex.open(path, "r+", maintenance="manual")
            assert len(index) == 0
            index.add(ids=ids, vectors=vectors)
        assert [record.id for record in index.scan()] == ["a", "b"]
        index.close()
        if not faults.hit:
            break
    assert number > 0


@pytest.mark.parametrize("kind", ["write", "fdatasync", "fsync", "open", "replace"])
def test_a_failing_create_leaves_nothing_that_stands_in_the_way(tmp_path: Path, kind: str) -> None:
    for number in range(20):
        path = tmp_path / f"{number}.vx"
        faults = Faults(kind, number, FAILURES["full"]())
        with faults.active():
            try:
                VectorIndex.create(path).close()
            except StorageFullError:
                assert faults.hit
        if not faults.hit:
            break
        if not (path / "MANIFEST").exists():
            VectorIndex.create(path).close()
        with VectorIndex.open(path, "r+") as index:
            assert len(index) == 0
    assert number > 0


def test_an_interrupt_between_memory_and_log_hides_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupted rows are in the tail's memory already, but belong to no state."""
    index = VectorIndex.create(tmp_path / "x.vx", durability="os", maintenance="manual")
    ids, _, vectors = rows_of(["a", "b"])
    index.add(ids=ids, vectors=vectors)

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TailView, "__init__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.upsert(ids=["a"], vectors=-vectors[:1])
    for number in range(3):
        assert "a" in index
        assert index.get(["a"], vectors=True)[0].vector.tolist() == vectors[0].tolist()
        index.add(ids=[f"new {number}"], vectors=vectors[:1])
    with pytest.raises(ValueError, match="already"):
        index.add(ids=["a"], vectors=vectors[:1])
    assert index.remove(["a"]) == 1
    index.close()
    with VectorIndex.open(tmp_path / "x.vx") as again:
        assert [record.id for record in again.scan()] == ["b", "new 0", "new 1", "new 2"]


@pytest.mark.parametrize("failure", ["broken", "interrupted"])
@pytest.mark.parametrize("operation", ["optimize", "optimize flat", "compact"])
def test_a_commit_is_whole_in_memory_though_old_files_cannot_be_removed(
    template: Path, tmp_path: Path, operation: str, failure: str
) -> None:
    for number in range(1, 6):  # the first is the manifest's temporary file
        path = tmp_path / f"{number}.vx"
        shutil.copytree(template, path)
        index = VectorIndex.open(path, "r+", maintenance="manual")
        faults = Faults("unlink", number, FAILURES[failure]())
        with faults.active(), contextlib.suppress(StorageFailedError, KeyboardInterrupt):
            OPERATIONS[operation](index)
        assert faults.hit
        state = index._store.state
        assert tuple(segment.entry for segment in state.segments) == state.manifest.segments
        file = state.structure_file
        assert (file and file.entry) == (state.manifest.structure and state.manifest.structure.file)
        index.close()
