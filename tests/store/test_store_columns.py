"""Columns files: written with segments, merged, and done without when they cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgpack
import numpy as np
import pyarrow as pa
import pytest
from sample_rows import DIM, rows_of

from vecindex.errors import MetadataError
from vecindex.filters import parse
from vecindex.store import columns as columns_module
from vecindex.store.check import check_state
from vecindex.store.codec import DEAD_RECORD, RecordPacker
from vecindex.store.columns import derive_columns, read_columns, write_columns
from vecindex.store.files import BLOCK_BYTES, Directory, MappedFile
from vecindex.store.manifest import SegmentEntry, read_manifest, write_manifest
from vecindex.store.rewrite import Source, rewrite
from vecindex.store.segment import Segment, Tail, TailView
from vecindex.store.store import Store

WHERE = parse({"n": {"$in": [1, 2]}})


def packed(table: list[dict | None]) -> list[bytes]:
    return RecordPacker().pack_all(list(range(len(table))), None, table)


def tail_of(table: list[dict | None]) -> TailView:
    tail = Tail(DIM)
    vectors = np.eye(DIM, dtype=np.float32)[np.zeros(len(table), int)]
    tail.append(0, list(range(len(table))), packed(table), vectors)
    return TailView(tail, len(table))


def segment_of(directory: Directory, number: int, *sources: Source) -> Segment:
    entry, _ = rewrite(directory, number, sources, DIM, list)
    return Segment(directory, entry, DIM, pytest.fail)


def seal(store: Store) -> SegmentEntry:
    """Put everything into one segment and commit."""
    state = store.freeze()
    sources = [Source(part, dead) for part, dead in zip(state.parts, state.dead, strict=True)]
    entry, _ = store.rewrite(sources, list)
    store.commit([entry], [None], since=state.sequence)
    return entry


def spoil(path: Path, offset: int = 0) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def test_a_file_is_read_without_a_copy(directory: Directory) -> None:
    table = [{"n": row, "s": f"text {row}"} for row in range(5000)]
    columns = derive_columns(packed(table))
    entry = write_columns(directory, "columns-1.arrow", columns)
    file = MappedFile(directory, entry)
    read = read_columns(file, 5000)
    assert read.batch.equals(columns.batch, check_metadata=True)
    start = file.data.ctypes.data
    for column in read.batch.columns:
        for buffer in column.buffers():
            assert buffer is None or start <= buffer.address < start + len(file.data)
    with pa.ipc.open_file(directory.path / "columns-1.arrow") as plain:
        assert plain.schema.names == ["int:n", "str:s"]


def test_nothing_is_parsed_before_its_checksum_held(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [{"n": row, "s": f"{row:0100d}"} for row in range(6000)]
    entry = write_columns(directory, "columns-1.arrow", derive_columns(packed(table)))
    assert entry.size > 2 * BLOCK_BYTES
    spoil(directory.path / entry.name, entry.size // 2)
    monkeypatch.setattr(pa.ipc, "open_file", lambda _: pytest.fail("parsed"))
    with pytest.raises(OSError, match=r"columns-1.arrow is damaged at offset 262144"):
        read_columns(MappedFile(directory, entry), 6000)


@pytest.mark.parametrize(
    "data",
    [b"", b"ARROW1", b"x" * 1000, "other rows", "two batches", "other columns"],
    ids=str,
)
def test_a_whole_file_of_something_else_is_refused(directory: Directory, data: bytes | str) -> None:
    batch = derive_columns(packed([{"n": 1}] * (3 if data == "other rows" else 2))).batch
    if data == "other columns":
        batch = pa.record_batch({"n": [1, 2]})
    if isinstance(data, str):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as file:
            for _ in range(2 if data == "two batches" else 1):
                file.write_batch(batch)
        data = sink.getvalue().to_pybytes()
    writer = columns_module.FileWriter(directory, "columns-1.arrow")
    if data:
        writer.write(data)
    with pytest.raises(OSError, match="no columns that can be used"):
        read_columns(MappedFile(directory, writer.finish()), 2)


def test_segments_have_columns_and_merge_them_without_reading_records(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = segment_of(directory, 1, Source(tail_of([{"n": 1, "s": "gone"}, {"n": 2}]), None))
    second = segment_of(directory, 2, Source(tail_of([{"n": 3}, None, {"n": "x"}]), None))
    monkeypatch.setattr(columns_module, "derive_columns", None)
    monkeypatch.setattr("vecindex.store.masks.derive_columns", None)
    dead = np.array([True, False])
    kept = segment_of(directory, 3, Source(first, dead, keep_dead=True), Source(second, None))
    dropped = segment_of(directory, 4, Source(first, dead), Source(second, None))
    assert next(iter(kept.scan_records())) == DEAD_RECORD
    assert kept.columns().batch.to_pydict() == {
        "int:n": [None, 2, 3, None, None],
        "str:n": [None, None, None, None, "x"],
    }
    assert dropped.columns().batch.num_rows == 4
    assert kept.keeps(WHERE).tolist() == [False, True, False, False, False]
    assert dropped.keeps(WHERE).tolist() == [True, False, False, False]
    for number in (3, 4):
        assert b"gone" not in directory.read(f"columns-{number}.arrow")


def test_no_metadata_no_file(directory: Directory) -> None:
    segment = segment_of(directory, 1, Source(tail_of([None, {}, None]), None))
    assert segment.entry.columns is None
    assert not any("columns" in name for name in directory.names())
    assert segment.keeps(parse({"n": {"$exists": False}})).all()
    assert not segment.keeps(parse({"n": 1})).any()
    # Metadata that ends like none at all is found when it is needed.
    late = segment_of(directory, 2, Source(tail_of([{"n": None}, {"n": 0xC0}]), None))
    assert late.entry.columns is None
    assert late.keeps(parse({"n": 192})).tolist() == [False, True]


def test_a_manifest_without_the_field_opens(
    create: Callable[..., Store], reopen: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What earlier versions wrote has no `columns` in its segments."""
    store = create()
    store.put(*rows_of(["a", "b", "c"]))
    assert seal(store).columns is not None
    store.close()
    manifest = read_manifest(store.directory)

    def older(kind: int, body: dict, **keywords: object) -> object:
        for segment in body["segments"]:
            del segment["columns"]
        return encode(kind, body, **keywords)

    from vecindex.store import manifest as module

    encode = module.encode
    with monkeypatch.context() as patch:
        patch.setattr(module, "encode", older)
        write_manifest(store.directory, manifest)
    assert b"\xa7columns" not in store.directory.read("MANIFEST")
    for state in (reopen().state, reopen(writable=True).state):
        assert state.manifest.segments == (replace(manifest.segments[0], columns=None),)
        assert state.parts[0].keeps(WHERE).tolist() == [False, True, True]


