"""Replaying the log: whole frames count, a torn tail is dropped, damage is an error."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sample_rows import content, rows_of

from vecindex.errors import CorruptIndexError
from vecindex.store.frames import PUT, encode
from vecindex.store.store import Store


def log_of(path: Path) -> Path:
    (log,) = path.glob("log-*.vxl")
    return log


def end(store: Store) -> None:
    """Leave the files as a process does that is killed."""
    path = store.directory.path
    files = {file: file.read_bytes() for file in path.iterdir()}
    store.close()
    for file, data in files.items():
        file.write_bytes(data)


@pytest.fixture
def written(create: Callable[..., Store], path: Path) -> list[tuple[int, dict]]:
    """Log some operations; return the log's size and the content after each."""
    store = create()
    after = [(0, content(store.state))]
    for operation in (
        lambda: store.put(*rows_of(["a", 1, "b"])),
        lambda: store.remove(["a", "nobody"]),
        lambda: store.put(*rows_of([1, "c"], "new text")),
        lambda: store.put(*rows_of(["last", -7])),
    ):
        operation()
        after.append((store.state.offset, content(store.state)))
    end(store)
    assert log_of(path).stat().st_size == after[-1][0]
    assert [list(shown) for _, shown in after] == [
        [],
        ["a", 1, "b"],
        [1, "b"],
        ["b", 1, "c"],
        ["b", 1, "c", "last", -7],
    ]
    return after


def test_all_operations_are_replayed(written: list, reopen: Callable[..., Store]) -> None:
    assert content(reopen().state) == written[-1][1]
    store = reopen(writable=True)
    assert content(store.state) == written[-1][1]
    assert store.notes == []
    assert (store.state.sequence, store.state.next_id) == (4, 2)


def test_a_tail_torn_at_any_byte_is_dropped_and_reported(
    written: list, path: Path, reopen: Callable[..., Store]
) -> None:
    log = log_of(path)
    data = log.read_bytes()
    (start, before), (stop, everything) = written[-2:]
    for length in range(start, stop + 1):
        log.write_bytes(data[:length])
        reader = reopen()
        assert content(reader.state) == (everything if length == stop else before)
        reader.close()
        assert log.stat().st_size == length, "readers change nothing"
    for length in [start, *range(start + 1, stop, 37), stop - 1]:
        log.write_bytes(data[:length])
        store = reopen(writable=True)
        assert content(store.state) == before
        if length == start:
            assert store.notes == []
        else:
            (note,) = store.notes
            assert f"dropped {length - start} bytes" in note
            assert log.name in note
        assert log.stat().st_size == start
        store.put(*rows_of(["after"]))
        end(store)
        again = reopen()
        assert list(content(again.state)) == [*before, "after"]
        again.close()


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 5000, b"\xff" * 64, b"VXF\n" * 100, np.random.default_rng(0).bytes(3000)],
    ids=["zeros", "ones", "magics", "random"],
)
def test_garbage_behind_the_last_frame_is_dropped(
    written: list, path: Path, reopen: Callable[..., Store], garbage: bytes
) -> None:
    with log_of(path).open("ab") as log:
        log.write(garbage)
    assert content(reopen().state) == written[-1][1]
    store = reopen(writable=True)
    assert content(store.state) == written[-1][1]
    assert f"dropped {len(garbage)} bytes" in store.notes[0]


def test_a_frame_of_the_future_is_dropped(
    written: list, path: Path, reopen: Callable[..., Store]
) -> None:
    ids, records, vectors = rows_of(["z"])
    frame, _ = encode(PUT, {"ids": ids, "records": records}, sequence=9, vectors=vectors)
    with log_of(path).open("ab") as log:
        log.write(b"".join(map(bytes, frame)))
    store = reopen(writable=True)
    assert content(store.state) == written[-1][1]
    assert len(store.notes) == 1


def test_damage_before_the_tail_names_file_and_offset(
    written: list, path: Path, reopen: Callable[..., Store]
) -> None:
    log = log_of(path)
    data = log.read_bytes()
    for offset in range(0, written[-2][0], 5):
        damaged = bytearray(data)
        damaged[offset] ^= 0x20
        log.write_bytes(damaged)
        (frame_start,) = [
            start for (start, _), (stop, _) in pairwise(written) if start <= offset < stop
        ]
        with pytest.raises(CorruptIndexError) as caught:
            reopen()
        assert f"{log} is damaged at offset {frame_start}: " in str(caught.value)
        if offset % 35 == 0:
            with pytest.raises(CorruptIndexError, match=f"at offset {frame_start}: "):
                reopen(writable=True)
        assert log.read_bytes() == bytes(damaged), "what is damaged is never cut off"
    log.write_bytes(data)
    assert content(reopen(writable=True).state) == written[-1][1]


