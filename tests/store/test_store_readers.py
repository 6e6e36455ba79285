"""Readers beside a writer: each shows one whole state, and steps to the newest when asked."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_rows import content, row_of, rows_of

from vecindex import VectorIndex
from vecindex.errors import StorageFailedError, StorageFullError
from vecindex.store.files import Appender, Directory
from vecindex.store.frames import PUT, encode
from vecindex.store.rewrite import Source
from vecindex.store.store import Store


def seal(store: Store) -> None:
    """Put everything into one segment and commit."""
    state = store.freeze()
    sources = [Source(part, dead) for part, dead in zip(state.parts, state.dead, strict=True)]
    entry, _ = store.rewrite(sources, lambda: None)
    store.commit([entry], [None], since=state.sequence)


def test_a_reader_steps_through_everything(
    create: Callable[..., Store], reopen: Callable[..., Store]
) -> None:
    store = create(dim=None)
    eager, lazy = reopen(), reopen()
    seen = content(lazy.state)
    steps: list[Callable[[], object]] = [
        lambda: store.update(dim=4),
        lambda: store.put(*rows_of(["a", "b"])),
        lambda: store.remove(["a"]),
        store.freeze,
        lambda: store.put(*rows_of(["b", "c"], "new text")),
        store.freeze,
        store.freeze,
        lambda: seal(store),
        lambda: store.put(*rows_of(["d", 5])),
        lambda: store.remove([5, "b"]),
        lambda: seal(store),
        lambda: seal(store) if store.state.offset else None,
        lambda: store.put(*rows_of(["e"])),
    ]
    for number, step in enumerate(steps):
        before = (store.state.manifest.generation, store.state.sequence)
        step()
        changed = (store.state.manifest.generation, store.state.sequence) != before
        assert eager.refresh() is changed
        assert eager.refresh() is False
        assert content(eager.state) == content(store.state)
        assert eager.state.next_id == store.state.next_id
        assert content(lazy.state) == seen, "what a reader has not asked for does not change"
        if number % 4 == 3:
            lazy.refresh()
            seen = content(lazy.state)
            assert seen == content(store.state)
    store.close()  # commits what is synced
    eager.refresh()
    assert eager.refresh() is False
    assert content(eager.state) == content(store.state)
    again = reopen(writable=True)
    again.put(*rows_of(["f"]))
    assert eager.refresh()
    assert content(eager.state) == content(again.state)


def test_a_state_stays_usable_after_its_files_are_gone(path: Path) -> None:
    create = VectorIndex.create  # a hundred rows as queries cannot promise more than 0.94
    with create(path, spec="hnsw", target_recall=0.9, maintenance="manual") as index:
        ids, _, vectors = rows_of(range(100))
        index.add(ids=ids, vectors=vectors, texts=[f"text {i}" for i in ids])
        index.optimize()
        reader = VectorIndex.open(path)  # has looked at nothing yet
        named = {file.name for file in path.iterdir()}
        index.remove(range(50))
        index.compact()
        assert len(named & {file.name for file in path.iterdir()}) == 2  # LOCK, MANIFEST
        assert len(reader) == 100
        assert reader.explain().method == "hnsw"
        for record_id in (0, 99):
            assert reader.search(row_of(record_id), k=1)[0].id == record_id
        assert [record.text for record in reader.scan()] == [f"text {i}" for i in range(100)]
        assert reader.refresh()
        assert [record.id for record in reader.scan()] == list(range(50, 100))
        reader.close()


def test_a_half_written_frame_is_not_seen(
    create: Callable[..., Store], reopen: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create()
    store.put(*rows_of(["a"]))
    reader = reopen()
    before = content(reader.state)
    append = Appender.append
    looks = 0

    def slowly(self: Appender, buffers: list[Any]) -> None:
        nonlocal looks
        data = b"".join(bytes(buffer) for buffer in buffers)
        for start in range(0, len(data), 5):
            append(self, [data[start : start + 5]])
            if start + 5 < len(data):
                assert reader.refresh() is False
                assert content(reader.state) == before
                looks += 1
                if looks % 8 == 0:
                    fresh = reopen()
                    assert content(fresh.state) == before
                    fresh.close()

    with monkeypatch.context() as patch:
        patch.setattr(Appender, "append", slowly)
        store.put(*rows_of(["b", "c"]))
    assert looks > 20
    assert reader.refresh()
    assert content(reader.state) == content(store.state)


@pytest.mark.parametrize("next_rows", [["x", "y"], ["one row"], ["m", "o", "r", "e"]], ids=len)
@pytest.mark.parametrize("looks_between", [False, True], ids=["", "reader looks between"])
def test_what_is_taken_back_after_a_reader_saw_it_is_gone_for_the_reader(
    create: Callable[..., Store],
    reopen: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    next_rows: list[str],
    looks_between: bool,
) -> None:
    """A failed sync: the frame was there to be read, but was never acknowledged."""
    store = create()
    store.put(*rows_of(["a"]))
    before = content(store.state)
    reader = reopen()

    def fail(self: Appender) -> None:
        reader.refresh()
        raise StorageFailedError(errno.EIO, "cannot sync")

    with monkeypatch.context() as patch:
        patch.setattr(Appender, "sync", fail)
        with pytest.raises(StorageFailedError):
            store.put(*rows_of(["b", "c"]))
    store.close()
    if looks_between:
        reader.refresh()
        assert content(reader.state) == before
    store = reopen(writable=True)
    assert content(store.state) == before
    for rows in (next_rows, ["z"]):
        store.put(*rows_of(rows))
        reader.refresh()
        assert content(reader.state) == content(store.state)
    seal(store)
    reader.refresh()
    assert content(reader.state) == content(store.state)


def test_a_write_that_failed_half_way_is_never_seen(
    create: Callable[..., Store], reopen: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create()
    store.put(*rows_of(["a"]))
    reader = reopen()
    append = Appender.append

    def half(self: Appender, buffers: list[Any]) -> None:
        append(self, buffers[:2])
        reader.refresh()
        raise StorageFullError(errno.ENOSPC, "cannot write")

    with monkeypatch.context() as patch:
        patch.setattr(Appender, "append", half)
        with pytest.raises(StorageFullError):
            store.put(*rows_of(["b", "c"]))
    assert list(content(reader.state)) == ["a"]
    store.put(*rows_of(["d"]))
    assert reader.refresh()
    assert list(content(reader.state)) == ["a", "d"]


CUT = """
import sys
import vecindex.store.log as log
from pathlib import Path
from vecindex.store.files import Directory
from vecindex.store.store import Store
decode, path, size = log.decode, Path(sys.argv[1]), int(sys.argv[2])
def cut(data, offset, *rest):
    if offset >= size:
        with path.open("r+b") as file:
            file.truncate(size)
    return decode(data, offset, *rest)