def damage_by_bit(path: Path) -> None:
    spoil(path, 300)


def damage_by_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [damage_by_bit, damage_by_size, Path.unlink])
def test_damage_is_noted_and_changes_no_answer(
    create: Callable[..., Store],
    reopen: Callable[..., Store],
    harm: Callable[[Path], None],
) -> None:
    store = create()
    store.put(*rows_of(["a", "b", "c"]))
    name = seal(store).columns.name
    store.close()
    harm(store.directory.path / name)
    for writable in (False, True):
        damaged = reopen(writable=writable)
        assert damaged.notes == []
        assert damaged.state.parts[0].keeps(WHERE).tolist() == [False, True, True]
        assert damaged.state.parts[0].keeps(parse({"n": 0})).tolist() == [True, False, False]
        (note,) = damaged.notes
        assert note.startswith("columns for filters are made anew: ")
        assert name in note
        found = [
            problem
            for _, _, problems in check_state(damaged.directory, damaged.state)
            for problem in problems
        ]
        assert [(problem.file, problem.rebuildable) for problem in found] == [(name, True)]
    seal_again = seal(damaged)  # the next segment has good ones
    assert seal_again.columns.name != name
    damaged.close()
    healed = reopen()
    assert healed.state.parts[0].keeps(WHERE).tolist() == [False, True, True]
    assert healed.notes == []
    assert [found for *_, found in check_state(healed.directory, healed.state) if found] == []