def test_a_hole_in_the_log_is_damage(
    written: list, path: Path, reopen: Callable[..., Store]
) -> None:
    log = log_of(path)
    data = log.read_bytes()
    first, second = written[1][0], written[2][0]
    for hole in (
        data[:first] + data[second:],
        data[:first] + bytes(second - first) + data[second:],
    ):
        log.write_bytes(hole)
        with pytest.raises(CorruptIndexError, match=f"at offset {first}: "):
            reopen()


def test_unsynced_frames_are_torn_together(
    create: Callable[..., Store], path: Path, reopen: Callable[..., Store]
) -> None:
    """After a power failure any of the pages that were never synced may be missing."""
    store = create(sync=False)
    store.put(*rows_of(["a"]))
    store.flush()
    synced, kept = store.state.offset, content(store.state)
    store.put(*rows_of(["b"]))
    store.put(*rows_of(["c"]))
    end(store)
    log = log_of(path)
    data = bytearray(log.read_bytes())
    data[synced + 70] ^= 1
    log.write_bytes(data)
    assert content(reopen().state) == kept
    store = reopen(writable=True)
    assert content(store.state) == kept
    assert f"dropped {len(data) - synced} bytes" in store.notes[0]


@pytest.fixture
def frozen(create: Callable[..., Store], path: Path) -> tuple[dict, Path]:
    """Return the content of two logs, the first of which is closed, and that log."""
    store = create()
    store.put(*rows_of(["a", "b"]))
    store.put(*rows_of(["c"]))
    closed = log_of(path)
    store.freeze()
    store.remove(["a"])
    store.put(*rows_of(["d"]))
    end(store)
    return content(store.state), closed


def test_several_logs_are_replayed_in_order(
    frozen: tuple[dict, Path], reopen: Callable[..., Store]
) -> None:
    assert list(frozen[0]) == ["b", "c", "d"]
    assert content(reopen().state) == frozen[0]
    store = reopen(writable=True)
    assert len(store.state.manifest.logs) == 2
    store.put(*rows_of(["e"]))
    assert list(content(store.state)) == ["b", "c", "d", "e"]


def test_bytes_behind_the_end_of_a_closed_log_do_not_count(
    frozen: tuple[dict, Path], reopen: Callable[..., Store]
) -> None:
    ids, records, vectors = rows_of(["z"])
    frame, _ = encode(PUT, {"ids": ids, "records": records}, sequence=2, vectors=vectors)
    with frozen[1].open("ab") as log:
        log.write(b"".join(map(bytes, frame)))
    assert content(reopen().state) == frozen[0]


def test_damage_of_a_closed_log_is_never_torn(
    frozen: tuple[dict, Path], reopen: Callable[..., Store]
) -> None:
    closed = frozen[1]
    data = closed.read_bytes()
    for offset in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[offset] ^= 1
        closed.write_bytes(damaged)
        with pytest.raises(CorruptIndexError, match=f"{closed.name} is damaged at offset"):
            reopen()
    for length in range(0, len(data), 64):
        closed.write_bytes(data[:length])
        with pytest.raises(CorruptIndexError, match=f"at offset {length}: it ends there"):
            reopen()


def test_a_missing_log_is_named(frozen: tuple[dict, Path], reopen: Callable[..., Store]) -> None:
    frozen[1].unlink()
    for writable in (False, True):
        with pytest.raises(CorruptIndexError, match=f"{frozen[1].name} is missing"):
            reopen(writable=writable)


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "os"])
def test_damage_after_a_clean_close_is_no_torn_write(
    create: Callable[..., Store], path: Path, reopen: Callable[..., Store], sync: bool
) -> None:
    """Acknowledged rows of a closed index must not vanish without an error."""
    store = create(sync=sync)
    store.put(*rows_of(["a", "b"]))
    first = store.state.offset
    store.put(*rows_of(["c"]))
    store.close()
    log = log_of(path)
    data = log.read_bytes()
    for offset in range(0, len(data), 11):
        damaged = bytearray(data)
        damaged[offset] ^= 1
        log.write_bytes(damaged)
        for writable in (False, True):
            with pytest.raises(
                CorruptIndexError, match=f"damaged at offset {0 if offset < first else first}: "
            ):
                reopen(writable=writable)
    for length in (0, 5, first, len(data) - 1):
        log.write_bytes(data[:length])
        for writable in (False, True):
            with pytest.raises(CorruptIndexError, match=f"{log.name} is damaged at offset"):
                reopen(writable=writable)
    log.write_bytes(data)
    store = reopen(writable=True)
    assert list(content(store.state)) == ["a", "b", "c"]
    store.put(*rows_of(["d"]))
    end(store)
    log.write_bytes(log.read_bytes()[:-1])
    store = reopen(writable=True)
    assert list(content(store.state)) == ["a", "b", "c"], "what came later may be torn"
    assert len(store.notes) == 1
