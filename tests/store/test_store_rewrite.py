"""Rewriting: parts become one segment, with or without their removed rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sample_rows import DIM, content, row_of, rows_of

from vecindex.store.codec import DEAD_RECORD
from vecindex.store.files import Directory
from vecindex.store.manifest import SegmentEntry
from vecindex.store.rewrite import Source, rewrite
from vecindex.store.segment import Segment, Tail, TailView
from vecindex.store.store import Store


def nothing() -> None:
    """Poll without effect."""


def tail_of(ids: Sequence[Any]) -> TailView:
    """Return a tail that holds these ids."""
    columns = rows_of(ids)
    tail = Tail(DIM)
    tail.append(0, *columns)
    return TailView(tail, len(ids))


def marks(count: int, *dead: int) -> np.ndarray:
    """Return a mask that is True for the removed rows."""
    found = np.zeros(count, dtype=np.bool_)
    found[list(dead)] = True
    return found


def segment_of(directory: Directory, number: int, *sources: Source) -> Segment:
    entry, _ = rewrite(directory, number, sources, DIM, nothing)
    return Segment(directory, entry, DIM)


def check(segment: Segment, expected: Sequence[Any]) -> None:
    """Check a segment's rows; None stands for a removed row."""
    assert segment.count == len(expected)
    segment.check_rows()
    records = list(segment.scan_records())
    assert records == segment.records(np.arange(segment.count))
    for row, value in enumerate(expected):
        if value is None:
            assert records[row] == DEAD_RECORD
        else:
            assert f"text {value}".encode() in records[row]
            np.testing.assert_array_equal(segment.vectors[row], row_of(value))
            assert segment.ids(np.array([row])) == [value]
            assert segment.find([value]).tolist() == [row]