def test_without_pyarrow(
    create: Callable[..., Store], reopen: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create()
    store.put(*rows_of(["a", "b", "c"]))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        assert store.state.tail.columns() is None
        assert store.state.tail.keeps(WHERE).tolist() == [False, True, True]
        assert seal(store).columns is None
        segment = store.state.segments[0]
        assert segment.columns() is None
        assert segment.keeps(WHERE).tolist() == [False, True, True]
        assert store.notes == []
    assert segment.keeps(parse({"n": 2})).tolist() == [False, False, True]
    assert segment.columns() is not None
    store.put(*rows_of(["d"]))
    assert seal(store).columns is not None
    store.close()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    bare = reopen(writable=True)
    assert bare.state.segments[0].keeps(WHERE).tolist() == [False, True, True, False]
    bare.put(*rows_of(["e"]))
    assert seal(bare).columns is None
    assert bare.state.segments[0].keeps(WHERE).tolist() == [False, True, True, False, False]
    assert bare.notes == []


def test_an_unreadable_record_is_only_an_error_for_who_needs_it(directory: Directory) -> None:
    bad = msgpack.packb([1, None, {"n": msgpack.ExtType(1, b"NaT")}])  # as once was written
    tail = Tail(DIM)
    records = [*packed([{"n": 1}]), bad]
    tail.append(0, [0, 1], records, np.ones((2, DIM), np.float32))
    segment = segment_of(directory, 1, Source(TailView(tail, 2), None))
    assert segment.entry.columns is None
    for part in (segment, TailView(tail, 2)):
        assert part.columns() is None
        with pytest.raises(OSError, match="a checksummed record cannot be read"):
            part.keeps(WHERE)
    assert TailView(tail, 1).keeps(WHERE).tolist() == [True]
    assert TailView(tail, 1).columns().count == 1


def test_a_tail_extends_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr("vecindex.store.masks._FEW", 3)
    view = tail_of([{"n": row} for row in range(4)])
    tail = view.tail
    derive = columns_module.derive_columns
    monkeypatch.setattr(
        "vecindex.store.masks.derive_columns",
        lambda records, before: looked_at.append(len(records)) or derive(records, before),
    )
    assert view.keeps(WHERE).tolist() == [False, True, True, False]
    for row in range(4, 7):
        tail.append(row, [row], packed([{"n": row % 4}]), np.ones((1, DIM), np.float32))
    assert looked_at == [4]
    longer = TailView(tail, 7)
    assert longer.keeps(WHERE).tolist() == [False, True, True, False, False, True, True]
    assert looked_at == [4, 3]
    assert view.keeps(WHERE).tolist() == [False, True, True, False]
    tail.append(7, [7], packed([{"n": 1}]), np.ones((1, DIM), np.float32))
    last = TailView(tail, 8)
    assert last.keeps(WHERE).tolist()[-2:] == [True, True]
    assert looked_at == [4, 3]
    with pytest.raises(ValueError, match="read-only"):
        last.keeps(WHERE)[0] = True


def test_files_of_a_segment_stay_usable_when_a_writer_removed_them(
    create: Callable[..., Store], reopen: Callable[..., Store]
) -> None:
    store = create()
    store.put(*rows_of(["a", "b", "c"]))
    name = seal(store).columns.name
    reader = reopen()
    store.put(*rows_of(["d"]))
    seal(store)
    assert name not in store.directory.names()
    assert reader.state.segments[0].keeps(WHERE).tolist() == [False, True, True]
    assert reader.notes == []


def test_an_earlier_view_of_a_tail_has_fewer_rows_than_its_columns(directory: Directory) -> None:
    tail = tail_of([{"n": row} for row in range(4)]).tail
    early = TailView(tail, 2)
    assert TailView(tail, 4).columns().count == early.columns().count == 4
    for number, dead in ((1, None), (2, np.array([True, False]))):
        segment = segment_of(directory, number, Source(early, dead))
        (column,) = segment.columns().batch.to_pydict().values()
        assert column == ([0, 1] if dead is None else [1])


def test_removed_rows_without_records_match_nothing(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    source = Source(tail_of([{"n": 1}, {"n": 2}]), np.array([True, False]), keep_dead=True)
    segment = segment_of(directory, 1, source)
    assert segment.entry.columns is None
    assert segment.keeps(WHERE).tolist() == [False, True]


def test_files_of_work_that_was_given_up_are_swept(
    create: Callable[..., Store], reopen: Callable[..., Store]
) -> None:
    store = create()
    store.put(*rows_of(["a", "b"]))
    kept = seal(store).columns.name
    store.close()
    (store.directory.path / "columns-77.arrow").write_bytes(b"half")
    reopen()
    assert "columns-77.arrow" in store.directory.names(), "readers remove nothing"
    reopen(writable=True)
    assert "columns-77.arrow" not in store.directory.names()
    assert kept in store.directory.names()


def test_not_a_time_is_refused_as_it_could_not_be_read_back() -> None:
    class NotATime(datetime):
        """As pandas.NaT, which is a datetime, too."""

        def isoformat(self) -> str:
            return "NaT"

    with pytest.raises(MetadataError, match=r"row 1: metadata\['a'\] has type NotATime"):
        packed([{"a": datetime(1970, 1, 1)}, {"a": NotATime(1970, 1, 1)}])
