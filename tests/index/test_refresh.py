"""Readers that follow the writer by themselves, and writers that wait for each other."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from typer.testing import CliRunner

from vecindex import VectorIndex
from vecindex.cli.app import app
from vecindex.errors import IndexLockedError, IndexPathError, InputError
from vecindex.store.log import LogWriter
from vecindex.store.store import Store

DIM = 4


def unit(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=DIM)


def put(index: VectorIndex, number: int) -> None:
    index.upsert(ids=[f"n{number}"], vectors=[unit(number)], texts=[f"{number}"])


QUESTIONS: dict[str, Callable[[VectorIndex, int], object]] = {
    "search": lambda index, number: index.search(unit(number), k=1)[0].id == f"n{number}",
    "search_arrays": lambda index, number: (
        index.search_arrays([unit(number)], k=1)[0].tolist() == [[f"n{number}"]]
    ),
    "get": lambda index, number: index.get([f"n{number}"]),
    "scan": lambda index, number: f"n{number}" in [record.id for record in index.scan()],
    "count": lambda index, number: index.count() == number + 1,
    "count where": lambda index, number: index.count({"none": {"$exists": False}}) == number + 1,
    "len": lambda index, number: len(index) == number + 1,
    "in": lambda index, number: f"n{number}" in index,
    "info": lambda index, number: index.info().rows == number + 1,
    "explain": lambda index, number: f"{number + 1} row" in str(index.explain()),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_reader_that_follows_sees_what_was_acknowledged(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex], question: str
) -> None:
    index = create(spec="flat")
    follower, waiting = reopen(refresh="auto"), reopen()
    steps: dict[int, Callable[[], object]] = {
        3: index._maintenance.seal,
        5: lambda: index.optimize("ivf"),
        7: index.compact,
        8: lambda: index.optimize("hnsw"),
        9: index._store.freeze,
    }
    for number in range(12):
        put(index, number)
        steps.get(number, lambda: None)()
        assert QUESTIONS[question](follower, number)
    assert len(waiting) == 0, "by default a reader waits to be told"


def test_commits_without_new_rows_are_followed(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create(spec="flat")
    put(index, 0)
    index.compact()
    follower = reopen(refresh="auto")
    for spec in ("ivf", "hnsw", "flat/sq8"):
        index.optimize(spec)
        assert follower.info().structure == spec.split("/")[0]
        assert follower.search(unit(0))[0].id == "n0"


def test_nothing_new_costs_one_stat(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create()
    put(index, 0)
    follower = reopen(refresh="auto")
    follower.search(unit(0))
    real, calls = os.stat, []

    def counting(path: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(str(path))
        return real(path, *arguments, **options)

    with patch.object(os, "stat", counting), patch.object(os, "open", None):
        follower.search(unit(0))
    assert [Path(path).name for path in calls] == ["log-1.vxl"]


def test_an_unfinished_call_is_not_seen_and_costs_no_reload(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create()
    for number in range(20):
        put(index, number)
    follower = reopen(refresh="auto")
    assert len(follower) == 20
    before = follower._store.state
    (log,) = index.path.glob("log-*")
    whole = log.read_bytes()
    with log.open("ab") as file:
        file.write(whole[:100])
    loads = []
    with patch.object(Store, "_load_newest", loads.append):
        assert len(follower) == 20
    assert not loads
    assert follower._store.state is before
    with log.open("rb+") as file:
        file.truncate(len(whole))
    put(index, 20)
    assert len(follower) == 21


def test_a_call_that_was_taken_back_is_gone(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create()
    put(index, 0)
    follower = reopen(refresh="auto")

    def failing(self: LogWriter) -> None:
        assert len(follower) == 2, "all bytes of the call are there"
        raise KeyboardInterrupt

    with patch.object(LogWriter, "sync", failing), pytest.raises(KeyboardInterrupt):
        put(index, 1)
    assert len(follower) == 1
    put(index, 2)
    assert [record.id for record in follower.scan()] == ["n0", "n2"]


def test_a_scan_keeps_its_state(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create()
    put(index, 0)
    put(index, 1)
    follower = reopen(refresh="auto")
    scan = follower.scan()
    assert next(scan).id == "n0"
    index.remove(["n1"])
    index.compact()
    assert len(follower) == 1
    assert [record.id for record in scan] == ["n1"]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_directory_that_is_replaced_is_followed(
    create: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    tmp_path: Path,
    trusted: bool,
) -> None:
    """A whole new index put in place of the old one."""
    index = create()
    put(index, 0)
    follower = reopen(refresh="auto", trusted=trusted)
    with VectorIndex.create(tmp_path / "new") as new:
        put(new, 7)
        new.compact()
    index.close()
    index.path.rename(tmp_path / "old")
    (tmp_path / "new").rename(index.path)
    assert [record.id for record in follower.scan()] == ["n7"]
    shutil.rmtree(index.path)
    with pytest.raises(IndexPathError, match="is not a vecindex index any more"):
        follower.search(unit(7))


@pytest.mark.parametrize("refresh", ["Auto", "", None, True, 1])
def test_other_ways_of_refreshing_are_refused(
    create: Callable[..., VectorIndex], refresh: Any
) -> None:
    index = create()
    index.close()
    with pytest.raises(InputError, match='refresh must be "manual" or "auto", not '):
        VectorIndex.open(index.path, refresh=refresh)


def test_a_writer_may_be_told_to_follow(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    create().close()
    writer = reopen("r+", refresh="auto")
    put(writer, 0)
    assert QUESTIONS["search"](writer, 0)


def test_published_states_are_whole(create: Callable[..., VectorIndex]) -> None:
    """A search takes whatever is the state at the moment: rows and structure must go together."""
    index = create(spec="ivf")
    states, real = [], Store.__setattr__

    def seen(self: Store, name: str, value: Any) -> None:
        if name == "state":
            states.append(value)
        real(self, name, value)

    with patch.object(Store, "__setattr__", seen):
        for number in range(3):
            for row in range(20):
                put(index, 100 * number + row)
            index._maintenance.seal()
            index.optimize(("ivf", "hnsw", "flat/sq8")[number])
            index.remove([f"n{100 * number}"])
            index.compact()
    assert len(states) > 60
    for state in states:
        manifest = state.manifest
        assert tuple(segment.entry for segment in state.segments) == manifest.segments
        file = state.structure_file
        assert (file and file.entry) == (manifest.structure and manifest.structure.file)
        log = index.path / manifest.logs[-1].name
        assert state.offset == 0 or not log.exists() or state.offset <= log.stat().st_size


# -- another process ---------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
from vecindex import VectorIndex
with VectorIndex.open(sys.argv[1], "r+", maintenance="manual") as index:
    for line in sys.stdin:
        word, number = line.split()
        if word == "put":
            number = int(number)
            vector = np.random.default_rng(number).normal(size=4)
            index.upsert(ids=[f"n{number}"], vectors=[vector], texts=[str(number)])
        elif word == "seal":
            index._maintenance.seal()
        elif word == "remove":
            index.remove([f"n{number}"])
        elif word == "spec":
            index.optimize(number)
        else:
            index.compact()
        print("acknowledged", flush=True)
"""


