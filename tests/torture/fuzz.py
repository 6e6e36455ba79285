"""Hostile files: readers meet bytes of somebody who can compute checksums.

Each round takes a small index, changes one kind of file in a way that its author might, makes all
checksums right again, and opens it with `trusted=False`. It must answer, or raise one of our
errors; whatever it answers must agree with itself. `python -m tests.torture.fuzz --seconds 600`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from tests.torture.samples import Answers, ask, copied, make_full, names
from vecindex import VectorIndex
from vecindex.errors import CorruptIndexError, FormatVersionError, IndexPathError
from vecindex.store.files import BLOCK_BYTES
from vecindex.store.frames import ALIGN, encode

REFUSALS = (CorruptIndexError, FormatVersionError, IndexPathError)
NUMBERS = [0, 1, -1, 2, 7, 15, 16, 17, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
           2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
ODDITIES: list[Any] = [
    None, True, False, 0.5, float("nan"), float("inf"), "", "x", "../../etc/passwd",
    "/etc/passwd", "log-1.vxl", "LOCK", "\0", b"", b"\xff" * 9, [], {}, [[]], {"a": 1}, [1, "b"],
    msgpack.ExtType(1, b"not a date"), msgpack.ExtType(7, b"?"), msgpack.Timestamp(0, 1),
]  # fmt: skip


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


# -- an index as its hostile author sees it --------------------------------------------------


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


def pick(path: Path, kind: str, choose: random.Random) -> str:
    """Return the name of one file of a kind."""
    return choose.choice([name for name in names(path) if name.startswith(kind)])


# -- one target for each reader --------------------------------------------------------------


def fuzz_manifest(path: Path, choose: random.Random) -> None:
    """Change the manifest's content."""
    body = manifest_of(path)
    for _ in range(choose.choice([1, 1, 2, 4])):
        body = mutate_value(body, choose)
    forge(path, body)


def fuzz_frames(path: Path, choose: random.Random) -> None:
    """Change a frame's header and bytes, its two checksums apart."""
    name = choose.choice(["MANIFEST", pick(path, "log", choose)])
    data = bytearray((path / name).read_bytes())
    start = choose.choice([at for at in range(0, len(data), ALIGN) if data[at : at + 3] == b"VXF"])
    (size,) = struct.unpack_from("<Q", data, start + 24)
    frame = bytearray(mutate_bytes(bytes(data[start : start + size]), choose)).ljust(64, b"\0")
    struct.pack_into("<I", frame, 52, zlib.crc32(frame[64:]))
    struct.pack_into("<I", frame, 60, zlib.crc32(frame[:60]))
    data[start : start + size] = frame
    (path / name).write_bytes(data)
    if name != "MANIFEST":
        bless(path, name, bytes(data))


def fuzz_log(path: Path, choose: random.Random) -> None:
    """Change an operation, its records, or its rows."""
    name = pick(path, "log", choose)
    frames = read_frames((path / name).read_bytes())
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
    bless(path, name, b"".join(write_frame(*frame) for frame in frames))


def mutate_record(packed: bytes, choose: random.Random) -> bytes:
    """Return the bytes of another record."""
    if choose.random() < 0.4:
        return mutate_bytes(packed, choose)
    value = msgpack.unpackb(packed, strict_map_key=False)
    packed_again: bytes = msgpack.packb(mutate_value(value, choose))
    return packed_again


