"""Id tables: from row to id and back, for ints, strs and both."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest

from vecindex.errors import CorruptIndexError
from vecindex.store import ids as ids_module
from vecindex.store.files import Directory
from vecindex.store.ids import IdColumn, IdTable, write_ids

COLUMNS: dict[str, list[Any]] = {
    "one int": [7],
    "one str": ["a"],
    "ints": [5, -1, 0, 2**63 - 1, -(2**63), 4, 3],
    "strs": ["b", "", "a", "é" * 100, "\0", "A"],
    "mixed": [1, "1", -1, "-1", 0, "", 2**63 - 1, "9223372036854775807"],
    "large ints": np.random.default_rng(0).permutation(200_000).tolist(),
    "large strs": [f"id {i}" for i in np.random.default_rng(0).permutation(40_000)],
}
UNKNOWN: list[Any] = [999_999_999, "nobody", -77, "id 77777777"]


def table(directory: Directory, values: list[Any], live: Any = None) -> IdTable:
    """Return the table of some ids, written and mapped."""
    mask = np.ones(len(values), dtype=np.bool_) if live is None else np.asarray(live)
    entry = write_ids(directory, "ids-1.vxi", IdColumn.of(values), mask)
    return IdTable(directory, entry, len(values))


@pytest.mark.parametrize("name", COLUMNS)
def test_both_ways(directory: Directory, name: str) -> None:
    values = COLUMNS[name]
    found = table(directory, values)
    assert found.all_ints == all(type(value) is int for value in values)
    assert found.ids(np.arange(len(values))) == values
    assert found.find(values).tolist() == list(range(len(values)))
    assert found.find(UNKNOWN).tolist() == [-1] * len(UNKNOWN)
    assert found.find([]).tolist() == []
    many = np.random.default_rng(0).integers(0, len(values), 10_000)
    assert found.ids(many) == [values[i] for i in many]
    order = np.random.default_rng(1).permutation(len(values))[:100]
    picked = [values[i] for i in order]
    assert found.ids(order) == picked
    assert found.find(picked + UNKNOWN).tolist() == [*order.tolist(), -1, -1, -1, -1]
    assert [type(value) for value in found.ids(order)] == [type(value) for value in picked]
    if found.all_ints:
        assert found.ints(order).tolist() == picked


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("alive", ["some", "none"])
def test_removed_rows_are_found_by_nobody(directory: Directory, name: str, alive: str) -> None:
    values = COLUMNS[name]
    live = np.arange(len(values)) % 3 == 1
    if alive == "none":
        live[:] = False
    found = table(directory, values, live)
    assert found.ids(np.arange(len(values))) == values, "rows still know what they were"
    expected = np.where(live, np.arange(len(values)), -1)
    assert found.find(values).tolist() == expected.tolist()


def test_one_id_removed_and_given_again_is_found_where_it_lives(directory: Directory) -> None:
    for number, values in enumerate((["a", "b", "a", "c", "a"], [1, 2, 1, 3, 1])):
        live = np.array([False, True, True, True, False])
        entry = write_ids(directory, f"ids-{number}.vxi", IdColumn.of(values), live)
        found = IdTable(directory, entry, 5)
        assert found.find(values[:4]).tolist() == [2, 1, 2, 3]


@pytest.mark.parametrize("name", ["strs", "mixed", "one str"])
def test_colliding_hashes(directory: Directory, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ids_module, "hash_keys", lambda keys: np.full(len(keys), 42, dtype=np.uint32)
    )
    values = COLUMNS[name]
    live = np.ones(len(values), dtype=np.bool_)
    found = table(directory, values)
    assert found.find(values).tolist() == list(range(len(values)))
    assert found.find(UNKNOWN).tolist() == [-1] * 4
    assert found.find(values[::-1]).tolist() == list(range(len(values)))[::-1]
    live[0] = False
    entry = write_ids(directory, "ids-2.vxi", IdColumn.of(values), live)
    assert IdTable(directory, entry, len(values)).find(values[:1]).tolist() == [-1]


@pytest.mark.parametrize("edge", [0, 2**32 - 1], ids=["least", "greatest"])
def test_hashes_at_the_ends(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, edge: int
) -> None:
    found = table(directory, ["a", "b", "c"])
    monkeypatch.setattr(
        ids_module, "hash_keys", lambda keys: np.full(len(keys), edge, dtype=np.uint32)
    )
    assert found.find(["a", "z"]).tolist() == [-1, -1]


def test_columns_are_cut_and_joined() -> None:
    ints, strs, none = IdColumn.of([1, 2, 3]), IdColumn.of(["1", 2]), IdColumn.of([])
    kept = ints.take(np.array([True, False, True]))
    assert kept.ints is not None
    assert kept.ints.tolist() == [1, 3]
    both = IdColumn.concatenate([kept, none, strs.take(np.array([True, False]))])
    assert both.ints is None
    assert [msgpack.unpackb(key) for key in both.keys] == [1, 3, "1"]
    assert len(both) == len(both.hashes) == 3
    assert IdColumn.concatenate([none, none]).ints is not None
    assert len(IdColumn.concatenate([])) == 0
    joined = IdColumn.concatenate([ints, kept])
    assert joined.ints is not None
    assert joined.ints.tolist() == [1, 2, 3, 1, 3]


@pytest.mark.parametrize("name", ["ints", "mixed"])
def test_a_column_read_back_writes_the_same_table(directory: Directory, name: str) -> None:
    values = COLUMNS[name]
    first = table(directory, values)
    live = np.ones(len(values), dtype=np.bool_)
    write_ids(directory, "ids-2.vxi", first.column(), live)
    assert directory.read("ids-1.vxi") == directory.read("ids-2.vxi")


def test_bytes_are_as_documented_for_ints(directory: Directory) -> None:
    values = [30, -10, 20]
    table(directory, values, [True, False, True])
    data = directory.read("ids-1.vxi")
    header = struct.unpack_from("<4sHHQQQ", data)
    assert header == (b"VXI\n", 1, 0, 3, 2, 0)
    assert struct.unpack_from("<I", data, 60)[0] == zlib.crc32(data[:60])
    assert np.frombuffer(data, "<i8", 3, offset=64).tolist() == values
    assert np.frombuffer(data, "<i8", 2, offset=128).tolist() == [20, 30]
    assert np.frombuffer(data, "<u4", 2, offset=192).tolist() == [2, 0]
    assert len(data) == 256


def test_bytes_are_as_documented_for_keys(directory: Directory) -> None:
    values = ["b", 7, "a"]
    table(directory, values)
    data = directory.read("ids-1.vxi")
    keys = [msgpack.packb(value) for value in values]
    assert struct.unpack_from("<4sHHQQQ", data) == (b"VXI\n", 1, 1, 3, 3, len(b"".join(keys)))
    assert np.frombuffer(data, "<u8", 4, offset=64).tolist() == [0, 2, 3, 5]
    assert data[128:133] == b"".join(keys)
    hashes = [zlib.crc32(key) for key in keys]
    order = np.argsort(np.array(hashes, dtype=np.uint32)).tolist()
    assert np.frombuffer(data, "<u4", 3, offset=192).tolist() == sorted(hashes)
    assert np.frombuffer(data, "<u4", 3, offset=256).tolist() == order


def test_damage_is_found_before_an_answer(directory: Directory) -> None:
    for name in ("ints", "mixed"):
        values = COLUMNS[name]
        entry = write_ids(
            directory, f"ids-{len(values)}.vxi", IdColumn.of(values), np.ones(len(values), bool)
        )
        file = directory.path / entry.name
        good = file.read_bytes()
        for offset in range(len(good)):
            damaged = bytearray(good)
            damaged[offset] ^= 0x40
            file.write_bytes(damaged)
            with pytest.raises(CorruptIndexError, match=f"{entry.name} is damaged at offset 0"):
                IdTable(directory, entry, len(values)).find(values)
        file.write_bytes(good)
        with pytest.raises(CorruptIndexError, match="not the id table of its segment"):
            IdTable(directory, entry, len(values) + 1)
        file.write_bytes(good[:-1])
        with pytest.raises(CorruptIndexError, match=f"{len(good) - 1} bytes, expected {len(good)}"):
            IdTable(directory, entry, len(values))
