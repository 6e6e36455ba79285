"""What is fuzzed: one target for each reader of bytes that we did not just write.

A target is given bytes. It must return what came of them, or raise what breaks the promise: any
error but ours, an answer that contradicts itself, more memory than its process may have. Bytes
of an index's files get the checksums that they should have: checksums stop accidents, and here
is somebody who can compute them.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np

from vecindex import VectorIndex
from vecindex.embed import fingerprint
from vecindex.errors import (
    CorruptIndexError,
    EmbedderError,
    FormatVersionError,
    IndexPathError,
)
from vecindex.store.codec import RecordPacker, unpack_metadata, unpack_record
from vecindex.store.untrusted import admit_record

from . import hostile, readers
from .readers import GOLDEN, Attempt
from .samples import Answers, ask

REFUSALS = (CorruptIndexError, FormatVersionError, IndexPathError)
_ADMIT = "store/untrusted.py"

Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """One reader.

    Parameters
    ----------
    prepare : callable
        Is given an empty directory; returns what tries bytes there.
    seeds : callable
        Returns bytes to begin with.
    mutate : callable
        Changes bytes and keeps their form; may raise anything if they have none.
    code : tuple of str
        Rooms and modules that are tried: results of others are not added up.
    """

    prepare: Callable[[Path], Attempt]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    code: tuple[str, ...]


# -- files of an index -----------------------------------------------------------------------


def _places(kind: str) -> list[tuple[str, str]]:
    """Return directory and name of all golden files of a kind; bytes begin with such a number."""
    return sorted(
        (file.parent.name, file.name)
        for file in GOLDEN.glob(f"*-[0-9]*/{kind}*")
        if file.stat().st_size
    )


def _file_target(
    kind: str,
    code: tuple[str, ...],
    hold: Callable[[bytes], bytes],
    mutate: Mutate = hostile.mutate_bytes,
) -> Target:
    """Return the target of one kind of file in an index, whose checksums `hold` mends."""
    places = _places(kind)

    def prepare(work: Path) -> Attempt:
        for directory, _ in places:
            if not (work / directory).exists():
                shutil.copytree(GOLDEN / directory, work / directory)

        def attempt(data: bytes) -> str:
            directory, name = places[data[0] % len(places)] if data else places[0]
            path, held = work / directory, hold(data[1:])
            whole = {file: (path / file).read_bytes() for file in (name, "MANIFEST")}
            try:
                if name == "MANIFEST":
                    (path / name).write_bytes(held)
                else:
                    hostile.bless(path, name, held)
                return open_untrusted(path)
            finally:
                for file, good in whole.items():
                    (path / file).write_bytes(good)

        return attempt

    def seeds() -> list[bytes]:
        return [
            bytes([number]) + (GOLDEN / directory / name).read_bytes()
            for number, (directory, name) in enumerate(places)
        ]

    def behind_the_number(data: bytes, choose: random.Random) -> bytes:
        return data[:1] + mutate(data[1:], choose)

    return Target(prepare, seeds, behind_the_number, code)


def _manifest_target() -> Target:
    """Return the target of what a MANIFEST says: its frame is always whole."""
    code = ("store/manifest.py", _ADMIT, "embed/fingerprint.py")
    frame = _file_target("MANIFEST", code, hostile.raw_frame, hostile.mutate_packed)

    def seeds() -> list[bytes]:
        found = []
        for number, (directory, _) in enumerate(_places("MANIFEST")):
            body = hostile.manifest_of(GOLDEN / directory)
            body["embedder"] = fingerprint.Fingerprint(
                "function:somebody", None, 8, {}, np.eye(3, 8, dtype=np.float32)
            ).to_dict()
            found.append(bytes([number]) + msgpack.packb(body))
        return found

    return Target(frame.prepare, seeds, frame.mutate, code)


def open_untrusted(path: Path) -> str:
    """Open an index of somebody, ask it everything, and look whether that is of one mind."""
    try:
        with VectorIndex.open(path, trusted=False) as index:
            answers = ask(index)
            index.refresh()
    except REFUSALS as error:
        return type(error).__name__
    consistent(answers)
    with suppress(*REFUSALS, EmbedderError):
        VectorIndex.open(path, trusted=False, embedder=_embed).close()
    return "answered"


def _embed(texts: Sequence[str]) -> np.ndarray:
    return np.ones((len(texts), 8), dtype=np.float32)


def consistent(answers: Answers) -> None:
    """Check that all answers are of the same rows."""
    rows = answers["rows"]
    assert answers["len"] == len(rows) == len({(type(row[0]), row[0]) for row in rows})
    for record_id, text, metadata, _ in rows:
        assert type(record_id) in (str, int)
        assert isinstance(text, str | None) and isinstance(metadata, dict | None)
    # As text: what is not a number equals nothing, itself included.
    assert repr(answers["get"]) == repr([row[:3] for row in rows])
    ids = [row[0] for row in rows]
    texts = {row[0]: row[1:3] for row in rows}
    for hits in answers["hits"]:
        assert len(hits) == min(3, len(rows))
        for found, score, text, metadata in hits:
            assert repr(texts[found]) == repr((text, metadata))
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


# -- one record ------------------------------------------------------------------------------


def _codec(_: Path) -> Attempt:
    packer = RecordPacker()

    def attempt(data: bytes) -> str:
        try:
            admit_record(data)
        except (ValueError, CorruptIndexError):
            return "refused"
        record = unpack_record(data)
        assert repr(unpack_metadata([data])) == repr([record.metadata])
        again = packer.pack(0, record.id, record.text, record.metadata)
        assert repr(unpack_record(again)) == repr(record)
        return "answered"

    return attempt


def _records() -> list[bytes]:
    return [
        record
        for directory, name in _places("log")
        for _, body, _ in hostile.read_frames((GOLDEN / directory / name).read_bytes())
        for record in body.get("records", ())
    ]


TARGETS: dict[str, Target] = {
    "manifest": _manifest_target(),
    "frames": _file_target("MANIFEST", ("store/frames.py",), hostile.held_frames),
    "log": _file_target(
        "log",
        ("store/frames.py", "store/log.py", "store/state.py", _ADMIT),
        hostile.held_frames,
        hostile.mutate_log,
    ),
    "records": _file_target(
        "rows",
        ("store/records.py", "store/codec.py", _ADMIT),
        hostile.held_records,
        hostile.mutate_records,
    ),
    "ids": _file_target("ids", ("store/ids.py", _ADMIT), hostile.with_header),
    "vectors": _file_target("vectors", ("store/vectors.py", _ADMIT), hostile.with_header),
    "dead": _file_target("dead", ("store/state.py", _ADMIT), bytes),
    "codec": Target(_codec, _records, hostile.mutate_packed, ("store/codec.py", _ADMIT)),
    "faiss": Target(
        readers.interchange,
        readers.interchange_seeds,
        hostile.mutate_bytes,
        ("ann/interchange.py",),
    ),
    "words": Target(
        readers.words, readers.words_seeds, hostile.mutate_bytes, ("embed/word_files.py",)
    ),
    "cache": Target(
        readers.cache, readers.cache_seeds, hostile.mutate_bytes, ("embed/cache_file.py",)
    ),
    "sources": Target(readers.sources, readers.sources_seeds, hostile.mutate_bytes, ("io",)),
    "notes": Target(
        readers.notes,
        readers.notes_seeds,
        readers.mutate_json,
        ("build/options.py", "bench/report.py"),
    ),
    "where": Target(
        readers.where, readers.where_seeds, readers.mutate_json, ("filters", "store/masks.py")
    ),
}
"""By name, what reads the bytes."""