def test_what_fails_on_the_other_thread_fails_here(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("no room for columns")

    monkeypatch.setattr("vecindex.store.rewrite._columns", no_memory)
    for hurry in (False, True):
        with pytest.raises(MemoryError, match="no room for columns"):
            rewrite(
                directory, int(hurry), [Source(tail_of([1, 2]), None)], DIM, nothing, hurry=hurry
            )


@pytest.mark.parametrize("ids", [[3, 1, 2], ["c", "a"], ["c", 1, "1", -5]], ids=str)
def test_a_tail_becomes_a_segment(directory: Directory, ids: list[Any]) -> None:
    entry, dead = rewrite(directory, 4, [Source(tail_of(ids), None)], DIM, nothing)
    assert dead.tolist() == [False] * len(ids)
    names = ["columns-4.arrow", "ids-4.vxi", "rows-4.vxr", "vectors-4.f32"]
    assert sorted(directory.names()) == names
    assert {file.name for file in entry.files} == set(directory.names())
    assert entry.rows == len(ids)
    check(Segment(directory, entry, DIM), ids)


def test_removed_rows_are_dropped(directory: Directory) -> None:
    source = Source(tail_of(["a", 1, "b", "c"]), marks(4, 0, 2))
    assert source.keep.tolist() == [False, True, False, True]
    assert source.dead_kept.tolist() == [False, False]
    entry, dead = rewrite(directory, 1, [source], DIM, nothing)
    assert not dead.any()
    segment = Segment(directory, entry, DIM)
    check(segment, [1, "c"])
    assert segment.find(["a", "b", 1]).tolist() == [-1, -1, 0]


def test_removed_rows_can_stay_in_place_without_their_texts(directory: Directory) -> None:
    source = Source(tail_of(["a", "b", "a", "c"]), marks(4, 0, 3), keep_dead=True)
    entry, dead = rewrite(directory, 1, [source], DIM, nothing)
    assert dead.tolist() == [True, False, False, True]
    segment = Segment(directory, entry, DIM)
    check(segment, [None, "b", "a", None])
    assert segment.find(["a", "b", "c"]).tolist() == [2, 1, -1]
    np.testing.assert_array_equal(segment.vectors[3], row_of("c"))
    assert b"text c" not in directory.read("rows-1.vxr")


def test_parts_are_joined_in_order(directory: Directory) -> None:
    first = segment_of(directory, 1, Source(tail_of([10, 11, 12]), None))
    second = segment_of(directory, 2, Source(tail_of(["x", "y"]), None))
    assert first.all_ints
    joined = segment_of(
        directory,
        3,
        Source(first, marks(3, 1), keep_dead=True),
        Source(second, marks(2, 0)),
        Source(tail_of([11, "x", 13]), marks(3, 2)),
    )
    check(joined, [10, None, 12, "y", 11, "x"])
    assert joined.find([10, 11, 12, "x", "y", 13, "10"]).tolist() == [0, 4, 2, 5, 3, -1, -1]
    assert not joined.all_ints
    again = segment_of(directory, 4, Source(joined, marks(6, 1, 3, 5)))
    check(again, [10, 12, 11])
    assert again.find(["x", "y", 11]).tolist() == [-1, -1, 2]


def test_many_rows_in_chunks(directory: Directory) -> None:
    rng = np.random.default_rng(0)
    count = 10_000
    columns = list(range(count)), [b"%d" % i for i in range(count)], rng.random((count, DIM), "f4")
    tail = Tail(DIM)
    tail.append(0, *columns)
    dead = rng.random(count) < 0.3
    calls = []
    entry, _ = rewrite(
        directory, 1, [Source(TailView(tail, count), dead)], DIM, lambda: calls.append(1)
    )
    segment = Segment(directory, entry, DIM)
    kept = np.flatnonzero(~dead)
    np.testing.assert_array_equal(segment.vectors, columns[2][kept])
    assert list(segment.scan_records()) == [b"%d" % i for i in kept]
    assert segment.find(range(count)).tolist() == np.where(dead, -1, np.cumsum(~dead) - 1).tolist()
    assert len(calls) > 3, "polled between chunks"


def test_a_poll_that_raises_ends_the_work(directory: Directory) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    source = Source(tail_of(["a"]), None)
    with pytest.raises(StopError):
        rewrite(directory, 1, [source], DIM, stop)
    check(segment_of(directory, 2, source), ["a"])


# -- in a store ------------------------------------------------------------------------------


def seal(store: Store, first: int = 0) -> SegmentEntry:
    """Put everything from part `first` on into one segment and commit."""
    state = store.freeze()
    sources = [
        Source(part, dead)
        for part, dead in zip(state.parts[first:], state.dead[first:], strict=True)
    ]
    entry, _ = store.rewrite(sources, nothing)
    before = [segment.entry for segment in state.segments[:first]]
    store.commit([*before, entry], [*state.dead[:first], None], since=state.sequence)
    return entry


def test_segments_absorb_one_another(
    create: Callable[..., Store], reopen: Callable[..., Store]
) -> None:
    store = create()
    store.put(*rows_of(["a", "b", 3]))
    seal(store)
    store.put(*rows_of(["c", "b"], "new text"))
    store.remove([3])
    expected = content(store.state)
    assert list(expected) == ["a", "c", "b"]
    seal(store, first=1)
    assert [segment.count for segment in store.state.segments] == [3, 2]
    assert store.state.removed == 2
    for state in (store.state, reopen().state):
        assert content(state) == expected
    store.put(*rows_of(["d"]))
    expected = content(store.state)
    seal(store)
    assert [segment.count for segment in store.state.segments] == [4]
    assert store.state.removed == 0
    assert len(store.directory.names()) == 4 + 3  # the segment's, log, LOCK and MANIFEST
    for state in (store.state, reopen().state):
        assert content(state) == expected


def test_what_comes_in_during_a_rewrite_is_replayed_on_top(
    create: Callable[..., Store], reopen: Callable[..., Store]
) -> None:
    store = create()
    store.put(*rows_of(["a", "b", "c"]))
    state = store.freeze()
    entry, _ = store.rewrite([Source(state.tail, None)], nothing)
    store.remove(["a"])
    store.put(*rows_of(["b", "d"], "new text"))
    store.put(*rows_of(["a"], "again"))
    expected = content(store.state)
    store.commit([entry], [None], since=state.sequence)
    assert list(expected) == ["c", "b", "d", "a"]
    assert store.state.segments[0].count == 3
    for current in (store.state, reopen().state):
        assert content(current) == expected
        assert current.removed == 2
    store.put(*rows_of([5]))
    assert content(reopen().state) == content(store.state)


def test_nothing_to_freeze(create: Callable[..., Store]) -> None:
    store = create()
    generation = store.state.manifest.generation
    assert store.freeze() is store.state
    assert store.state.manifest.generation == generation
