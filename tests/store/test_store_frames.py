"""Frames: what was written comes back, and nothing else ever does."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest

from vecindex.errors import CorruptIndexError, FormatVersionError
from vecindex.store.frames import (
    ALIGN,
    MANIFEST,
    PUT,
    REMOVE,
    BadFrameError,
    decode,
    encode,
    has_later_frame,
    unpack,
)

BODIES: dict[str, Any] = {
    "none": None,
    "empty": {},
    "ids": {"ids": [1, "a", -(2**63), 2**63 - 1, ""], "records": [b"", b"\0" * 200]},
    "nested": {"a": [{"b": [1.5, None, True]}]},
    "large": {"records": [bytes([i % 256]) * i for i in range(3000)]},
    "exactly aligned": {"x": b"." * 57},
}


def frame_bytes(body: Any = None, **options: Any) -> bytes:
    """Return the bytes of one frame."""
    buffers, size = encode(options.pop("kind", PUT), body, **options)
    data = b"".join(bytes(buffer) for buffer in buffers)
    assert len(data) == size
    return data


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def small_frame() -> bytes:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    return frame_bytes({"ids": [1, "b"]}, sequence=5, synced=192, vectors=vectors)


@pytest.mark.parametrize("shape", [None, (0, 3), (1, 1), (2, 3), (16, 4), (5, 384)], ids=str)
@pytest.mark.parametrize("name", BODIES)
def test_round_trip(name: str, shape: tuple[int, int] | None) -> None:
    vectors = None
    if shape is not None:
        vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    data = frame_bytes(BODIES[name], kind=REMOVE, sequence=7, synced=128, vectors=vectors)
    assert len(data) % ALIGN == 0
    for offset in (0, ALIGN, 5 * ALIGN):
        frame = decode(array(b"\x01" * offset + data + b"\x02" * 100), offset, "log", 7)
        assert (frame.kind, frame.sequence, frame.synced) == (REMOVE, 7, 128)
        assert frame.size == len(data)
        assert frame.body == BODIES[name]
        if vectors is None:
            assert frame.vectors.shape == (0, 0)
        else:
            np.testing.assert_array_equal(frame.vectors, vectors)


def test_rows_are_aligned_so_that_they_can_be_used_in_place() -> None:
    vectors = np.ones((3, 5), dtype=np.float32)
    for length in range(130):
        data = array(frame_bytes({"x": b"." * length}, vectors=vectors))
        frame = decode(data, 0, "log")
        assert (frame.vectors.ctypes.data - data.ctypes.data) % ALIGN == 0
        assert frame.vectors.base is not None


def test_bytes_are_as_documented() -> None:
    data = small_frame()
    magic, version, kind, sequence, synced, size, body_size, rows, dim, crc, zero = (
        struct.unpack_from("<4sHHQQQQQIII", data)
    )
    assert (magic, version, kind) == (b"VXF\n", 1, PUT)
    assert (sequence, synced, size) == (5, 192, len(data))
    assert (rows, dim, zero) == (2, 3, 0)
    assert crc == zlib.crc32(data[64:])
    assert struct.unpack_from("<I", data, 60)[0] == zlib.crc32(data[:60])
    assert msgpack.unpackb(data[64 : 64 + body_size]) == {"ids": [1, "b"]}
    start = 64 + -(-body_size // 64) * 64
    assert data[64 + body_size : start] == bytes(start - 64 - body_size)
    found = np.frombuffer(data, "<f4", count=6, offset=start).reshape(2, 3)
    np.testing.assert_array_equal(found, np.arange(6).reshape(2, 3))


def test_a_frame_cut_at_any_byte_is_bad() -> None:
    data = small_frame()
    for length in range(len(data)):
        with pytest.raises(BadFrameError):
            decode(array(data[:length]), 0, "log")


def test_any_single_flipped_bit_is_noticed() -> None:
    data = small_frame()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadFrameError):
            decode(array(bytes(damaged)), 0, "log")


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"VXF\n"], ids=["zeros", "ones", "magics"])
def test_what_is_no_frame_is_bad(fill: bytes) -> None:
    for length in (0, 4, 60, 64, 640):
        with pytest.raises(BadFrameError):
            decode(array((fill * length)[:length]), 0, "log")


def test_a_frame_of_another_operation_is_bad() -> None:
    data = array(small_frame())
    assert decode(data, 0, "log", 5).sequence == 5
    for expected in (0, 4, 6):
        with pytest.raises(BadFrameError, match=f"operation 5, expected {expected}"):
            decode(data, 0, "log", expected)


def with_header(data: bytes, offset: int, value: bytes) -> bytes:
    """Return a frame with other header bytes and the checksum that goes with them."""
    header = data[:offset] + value + data[offset + len(value) : 60]
    return header + struct.pack("<I", zlib.crc32(header)) + data[64:]


def test_a_newer_format_is_named() -> None:
    newer = with_header(small_frame(), 4, struct.pack("<H", 2))
    with pytest.raises(FormatVersionError, match=r"some file has format 2.*Install a newer"):
        decode(array(newer), 0, "some file")


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (32, struct.pack("<Q", 2**40)),
        (40, struct.pack("<Q", 2**33)),
        (40, struct.pack("<Q", 100)),
        (48, struct.pack("<I", 2**31)),
        (24, struct.pack("<Q", 2**62)),
    ],
    ids=["body", "rows", "some more rows", "dimension", "frame"],
)
def test_sizes_that_contradict_each_other_are_bad(offset: int, value: bytes) -> None:
    with pytest.raises(BadFrameError):
        decode(array(with_header(small_frame(), offset, value)), 0, "log")


@pytest.mark.parametrize(
    "body", [b"\xc1", b"\x93\x01", b"\xa5abc", b"\x81\x01\x02"], ids=["type", "list", "str", "key"]
)
def test_a_checksummed_body_that_is_no_msgpack_is_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptIndexError, match="not msgpack"):
        unpack(body)


def test_later_frames_tell_damage_from_a_torn_write() -> None:
    first = frame_bytes({"ids": [1]}, sequence=0, synced=0)
    second = frame_bytes({"ids": [2]}, sequence=1, synced=len(first))
    unsynced = frame_bytes({"ids": [2]}, sequence=1, synced=0)
    damaged = bytearray(first)
    damaged[70] ^= 1
    assert has_later_frame(array(bytes(damaged) + second), 0, "log")
    assert not has_later_frame(array(bytes(damaged) + unsynced), 0, "log")
    assert not has_later_frame(array(bytes(damaged)), 0, "log")
    assert not has_later_frame(array(bytes(damaged) + second[:-1]), 0, "log")
    assert not has_later_frame(array(first + bytes(damaged)), len(first), "log")
    third = frame_bytes({"ids": [3]}, sequence=2, synced=len(first) + len(second))
    garbled = bytes(damaged) + bytes(len(second)) + third
    assert has_later_frame(array(garbled), 0, "log")
    assert has_later_frame(array(first + bytes(len(second)) + third), len(first), "log")


def test_kinds_are_distinct() -> None:
    assert len({MANIFEST, PUT, REMOVE}) == 3
