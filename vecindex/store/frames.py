"""Checksummed frames: the unit of the log, and the form of the manifest.

A frame is a header of 64 bytes, a msgpack body, and optionally float32 rows; body and rows are
padded with zeros to 64 bytes. The header's layout is the same in every format version::

    0  4s  magic "VXF\\n"          32  u64  body bytes
    4  u16 format version         40  u64  rows
    6  u16 kind                   48  u32  dimension
    8  u64 sequence number        52  u32  CRC-32 of everything after the header
    16 u64 known to be synced     56  u32  owner
    24 u64 frame bytes            60  u32  CRC-32 of the first 60 bytes

The owner is a random number that all frames of one index have.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from vecindex.arrays import Float32Array, UInt8Array
from vecindex.checksum import crc32
from vecindex.errors import CorruptIndexError, FormatVersionError
from vecindex.store.files import Buffer

FORMAT = 1
"""Version of the file format that this code writes; it reads this one."""

ALIGN = 64
_MAGIC = b"VXF\n"
_HEADER = struct.Struct("<4sHHQQQQQIII")
_CRC = struct.Struct("<I")

MANIFEST, PUT, REMOVE = 1, 2, 3
"""Kinds of frames."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame.

    Parameters
    ----------
    kind : int
        `MANIFEST`, `PUT` or `REMOVE`.
    sequence : int
        Number of the operation since the index was created.
    synced : int
        Bytes of this log that were on stable storage when the frame was written.
    body : object
        The msgpack body.
    vectors : ndarray of float32, shape (n, dim)
        A view of the bytes that were parsed.
    size : int
        Bytes of the whole frame.
    header : bytes
        Its header, which no other frame of any log has.
    owner : int
        The number of the index that it belongs to.
    """

    kind: int
    sequence: int
    synced: int
    body: Any
    vectors: Float32Array
    size: int
    header: bytes
    owner: int


class BadFrameError(Exception):
    """The bytes at an offset are not a whole, undamaged frame."""


def encode(
    kind: int,
    body: Any,
    *,
    sequence: int = 0,
    synced: int = 0,
    vectors: Float32Array | None = None,
    owner: int = 0,
) -> tuple[list[Buffer], int]:
    """Return a frame as buffers to be written in order, and their total size in bytes."""
    packed = msgpack.packb(body, use_bin_type=True)
    buffers: list[Buffer] = [packed, bytes(-len(packed) % ALIGN)]
    rows, dim = (0, 0) if vectors is None else vectors.shape
    if vectors is not None and vectors.nbytes:
        buffers += [vectors.data.cast("B"), bytes(-vectors.nbytes % ALIGN)]
    size = _HEADER.size + 4 + sum(memoryview(buffer).nbytes for buffer in buffers)
    crc = 0
    for buffer in buffers:
        crc = crc32(buffer, crc)
    header = _HEADER.pack(
        _MAGIC, FORMAT, kind, sequence, synced, size, len(packed), rows, dim, crc, owner
    )
    return [header + _CRC.pack(crc32(header)), *buffers], size


def decode(data: UInt8Array, offset: int, name: str, expected: int | None = None) -> Frame:
    """Return the frame that starts at `offset` of the file `name`, numbered `expected`.

    Raises
    ------
    BadFrameError
        If there is no whole, undamaged frame.
    FormatVersionError
        If it was written by a newer format.
    """
    kind, sequence, synced, size, body_size, rows, dim, crc, owner = read_header(data, offset, name)
    if expected is not None and sequence != expected:
        raise BadFrameError(f"this is operation {sequence}, expected {expected}")
    start, stop = offset + ALIGN, offset + size
    if stop > len(data):
        raise BadFrameError(f"the frame needs {size} bytes, {len(data) - offset} are there")
    if crc32(data[start:stop].data) != crc:
        raise BadFrameError("checksum mismatch in the frame's body")
    vectors_start = start + body_size + (-body_size % ALIGN)
    vectors_stop = vectors_start + rows * dim * 4
    if vectors_stop > stop or size % ALIGN or (rows and not dim):
        raise BadFrameError("the frame's sizes contradict each other")
    try:
        body = unpack(data[start : start + body_size])
    except CorruptIndexError as error:
        raise CorruptIndexError(f"{name} is damaged at offset {offset}: {error}") from error
    vectors = data[vectors_start:vectors_stop].view("<f4").reshape(rows, dim)
    header = data[offset:start].tobytes()
    return Frame(kind, sequence, synced, body, vectors, size, header, owner)


def read_header(data: UInt8Array, offset: int, name: str) -> tuple[int, ...]:
    """Return kind, sequence, synced, sizes, checksum and owner of the header at `offset`."""
    header = data[offset : offset + ALIGN].tobytes()
    if len(header) < ALIGN or not header.startswith(_MAGIC):
        raise BadFrameError("no frame starts here")
    if crc32(header[:60]) != _CRC.unpack_from(header, 60)[0]:
        raise BadFrameError("checksum mismatch in the frame's header")
    _, version, *rest = _HEADER.unpack_from(header)
    if version > FORMAT:
        raise FormatVersionError(
            f"{name} has format {version}; this version of vecindex reads format {FORMAT} and "
            "older. Install a newer vecindex; nothing was changed"
        )
    return tuple(rest)


def well_formed(data: UInt8Array | bytes) -> None:
    """Raise unless the bytes are one msgpack object; makes none.

    Before 1.2 msgpack makes room for as many entries as a count says, at every depth anew: 1 MB
    can ask for 7 GB. Here the counts are held against the bytes that are there.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    unpacker.skip()
    if unpacker.tell() != len(data):
        raise ValueError("there are bytes behind it")


def unpack(data: UInt8Array | bytes) -> Any:
    """Return what msgpack decodes, as plain Python objects."""
    try:
        well_formed(data)
        return msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=4096)
    except (ValueError, msgpack.UnpackException) as error:
        raise CorruptIndexError(f"a checksummed body is not msgpack: {error}") from error


def has_later_frame(data: UInt8Array, offset: int, name: str, place: int | None = None) -> bool:
    """Return whether a frame after `offset` knew as synced the damaged place.

    `place` is that place in the file, the same as `offset` if `data` is the whole file.

    If there is one, the bytes at `offset` were once on stable storage: they are damaged. If
    there is none, the file ends in writes that were never acknowledged as durable.
    """
    heads = data[: len(data) // ALIGN * ALIGN].reshape(-1, ALIGN)[offset // ALIGN + 1 :, :4]
    starts = np.flatnonzero((heads == np.frombuffer(_MAGIC, dtype=np.uint8)).all(axis=1))
    for start in starts:
        later = (int(start) + offset // ALIGN + 1) * ALIGN
        try:
            frame = decode(data, later, name)
        except (BadFrameError, CorruptIndexError):
            continue
        if frame.synced > (offset if place is None else place):
            return True
    return False