def fuzz_records(path: Path, choose: random.Random) -> None:
    """Change a record, or a block around records."""
    name = pick(path, "rows", choose)
    data = (path / name).read_bytes()
    (count,) = struct.unpack_from("<Q", data, 8)
    blocks = -(-count // 16)
    table = np.frombuffer(data, "<u8", blocks + 1, len(data) - 4 - 8 * (blocks + 1)).tolist()
    if choose.random() < 0.2:
        at = len(data) - 4 - 8 * (blocks + 1)
        bless(path, name, data[:at] + mutate_bytes(data[at:], choose))
        return
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
    starts = np.cumsum([64, *map(len, body)]).astype("<u8").tobytes()
    whole = data[:64] + b"".join(body) + starts + struct.pack("<I", zlib.crc32(starts))
    bless(path, name, whole)


def fuzz_file(kind: str) -> Callable[[Path, random.Random], None]:
    """Return the target of a kind of file that is a header and arrays."""

    def fuzz(path: Path, choose: random.Random) -> None:
        name = pick(path, kind, choose)
        data = (path / name).read_bytes()
        if choose.random() < 0.3:
            changed = mutate_bytes(data[:64], choose)[:64].ljust(64, b"\0") + data[64:]
        else:
            changed = data[:64] + mutate_bytes(data[64:], choose)
        if choose.random() < 0.5:  # a size that is what the manifest's rows need
            changed = changed[: len(data)].ljust(len(data), b"\0")
        bless(path, name, with_header(changed) if len(data) >= 64 else changed)

    return fuzz


TARGETS: dict[str, Callable[[Path, random.Random], None]] = {
    "manifest": fuzz_manifest,
    "frames": fuzz_frames,
    "log": fuzz_log,
    "records": fuzz_records,
    "ids": fuzz_file("ids"),
    "vectors": fuzz_file("vectors"),
    "dead": fuzz_file("dead"),
    "queries": fuzz_file("queries"),
    "columns": fuzz_file("columns"),
    "structure": fuzz_file("structure"),
}


def consistent(answers: Answers) -> None:
    """Check that all answers are of the same rows."""
    rows = answers["rows"]
    assert answers["len"] == len(rows) == len({(type(row[0]), row[0]) for row in rows})
    assert answers["get"] == [row[:3] for row in rows]
    ids = [row[0] for row in rows]
    texts = {row[0]: row[1:3] for row in rows}
    for hits in answers["hits"]:
        assert len(hits) == min(3, len(rows))
        for found, score, text, metadata in hits:
            assert texts[found] == (text, metadata)
            assert -1.0 <= score <= 1.0
    for found in answers["exact"][0]:
        assert set(found) <= set(ids)
    # Caches may not have a say.
    numbers = [(row[2] or {}).get("n") for row in rows]
    plain = [isinstance(n, int | float) and not isinstance(n, bool) and n < 30 for n in numbers]
    assert answers["count"] == sum(plain)
    for row in rows:
        length = float(np.linalg.norm(np.frombuffer(row[3], "<f4")))
        assert abs(length - 1) < 2e-3


def one_round(base: Path, work: Path, target: str, seed: int) -> str:
    """Change, open and ask once; return what came of it."""
    path = copied(base, work / "x.vx")
    TARGETS[target](path, random.Random(f"{target} {seed}"))
    try:
        with VectorIndex.open(path, trusted=False) as index:
            answers = ask(index)
            index.refresh()
    except REFUSALS as error:
        return type(error).__name__
    consistent(answers)
    return "answered"


def run(target: str, rounds: int, seed: int = 0, seconds: float = 1e9) -> Counter[str]:
    """Run rounds of one target; a failure names the seed that it needs."""
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as work:
        make_full(base := Path(work, "base.vx"), indexed=20)
        for number in range(seed, seed + rounds):
            if time.monotonic() > until:
                break
            try:
                outcomes[one_round(base, Path(work), target, number)] += 1
            except Exception as error:
                error.add_note(f"target {target!r}, seed {number}")
                raise
    return outcomes


def flip_all(path: Path, seconds: float) -> Counter[str]:
    """Flip every bit of every file of a small index; each answer must be right, or refused."""
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    with VectorIndex.open(path) as index:
        right = ask(index)
    places = [(name, at) for name in names(path) for at in range((path / name).stat().st_size * 8)]
    random.Random(0).shuffle(places)
    for name, at in places:
        if time.monotonic() > until:
            break
        good = (path / name).read_bytes()
        data = bytearray(good)
        data[at // 8] ^= 1 << at % 8
        (path / name).write_bytes(data)
        try:
            with VectorIndex.open(path) as index:
                assert ask(index) == right, f"{name}, bit {at}"
                outcomes["right"] += 1
        except CorruptIndexError:
            outcomes["refused"] += 1
        (path / name).write_bytes(good)
    outcomes["left"] = len(places) - outcomes["right"] - outcomes["refused"]
    return outcomes


def main() -> None:
    """Run the targets one after the other and print what came of them as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join([*TARGETS, 'damage'])}")
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    given = parser.parse_args()
    for target in given.targets or [*TARGETS, "damage"]:
        begun = time.monotonic()
        if target == "damage":
            work = Path(tempfile.mkdtemp())
            make_full(work / "x.vx", indexed=20)
            outcomes = flip_all(work / "x.vx", given.seconds)
            shutil.rmtree(work)
        else:
            outcomes = run(target, 1 << 60, given.seed, given.seconds)
        spent = round(time.monotonic() - begun, 1)
        print(json.dumps({"target": target, "seed": given.seed, "seconds": spent} | outcomes))  # noqa: T201


if __name__ == "__main__":
    main()
