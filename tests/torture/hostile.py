"""An index as somebody sees it who means harm: its files taken apart, changed, and made to hold.

What is changed here has all its checksums right again, unless somebody wants them wrong.
"""

from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from vecindex.store.files import BLOCK_BYTES
from vecindex.store.frames import ALIGN, encode

NUMBERS = [0, 1, -1, 2, 7, 15, 16, 17, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
           2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
ODDITIES: list[Any] = [
    None, True, False, 0.5, float("nan"), float("inf"), "", "x", "../../etc/passwd",
    "/etc/passwd", "log-1.vxl", "LOCK", "\0", b"", b"\xff" * 9, [], {}, [[]], {"a": 1}, [1, "b"],
    msgpack.ExtType(1, b"not a date"), msgpack.ExtType(7, b"?"), msgpack.Timestamp(0, 1),
]  # fmt: skip


NO = np.empty((0, 0), np.float32)


def mutate_value(value: Any, choose: random.Random, depth: int = 0) -> Any:
    """Return a value of which something, somewhere, is another."""
    if isinstance(value, dict) and value and choose.random() < 0.9:
        key = choose.choice(list(value))
        changed = dict(value)
        what = choose.random()
        if what < 0.08:
            del changed[key]
        elif what < 0.12:
            changed[choose.choice(["", "x", 5, b"k"])] = changed[key]
        else:
            changed[key] = mutate_value(value[key], choose, depth + 1)
        return changed
    if isinstance(value, list | tuple) and value and choose.random() < 0.9:
        items = list(value)
        place = choose.randrange(len(items))
        what = choose.random()
        if what < 0.1:
            del items[place]
        elif what < 0.2:
            items.insert(place, items[choose.randrange(len(items))])
        elif what < 0.25:
            items[place:] = items[place:] * 3
        else:
            items[place] = mutate_value(items[place], choose, depth + 1)
        return items
    if isinstance(value, bytes) and value and choose.random() < 0.6:
        return mutate_bytes(value, choose)
    if isinstance(value, int) and choose.random() < 0.6:
        return choose.choice([value + 1, value - 1, -value, value * 2, choose.choice(NUMBERS)])
    if choose.random() < 0.1:
        nested: Any = 1
        for _ in range(choose.choice([3, 70, 500])):
            nested = [nested] if choose.random() < 0.5 else {"k": nested}
        return nested
    return choose.choice([*NUMBERS[:-4], *ODDITIES])


def mutate_bytes(data: bytes, choose: random.Random) -> bytes:
    """Return bytes of which some are others, are more or are fewer."""
    changed = bytearray(data)
    for _ in range(choose.choice([1, 1, 1, 2, 5])):
        if not changed:
            break
        place = choose.randrange(len(changed))
        what = choose.randrange(6)
        if what == 0:
            changed[place] ^= 1 << choose.randrange(8)
        elif what == 1:
            changed[place] = choose.randrange(256)
        elif what == 2:  # a number of some width
            form = choose.choice(["<I", "<Q", "<i", "<q", ">I"])
            width = struct.calcsize(form)
            limit = 1 << (8 * width)
            number = choose.choice(NUMBERS) % limit
            if form.islower() and form[-1] in "iq":
                number -= limit if number >= limit // 2 else 0
            place -= place % 4
            changed[place : place + width] = struct.pack(form, number)
        elif what == 3:
            del changed[place : place + choose.choice([1, 4, 16, 64])]
        elif what == 4:
            changed[place:place] = choose.randbytes(choose.choice([1, 4, 16, 64]))
        else:
            other = choose.randrange(len(changed))
            changed[place : place + 8] = changed[other : other + 8]
    return bytes(changed)


def read_frames(data: bytes) -> list[tuple[dict[str, int], Any, np.ndarray]]:
    """Return header fields, body and rows of each frame."""
    found = []
    at = 0
    while at + ALIGN <= len(data):
        _, _, kind, sequence, synced, size, length, count, dim, _, owner = struct.unpack_from(
            "<4sHHQQQQQIII", data, at
        )
        start = at + ALIGN
        body = msgpack.unpackb(data[start : start + length], strict_map_key=False)
        start += length + (-length % ALIGN)
        vectors = np.frombuffer(data, "<f4", count * dim, start).reshape(count, dim)
        fields = {"kind": kind, "sequence": sequence, "synced": synced, "owner": owner}
        found.append((fields, body, vectors))
        at += size
    return found


def write_frame(fields: dict[str, int], body: Any, vectors: np.ndarray) -> bytes:
    """Return one frame."""
    buffers, _ = encode(
        fields["kind"], body, sequence=fields["sequence"], synced=fields["synced"],
        vectors=np.ascontiguousarray(vectors) if vectors.size else None, owner=fields["owner"],
    )  # fmt: skip
    return b"".join(bytes(buffer) for buffer in buffers)


def forge(path: Path, body: Any) -> None:
    """Put a manifest in place, with its checksum."""
    (fields, _, vectors) = read_frames((path / "MANIFEST").read_bytes())[0]
    (path / "MANIFEST").write_bytes(write_frame(fields, body, vectors))


def manifest_of(path: Path) -> dict[str, Any]:
    """Return the manifest's content."""
    body: dict[str, Any] = read_frames((path / "MANIFEST").read_bytes())[0][1]
    return body


def bless(path: Path, name: str, data: bytes) -> None:
    """Write a file and make the manifest believe in it."""
    (path / name).write_bytes(data)
    body = manifest_of(path)
    blocks = range(0, len(data), BLOCK_BYTES)
    crcs = b"".join(struct.pack("<I", zlib.crc32(data[at : at + BLOCK_BYTES])) for at in blocks)

    def swap(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: swap(inner) for key, inner in value.items()}
        if isinstance(value, list) and len(value) == 3 and value[0] == name:
            return [name, len(data), crcs]
        return [swap(inner) for inner in value] if isinstance(value, list) else value

    body = swap(body)
    for log in body["logs"]:
        if log[0] == name:
            log[3] = min(log[3], len(data))
            log[2] = None if log[2] is None else len(data)
    forge(path, body)


def with_header(data: bytes) -> bytes:
    """Return a file whose header of 64 bytes has the right checksum."""
    return data[:60] + struct.pack("<I", zlib.crc32(data[:60])) + data[64:]


def mutate_record(packed: bytes, choose: random.Random) -> bytes:
    """Return the bytes of another record."""
    if choose.random() < 0.4:
        return mutate_bytes(packed, choose)
    value = msgpack.unpackb(packed, strict_map_key=False)
    packed_again: bytes = msgpack.packb(mutate_value(value, choose))
    return packed_again


# -- checksums that hold, whatever they are of -------------------------------------------------


def raw_frame(packed: bytes, kind: int = 1) -> bytes:
    """Return a frame around a body that need not be msgpack."""
    frame = bytearray(write_frame({"kind": kind, "sequence": 0, "synced": 0, "owner": 0}, None, NO))
    body = packed + bytes(-len(packed) % ALIGN)
    struct.pack_into("<QQ", frame, 24, ALIGN + len(body), len(packed))
    return held_frames(bytes(frame[:ALIGN]) + body)


def held_frames(data: bytes) -> bytes:
    """Return frames with the checksums that they should have."""
    found = bytearray(data)
    for at in range(0, len(found) - ALIGN + 1, ALIGN):
        if found[at : at + 3] == b"VXF":
            (size,) = struct.unpack_from("<Q", found, at + 24)
            struct.pack_into("<I", found, at + 52, zlib.crc32(found[at + ALIGN : at + size]))
            struct.pack_into("<I", found, at + 60, zlib.crc32(found[at : at + 60]))
    return bytes(found)


def held_records(data: bytes) -> bytes:
    """Return a records file with the checksums that it should have, as far as it is one."""
    found = bytearray(with_header(data)) if len(data) >= ALIGN else bytearray(data)
    with suppress(struct.error, ValueError):
        _, table = _table(bytes(found))
        for start, stop in pairwise(table):
            if ALIGN <= start < stop - 8 < stop <= len(found):
                struct.pack_into("<I", found, start, zlib.crc32(found[start + 8 : stop]))
        at = len(found) - 4 - 8 * len(table)
        struct.pack_into("<I", found, len(found) - 4, zlib.crc32(found[at:-4]))
    return bytes(found)


def _table(data: bytes) -> tuple[int, list[int]]:
    """Return the number of records and the bounds of their blocks."""
    (count,) = struct.unpack_from("<Q", data, 8)
    blocks = -(-count // 16)
    start = len(data) - 4 - 8 * (blocks + 1)
    if start < ALIGN:
        raise ValueError("no table")
    return count, np.frombuffer(data, "<u8", blocks + 1, start).tolist()


# -- changes that keep the form --------------------------------------------------------------


def mutate_packed(packed: bytes, choose: random.Random) -> bytes:
    """Return msgpack of which something, somewhere, is another."""
    value = msgpack.unpackb(packed, strict_map_key=False)
    for _ in range(choose.choice([1, 1, 2, 4])):
        value = mutate_value(value, choose)
    changed: bytes = msgpack.packb(value)
    return changed


def mutate_log(data: bytes, choose: random.Random) -> bytes:
    """Return a log with another operation, record or row in it."""
    frames = read_frames(data)
    number = choose.randrange(len(frames))
    fields, body, vectors = frames[number]
    what = choose.randrange(5)
    if what == 0 and body.get("records"):
        place = choose.randrange(len(body["records"]))
        body["records"][place] = mutate_record(body["records"][place], choose)
    elif what == 1 and vectors.size:
        vectors = vectors.copy()
        vectors.flat[choose.randrange(vectors.size)] = choose.choice([np.nan, np.inf, 7, 0, -1e38])
    elif what == 2:
        key = choose.choice(list(fields))
        fields = fields | {key: choose.choice(NUMBERS) % (1 << 16)}
    elif what == 3 and len(vectors) > 1:
        vectors = choose.choice([vectors[1:], vectors[:, 1:], vectors.reshape(1, -1)])
    else:
        body = mutate_value(body, choose)
    frames[number] = fields, body, vectors
    return b"".join(write_frame(*frame) for frame in frames)


def mutate_records(data: bytes, choose: random.Random) -> bytes:
    """Return a records file with another record, or another block around records."""
    count, table = _table(data)
    blocks = len(table) - 1
    if choose.random() < 0.2:
        return data[: table[-1]] + mutate_bytes(data[table[-1] :], choose)
    block = choose.randrange(blocks)
    rest = data[table[block] + 8 : table[block + 1]]
    inside = min(16, count - 16 * block)
    if choose.random() < 0.3:
        rest = mutate_bytes(rest, choose)
    else:
        ends = [0, *struct.unpack_from(f"<{inside}I", rest)]
        payload = rest[4 * inside :]
        records = [payload[a:b] for a, b in pairwise(ends)]
        place = choose.randrange(inside)
        records[place] = mutate_record(records[place], choose)
        ends = np.cumsum([len(record) for record in records]).tolist()
        rest = struct.pack(f"<{inside}I", *ends) + b"".join(records)
    made = struct.pack("<II", zlib.crc32(rest), len(rest)) + rest
    body = [data[table[i] : table[i + 1]] if i != block else made for i in range(blocks)]
    starts = np.cumsum([ALIGN, *map(len, body)]).astype("<u8").tobytes()
    return data[:ALIGN] + b"".join(body) + starts + struct.pack("<I", zlib.crc32(starts))


def saved(array: np.ndarray) -> bytes:
    """Return the bytes of an `.npy` file."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()
