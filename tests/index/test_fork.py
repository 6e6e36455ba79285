"""Forks of a process that uses an index: they read on, cannot write, and leave the parent alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecindex import VectorIndex, forks
from vecindex.errors import IndexLockedError, StorageFailedError
from vecindex.store.lending import lending

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # beside threads: on purpose
]

Create = Callable[..., VectorIndex]
CHILDREN = Path(__file__).parent / "children"
PATIENCE_S = 30


def start_child(work: Callable[[], None]) -> int:
    """Fork; the child does the work, is killed if it hangs, and runs nothing of pytest's."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE_S)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def in_child(work: Callable[[], None]) -> None:
    """Do some work in a fork, and fail if it fails or hangs."""
    _, status = os.waitpid(start_child(work), 0)
    assert os.waitstatus_to_exitcode(status) == 0, "see stderr; -14 is a child that hung"


@contextmanager
def held(locks: list[object]) -> Iterator[None]:
    """Have another thread hold locks, for a `with` block."""
    taken, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)  # type: ignore[arg-type]
            taken.set()
            enough.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert taken.wait(10)
        yield
    finally:
        enough.set()
        thread.join()


def fill(index: VectorIndex, rng: np.random.Generator) -> np.ndarray:
    vectors = rng.standard_normal((3000, 8)).astype(np.float32)
    index.add(vectors=vectors[:1500], metadata=[{"n": n} for n in range(1500)])
    index.optimize()
    index.add(vectors=vectors[1500:], metadata=[{"n": n} for n in range(1500, 3000)])
    return vectors


def check_reads(index: VectorIndex, vectors: np.ndarray) -> None:
    ids, _ = index.search_arrays(vectors[::10], 1)
    assert (ids[:, 0] == np.arange(0, 3000, 10)).mean() > 0.9
    assert [hit.id for hit in index.search(vectors[7], 1, exact=True)] == [7]
    for _ in range(3):  # the second use of a filter makes a scan of its own
        hits = index.search(vectors[7], 5, where={"n": {"$gte": 1000}})
        assert min(hit.id for hit in hits) >= 1000
    assert index.count({"n": {"$lt": 2000}}) == 2000
    assert index.get([2999])[0].metadata == {"n": 2999}


def check_writes_are_refused(index: VectorIndex) -> None:
    for write in (
        lambda: index.add(vectors=np.ones((1, 8))),
        lambda: index.upsert(ids=[0], vectors=np.ones((1, 8))),
        lambda: index.remove([0]),
        lambda: index.remove(where={"n": 1}),
        index.flush,
        index.optimize,
        index.compact,
        index.maintain,
    ):
        with pytest.raises(StorageFailedError, match="this one is a fork; open it again here"):
            write()


