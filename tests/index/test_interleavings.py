"""Folds, forks, failures and interrupts at the moments where they once lost or mixed up rows."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.errors import (
    CorruptIndexError,
    IndexPathError,
    InputError,
    StorageFailedError,
)
from vecindex.index import maintenance, rebase
from vecindex.store import store as store_module
from vecindex.store.segment import Tail
from vecindex.store.store import Store

Create = Callable[..., VectorIndex]


def rows(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_normal((count, 8)).astype(np.float32)


def test_a_fold_within_a_fold_is_refused(create: Create, rng: np.random.Generator) -> None:
    index = create(spec="hnsw")
    index.add(vectors=rows(rng, 300))

    def fold_again(stage: str, done: int, total: int | None) -> None:
        index.remove([7])
        index.compact()

    with pytest.raises(InputError, match="folding the index already"):
        index.optimize(progress=fold_again)
    index.compact()
    assert len(index) == len(list(index.scan())) == 299
    assert 7 not in index


def test_a_fold_of_another_thread_keeps_the_new_promise(
    create: Create, rng: np.random.Generator
) -> None:
    index = create(spec="hnsw", target_recall=0.9)
    index.add(vectors=rows(rng, 300))
    others: list[threading.Thread] = []

    def compact_beside(stage: str, done: int, total: int | None) -> None:
        if not others:
            others.append(threading.Thread(target=index.compact))
            others[0].start()
            time.sleep(0.05)  # it waits for its turn by now; if not, the test shows less

    index.optimize(spec="ivf", target_recall=0.99, progress=compact_beside)
    others[0].join()
    info = index.info()
    assert (info.spec["kind"], info.target_recall) == ("ivf", 0.99)


def test_a_commit_takes_over_no_call_that_was_taken_back(
    create: Create, path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold reads the log while an add is under way, which then fails."""
    index = create(spec="hnsw")
    vectors = rows(rng, 200)
    index.add(vectors=vectors[:100])
    folded, frame_is_written, fold_has_read = (threading.Event() for _ in range(3))
    adding = threading.current_thread()
    replay, append = store_module.replay, Tail.append
    commit = rebase.Rebase.commit

    def failing_append(tail: Tail, count: int, ids: Any, *columns: Any) -> None:
        if threading.current_thread() is adding and "bad" in ids:
            frame_is_written.set()
            assert fold_has_read.wait(30)
            raise MemoryError
        append(tail, count, ids, *columns)

    def watched_replay(*arguments: Any) -> Any:
        result = replay(*arguments)
        if frame_is_written.is_set() and threading.current_thread() is not adding:
            fold_has_read.set()
        return result

    def late_commit(rebase: Any) -> None:
        folded.set()
        assert frame_is_written.wait(30)
        commit(rebase)

    monkeypatch.setattr(Tail, "append", failing_append)
    monkeypatch.setattr(store_module, "replay", watched_replay)
    monkeypatch.setattr(rebase.Rebase, "commit", late_commit)
    fold = threading.Thread(target=index.optimize)
    fold.start()
    assert folded.wait(30)
    with pytest.raises(MemoryError):
        index.add(ids=["bad"], vectors=vectors[100:101])
    fold.join()
    assert "bad" not in index
    index.add(ids=["good"], vectors=vectors[101:102])
    index.add(ids=["better"], vectors=vectors[102:103])
    index.close()
    with VectorIndex.open(path) as again:
        assert len(again) == 102
        assert "good" in again
        assert "better" in again
        assert again.info().indexed == 100