log.decode = cut
store = Store.open(Directory(path.parent), writable=False, sync=True)
print(store.state.live)
"""


def test_a_reader_survives_a_writer_that_cuts_a_torn_tail_off(
    create: Callable[..., Store], path: Path
) -> None:
    """The next writer truncates the log; a reader may be in the middle of it."""
    store = create()
    store.put(*rows_of(["a", "b"]))
    size = store.state.offset
    store.close()
    (log,) = path.glob("log-*.vxl")
    whole = log.read_bytes()
    frame, _ = encode(PUT, {"ids": ["c"], "records": [b"x" * 400_000]}, sequence=1, synced=size)
    log.write_bytes(whole + b"".join(map(bytes, frame))[:-1])
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(log), str(size)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode} {done.stderr}"
    assert done.stdout == "2\n"


def test_many_commits_in_a_row_are_caught_up(
    create: Callable[..., Store], reopen: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest may change while a reader loads the files that the one before named."""
    store = create()
    store.put(*rows_of(["a"]))
    reader = reopen()
    mapping = Directory.map
    commits = 0

    def busy(self: Directory, name: str, *, private: bool = False) -> Any:
        nonlocal commits
        if commits < 5 and sys._getframe(2).f_code.co_filename != __file__:
            commits += 1
            with monkeypatch.context() as patch:
                patch.setattr(Directory, "map", mapping)
                store.put(*rows_of([f"row {commits}"]))
                seal(store)
        return mapping(self, name, private=private)

    store.put(*rows_of(["b"]))
    seal(store)
    with monkeypatch.context() as patch:
        patch.setattr(Directory, "map", busy)
        assert reader.refresh()
    assert commits == 5
    assert content(reader.state) == content(store.state)