@pytest.mark.parametrize("spec", ["flat/pq4", "ivf"])
def test_a_child_hangs_at_no_lock_that_another_thread_held(
    create: Create, rng: np.random.Generator, spec: str
) -> None:
    index = create(spec=spec)
    vectors = fill(index, rng)
    check_reads(index, vectors)  # so that there are all the locks of what is made at first use

    def child() -> None:
        check_reads(index, vectors)
        index.refresh()
        check_writes_are_refused(index)
        check_reads(index, vectors)
        index.close()

    with held(list(forks._locks)):
        in_child(child)
    index.add(vectors=vectors[:1])


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_child_steps_to_what_is_written_later(
    create: Create, reopen: Create, rng: np.random.Generator, mode: str
) -> None:
    writer = create(spec="flat/pq4")
    vectors = fill(writer, rng)
    index = writer if mode == "r+" else reopen()
    check_reads(index, vectors)
    ready, written = os.pipe(), os.pipe()

    def child() -> None:
        os.write(ready[1], b"x")
        os.read(written[0], 1)
        check_reads(index, vectors)  # of the state at the fork: its files are gone by now
        assert len(index) == 3000
        assert index.refresh()
        assert len(index) == 2999
        assert 5 not in index
        assert index.get(["new"])[0].text == "later"
        assert not index.refresh()
        assert index.verify().ok

    process = start_child(child)
    os.read(ready[0], 1)
    writer.remove([5, 6])
    writer.compact()
    writer.add(ids=["new"], vectors=vectors[:1], texts=["later"])
    os.write(written[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_a_refresh_that_a_fork_cuts_off_is_made_anew(
    create: Create, reopen: Create, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = create(spec="flat/pq4")
    fill(writer, rng)
    writer.optimize()
    reader = reopen()
    writer.optimize(target_recall=0.9)  # with nothing in the log: only the manifest is new
    load, main = reader._store._load, threading.current_thread()
    loading, enough = threading.Event(), threading.Event()

    def slow_load(*arguments: Any) -> Any:
        if threading.current_thread() is not main:
            loading.set()
            enough.wait()
        return load(*arguments)

    monkeypatch.setattr(reader._store, "_load", slow_load)
    thread = threading.Thread(target=reader.refresh)
    thread.start()
    assert loading.wait(30)

    def child() -> None:
        assert reader.refresh()
        assert reader.info().target_recall == 0.9

    try:
        in_child(child)
    finally:
        enough.set()
        thread.join()


def test_the_lock_is_the_parents(create: Create, path: Path, rng: np.random.Generator) -> None:
    index = create()
    index.add(ids=["a"], vectors=rng.standard_normal((1, 8)))
    in_child(index.close)
    in_child(lambda: None)
    with pytest.raises(IndexLockedError, match=f"process {os.getpid()} "):
        VectorIndex.open(path, "r+")
    ready, enough = os.pipe(), os.pipe()

    def child() -> None:
        os.write(ready[1], b"x")
        os.read(enough[0], 1)
        check = index.search(np.ones(8), 1)
        assert [hit.id for hit in check] == ["a"]
        with VectorIndex.open(path, "r+", maintenance="manual") as own:
            own.add(ids=["c"], vectors=np.ones((1, 8)))
        assert index.refresh()
        assert "c" in index

    process = start_child(child)
    os.read(ready[0], 1)
    index.close()  # a child that lives on keeps nobody from writing
    with VectorIndex.open(path, "r+", maintenance="manual") as again:
        again.add(ids=["b"], vectors=rng.standard_normal((1, 8)))
    os.write(enough[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    with VectorIndex.open(path) as last:
        assert [record.id for record in last.scan()] == ["a", "b", "c"]


def test_a_fork_during_a_write_switches_threads_as_ever() -> None:
    before = sys.getswitchinterval()
    with lending():
        assert sys.getswitchinterval() < before / 2

        def child() -> None:
            assert sys.getswitchinterval() == before
            with lending():
                assert sys.getswitchinterval() < before / 2
            assert sys.getswitchinterval() == before

        in_child(child)
        with lending():
            pass
        assert sys.getswitchinterval() < before / 2
    assert sys.getswitchinterval() == before


def test_workers_of_a_busy_parent(tmp_path: Path) -> None:
    """As `gunicorn --preload` does it, at the worst moments: see the script."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(CHILDREN / "preloaded.py"), str(tmp_path / "x.vx")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr


def test_what_one_thread_computes_keeps_no_other_waiting() -> None:
    """A lock of the interpreter's own would be found locked by a child."""
    begun, go = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, *, waits: bool) -> None:
            self.waits, self.calls = waits, 0

        @forks.lazily
        def value(self) -> int:
            """Count the calls."""
            self.calls += 1
            if self.waits:
                begun.set()
                assert go.wait(20)
            return self.calls

    slow, quick = Slow(waits=True), Slow(waits=False)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    try:
        assert begun.wait(20)
        other = threading.Thread(target=lambda: quick.value)
        other.start()
        other.join(20)
        assert not other.is_alive()
    finally:
        go.set()
        thread.join()
    assert (slow.value, quick.value, slow.value, slow.calls) == (1, 1, 1, 1)