@pytest.mark.parametrize("operation", ["seal", "optimize"])
def test_an_interrupt_right_after_the_manifest_was_replaced(
    create: Create,
    path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
) -> None:
    index = create(spec="ivf")
    index.add(vectors=rows(rng, 100))
    index.optimize()
    index.add(vectors=rows(rng, 50))
    write_manifest = store_module.write_manifest

    def interrupted(*arguments: Any) -> None:
        write_manifest(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_manifest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index._maintenance.seal() if operation == "seal" else index.optimize()
    assert len(list(index.scan())) == 150
    with pytest.raises(StorageFailedError, match="open the index again"):
        index.add(vectors=rows(rng, 1))
    index.close()
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        assert len(list(again.scan())) == 150
        assert again.verify().ok
        again.add(vectors=rows(rng, 1))


def test_a_fork_cannot_write_and_closing_it_changes_nothing(
    create: Create, path: Path, rng: np.random.Generator
) -> None:
    index = create()
    index.add(ids=["a"], vectors=rows(rng, 1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            index.add(ids=["b"], vectors=rows(rng, 1))
        except StorageFailedError:
            index.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    index.add(ids=["c"], vectors=rows(rng, 1))
    index.close()
    with VectorIndex.open(path) as again:
        assert [record.id for record in again.scan()] == ["a", "c"]
        assert again.info().notes == ()


def test_create_removes_no_data_of_an_index_without_a_manifest(
    create: Create, path: Path, rng: np.random.Generator
) -> None:
    index = create()
    index.add(vectors=rows(rng, 3))
    index.close()
    manifest = (path / "MANIFEST").read_bytes()
    (path / "MANIFEST").unlink()
    with pytest.raises(IndexPathError, match="not an index"):
        VectorIndex.create(path)
    (path / "MANIFEST").write_bytes(manifest)
    with VectorIndex.open(path) as again:
        assert len(again) == 3


def test_an_interrupted_close_still_gives_up_the_lock(
    create: Create, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = create()

    def interrupted(_: Store, *arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index._maintenance, "close", lambda: interrupted(index._store))
        with pytest.raises(KeyboardInterrupt):
            index.close()
    VectorIndex.open(path, "r+").close()


def test_closing_gives_up_a_fold_of_another_thread(
    create: Create, path: Path, rng: np.random.Generator
) -> None:
    index = create(spec="hnsw")
    index.add(vectors=rows(rng, 20_000))
    building = threading.Event()
    errors: list[BaseException] = []

    def fold() -> None:
        try:
            index.optimize(progress=lambda *_: building.set())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=fold)
    thread.start()
    assert building.wait(30)
    index.close()
    thread.join()
    assert [type(error).__name__ for error in errors] == ["BuildInterrupted"]
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        assert len(again) == 20_000
        assert again.verify().ok


def test_an_add_whose_upkeep_fails_is_no_failed_add(
    path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_FIRST_ROWS", 10)

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with VectorIndex.create(path, spec="hnsw") as index:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            index.add(vectors=rows(rng, 50))
            monkeypatch.setattr(maintenance, "_SEAL_BYTES", 1)
            index.add(vectors=rows(rng, 50), metadata=[{"n": n} for n in range(50)])
        assert len(index) == 100
        assert index.count(where={"n": {"$lt": 20}}) == 20
        assert all("can't start new thread" in note for note in index.info().notes)
        assert index.info().notes


def test_a_damaged_row_behind_the_structure_is_never_passed_over(
    path: Path, rng: np.random.Generator
) -> None:
    """It would be the best one; that it is not among those found is no answer."""
    vectors = rows(rng, 1300)
    with VectorIndex.create(path, spec="hnsw", maintenance="manual") as index:
        index.add(vectors=vectors[:700])
        index.optimize()
        before = set(path.glob("vectors-*"))
        index.add(vectors=vectors[700:])
        index._maintenance.seal()
        assert [hit.id for hit in index.search(vectors[1100], k=1)] == [1100]
        row_bytes = vectors[0].nbytes
    (file,) = set(path.glob("vectors-*")) - before
    good = bytearray(file.read_bytes())
    place = len(good) - (1300 - 1100) * row_bytes
    good[place : place + row_bytes] = bytes(row_bytes)
    file.write_bytes(good)
    with VectorIndex.open(path) as index, pytest.raises(CorruptIndexError, match=file.name):
        index.search(vectors[1100], k=1)


@pytest.mark.parametrize("spec", ["flat", "hnsw", "ivf"])
def test_no_queries_have_no_answers(create: Create, rng: np.random.Generator, spec: str) -> None:
    index = create(spec=spec)
    index.add(vectors=rows(rng, 50))
    index.optimize()
    for _ in range(2):
        assert index.search([]) == []
        for exact in (False, True):
            ids, scores = index.search_arrays(np.empty((0, 8), np.float32), k=5, exact=exact)
            assert (len(ids), len(scores)) == (0, 0)
        index.add(vectors=rows(rng, 5))  # behind the structure


@pytest.mark.parametrize("spec", ["flat", "hnsw", "ivf"])
def test_scores_are_cosines_and_none_exceeds_one(
    create: Create, rng: np.random.Generator, spec: str
) -> None:
    vectors = rows(rng, 500)
    index = create(spec=spec)
    index.add(vectors=np.vstack([vectors, -vectors]))
    index.optimize()
    _, scores = index.search_arrays(vectors, k=1000, exact=True)
    assert scores.max() == 1
    assert scores.min() == -1
    assert index.search_arrays(vectors, k=1)[1].max() == 1


def test_a_moved_directory_opens(path: Path, create: Create, rng: np.random.Generator) -> None:
    index = create(spec="ivf")
    index.add(vectors=rows(rng, 100))
    index.optimize()
    index.close()
    other = path.with_name("elsewhere.vx")
    shutil.move(path, other)
    with VectorIndex.open(other) as moved:
        assert moved.search(rows(rng, 1)[0], k=3).plan.method == "ivf"
