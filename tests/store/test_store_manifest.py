"""The manifest: read back whole or not at all."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest

from vecindex.errors import CorruptIndexError, IndexPathError
from vecindex.store.files import Directory, FileEntry
from vecindex.store.frames import PUT, encode
from vecindex.store.manifest import (
    LogEntry,
    Manifest,
    SegmentEntry,
    StructureEntry,
    read_manifest,
    write_manifest,
)


def entry(name: str, size: int = 100) -> FileEntry:
    return FileEntry(name, size, struct.pack("<I", 7))


FULL = Manifest(
    generation=12,
    dim=384,
    spec={"kind": "hnsw", "m": 16, "ef_construction": 100},
    target_recall=0.97,
    embedder={"name": "function:a.b", "canaries": b"\0\1"},
    next_id=2**63,
    next_file=9,
    logs=(LogEntry("log-3.vxl", 5, 640), LogEntry("log-8.vxl", 9, None, 320)),
    segments=(
        SegmentEntry(10, entry("vectors-4.f32"), entry("rows-4.vxr"), entry("ids-4.vxi")),
        SegmentEntry(3, entry("vectors-5.f32"), entry("rows-5.vxr"), entry("ids-5.vxi")),
    ),
    dead=entry("dead-6.vxd", 2),
    structure=StructureEntry("hnsw", {"kind": "hnsw"}, entry("structure-7.faiss"), {"k": 10}),
)
EMPTY = Manifest(generation=1, dim=None, spec={"kind": "auto"}, target_recall=0.95)


@pytest.mark.parametrize("manifest", [FULL, EMPTY], ids=["full", "empty"])
def test_round_trip(directory: Directory, manifest: Manifest) -> None:
    write_manifest(directory, manifest)
    assert read_manifest(directory) == manifest
    assert directory.names() == ["MANIFEST"]
    write_manifest(directory, replace(manifest, generation=99))
    assert read_manifest(directory).generation == 99


def test_names_are_those_of_all_files() -> None:
    assert FULL.names() == {
        "vectors-4.f32", "rows-4.vxr", "ids-4.vxi", "vectors-5.f32", "rows-5.vxr", "ids-5.vxi",
        "dead-6.vxd", "structure-7.faiss", "log-3.vxl", "log-8.vxl",
    }  # fmt: skip


def test_bytes_are_one_frame_of_msgpack(directory: Directory) -> None:
    write_manifest(directory, FULL)
    data = directory.read("MANIFEST")
    magic, version, kind, generation = struct.unpack_from("<4sHHQ", data)
    assert (magic, version, kind, generation) == (b"VXF\n", 1, 1, 12)
    (size,) = struct.unpack_from("<Q", data, 32)
    body = msgpack.unpackb(data[64 : 64 + size])
    assert (body["format"], body["generation"], body["dim"]) == (1, 12, 384)
    assert body["logs"] == [["log-3.vxl", 5, 640, 0], ["log-8.vxl", 9, None, 320]]
    assert body["segments"][1]["rows"] == 3
    assert body["structure"]["file"] == ["structure-7.faiss", 100, struct.pack("<I", 7)]


def test_any_flipped_bit_is_an_error(directory: Directory, tmp_path: Path) -> None:
    write_manifest(directory, EMPTY)
    good = directory.read("MANIFEST")
    for bit in range(0, len(good) * 8, 3):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "MANIFEST").write_bytes(damaged)
        with pytest.raises(CorruptIndexError, match="MANIFEST is damaged at offset 0"):
            read_manifest(directory)


def test_any_other_length_is_an_error(directory: Directory, tmp_path: Path) -> None:
    write_manifest(directory, EMPTY)
    good = directory.read("MANIFEST")
    for length in range(0, len(good), 5):
        (tmp_path / "MANIFEST").write_bytes(good[:length])
        with pytest.raises(CorruptIndexError, match="MANIFEST is damaged"):
            read_manifest(directory)
    (tmp_path / "MANIFEST").write_bytes(good + bytes(64))
    with pytest.raises(CorruptIndexError, match="not one manifest frame"):
        read_manifest(directory)


@pytest.mark.parametrize(
    "body",
    [None, 5, [], {}, {"generation": 1}, {"structure": 5}],
    ids=["none", "int", "list", "empty", "keys missing", "wrong type"],
)
def test_unexpected_content_is_an_error(directory: Directory, tmp_path: Path, body: object) -> None:
    (tmp_path / "MANIFEST").write_bytes(b"".join(map(bytes, encode(1, body)[0])))
    with pytest.raises(CorruptIndexError, match="MANIFEST is damaged: unexpected content"):
        read_manifest(directory)


def test_a_frame_of_another_kind_is_no_manifest(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "MANIFEST").write_bytes(b"".join(map(bytes, encode(PUT, {})[0])))
    with pytest.raises(CorruptIndexError, match="not one manifest frame"):
        read_manifest(directory)


@pytest.mark.parametrize(
    "name",
    ["../rows-1.vxr", "/etc/passwd", "rows-1.vxr/../x", "", "rows", "rows-1.vxr\n", "MANIFEST"],
)
def test_file_names_cannot_leave_the_directory(name: str) -> None:
    with pytest.raises(CorruptIndexError, match="impossible file"):
        FileEntry(name, 1, b"")
    with pytest.raises(CorruptIndexError, match="impossible file"):
        LogEntry(name, 0)


def test_where_there_is_none(directory: Directory, tmp_path: Path) -> None:
    with pytest.raises(IndexPathError, match="not a vecindex index: no MANIFEST"):
        read_manifest(directory)
    with pytest.raises(IndexPathError, match="no MANIFEST"):
        read_manifest(Directory(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(IndexPathError, match="no MANIFEST"):
        read_manifest(Directory(tmp_path / "file"))


def test_writing_replaces_atomically(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(directory, EMPTY)
    good = directory.read("MANIFEST")
    seen = []
    replace_file = Path.replace

    def look(self: Path, target: Path) -> Path:
        seen.append(directory.read("MANIFEST"))
        assert directory.read("MANIFEST.tmp") != good, "whole before it takes the name"
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", look)
    write_manifest(directory, FULL)
    assert seen == [good]
    assert read_manifest(directory) == FULL
    assert np.frombuffer(directory.read("MANIFEST"), np.uint8).size % 64 == 0