class Process:
    """A writer in a process of its own, which does as it is told."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, what: str, value: object = "-") -> None:
        """Return when it was acknowledged."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {value}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "acknowledged\n"


@pytest.fixture
def process(create: Callable[..., VectorIndex]) -> Iterator[Process]:
    index = create(spec="flat")
    index.close()
    made = Process(index.path)
    yield made
    made.process.kill()
    made.process.communicate()


def test_readers_and_their_threads_follow_a_writer_process(process: Process, path: Path) -> None:
    """Whatever was acknowledged before a search began is in its result, on every thread."""
    acknowledged, failures, stop = -1, [], threading.Event()

    def search(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            while not stop.is_set():
                if (newest := acknowledged) < 0:
                    continue
                asked = newest if rng.random() < 0.5 else int(rng.integers(newest + 1))
                if asked % 7 != 3:  # those are removed again
                    hit = reader.search(unit(asked), k=1)[0]
                    assert (hit.id, hit.text) == (f"n{asked}", str(asked))
        except BaseException as error:
            failures.append(error)

    with VectorIndex.open(path, refresh="auto") as reader:
        threads = [threading.Thread(target=search, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for number in range(80):
            process.tell("put", number)
            acknowledged = number
            assert QUESTIONS["search"](reader, number)
            if number % 7 == 3:
                process.tell("remove", number)
                assert f"n{number}" not in reader
            if number % 10 == 9:
                process.tell("seal")
            if number % 16 == 15:
                process.tell("compact")
            if number % 20 == 19:
                process.tell("spec", ("hnsw", "ivf", "flat/sq8", "flat")[number // 20])
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert reader.verify().ok


# -- waiting for the lock ----------------------------------------------------------------------


def test_a_writer_waits_for_the_one_before(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create()
    put(index, 0)
    timer = threading.Timer(0.1, index.close)
    timer.start()
    writer = reopen("r+", timeout=60)
    timer.join()
    put(writer, 1)
    assert len(writer) == 2


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_waiting_ends(create: Callable[..., VectorIndex], timeout: float) -> None:
    index = create()
    waited = ", also after 0.05 s" if timeout else ""
    with pytest.raises(IndexLockedError, match=rf"by process {os.getpid()} on \S+{waited}\. One"):
        VectorIndex.open(index.path, "r+", timeout=timeout)


def test_a_killed_writer_is_not_waited_for(process: Process, path: Path) -> None:
    process.tell("put", 0)
    with pytest.raises(IndexLockedError, match=f"process {process.process.pid} on"):
        VectorIndex.open(path, "r+", timeout=0.01)
    threading.Timer(0.1, process.process.kill).start()
    with VectorIndex.open(path, "r+", maintenance="manual", timeout=60) as index:
        assert len(index) == 1


@pytest.mark.parametrize("timeout", [-1, -0.0001, math.nan, -math.inf, "1", None, True, [1]])
@pytest.mark.parametrize("call", ["open", "create"])
def test_what_is_no_time_to_wait(path: Path, call: str, timeout: Any) -> None:
    arguments = {"mode": "r+"} if call == "open" else {}
    with pytest.raises(InputError, match="timeout must be a number of seconds >= 0, not "):
        getattr(VectorIndex, call)(path, timeout=timeout, **arguments)
    assert not path.exists()


def test_readers_do_not_wait(create: Callable[..., VectorIndex]) -> None:
    index = create()
    put(index, 0)
    with VectorIndex.open(index.path, timeout=math.inf) as reader:
        assert len(reader) == 1


def test_ctrl_c_ends_the_waiting(create: Callable[..., VectorIndex]) -> None:
    index = create()
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            VectorIndex.open(index.path, "r+", timeout=math.inf)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    put(index, 0)
    index.close()
    VectorIndex.open(index.path, "r+").close()


def test_two_who_create_at_once(path: Path) -> None:
    """The second one waits, and is then told that the index is there."""
    made: list[object] = []

    def make() -> None:
        try:
            with VectorIndex.create(path, timeout=60) as index:
                made.append(len(index))
        except IndexPathError as error:
            made.append(str(error))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = f"{path} is an index already; open it, or choose another path"
    assert sorted(map(str, made)) == sorted(["0", there, there, there])


def test_create_while_another_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that appear while the directory is looked at are those of an index."""
    path.mkdir()
    names = Path.iterdir

    def meanwhile(directory: Path) -> Iterator[Path]:
        monkeypatch.undo()
        VectorIndex.create(path).close()
        return names(directory)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    with pytest.raises(IndexPathError, match="is an index already"):
        VectorIndex.create(path)


@pytest.mark.parametrize("command", ["remove", "compact", "optimize", "add"])
def test_commands_wait(create: Callable[..., VectorIndex], command: str, tmp_path: Path) -> None:
    index = create()
    put(index, 0)
    (tmp_path / "more.jsonl").write_text('{"id": "x", "vector": [1, 2, 3, 4]}\n')
    more = {"remove": ["n0"], "add": [str(tmp_path / "more.jsonl")]}.get(command, [])
    run = CliRunner().invoke
    refused = run(app, [command, str(index.path), *more, "--lock-timeout", "0.02"])
    assert refused.exit_code == 1
    assert "also after 0.02 s" in refused.stderr
    threading.Timer(0.1, index.close).start()
    done = run(app, [command, str(index.path), *more, "--lock-timeout", "60"])
    assert done.exit_code == 0, done.stderr
