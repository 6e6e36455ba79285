"""Admitting an index from a stranger: all of it is checked before any of it is used.

A checksum says that bytes are as they were written, not that they were written in good faith.
So caches, which FAISS and Arrow would parse, are left alone, and of the truth everything that the
readers rely on is looked at once, when it is opened. What was admitted is read like any other.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

import msgpack
import numpy as np

from vecindex.arrays import BoolArray, Float32Array
from vecindex.errors import CorruptIndexError, SpecError
from vecindex.results import Id
from vecindex.spec import spec_from_dict
from vecindex.store.codec import DEAD_RECORD, MAX_DEPTH, unpack_fields
from vecindex.store.files import BLOCK_BYTES, Directory, FileEntry
from vecindex.store.frames import PUT, REMOVE, Frame, well_formed
from vecindex.store.manifest import Manifest
from vecindex.store.segment import Segment
from vecindex.store.state import State

_MOST_DIM = 1 << 16
_INTS = range(-(2**63), 2**63)
_LENGTH_ERROR = 1e-3  # of a unit row's squared length; float32 leaves some 1e-6
_CHUNK_ROWS = 4096
_LEAVES = (str, int, float, bool, bytes, datetime, type(None))
_COUNTS = range(1 << 63)


class UntrustedDirectory(Directory):
    """A directory of which only plain files are read: no links, pipes or devices."""

    def descriptor(self, name: str) -> int:
        """Return a descriptor of a plain file that is open for reading."""
        path = self.path / name
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would block
        try:
            fd = os.open(path, flags)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise _not_plain(str(path)) from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _not_plain(str(path))
        return fd


def _not_plain(path: str) -> CorruptIndexError:
    return CorruptIndexError(
        f"{path} is no plain file: links and others are not followed in an untrusted index"
    )


def admit_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest without what must not be used, after checking the rest.

    Raises
    ------
    CorruptIndexError
        If a field is not what we would have written.
    """
    _demand(manifest.dim is None or _is_int(manifest.dim, range(1, _MOST_DIM)), "dim")
    for name in ("generation", "next_id", "next_file"):
        _demand(_is_int(getattr(manifest, name), _COUNTS), name)
    _demand(_is_int(manifest.owner, range(1 << 32)), "owner")
    _demand(type(manifest.target_recall) in (int, float), "target_recall")
    _demand(0 < manifest.target_recall <= 1, "target_recall")
    _demand(isinstance(manifest.spec, dict), "spec")
    try:
        spec_from_dict(manifest.spec)
    except (SpecError, TypeError, ValueError) as error:
        raise CorruptIndexError(f"MANIFEST: its spec cannot be used: {error}") from error
    embedder = manifest.embedder
    _demand(
        embedder is None or (isinstance(embedder, dict) and isinstance(embedder.get("name"), str)),
        "embedder",
    )
    _admit_logs(manifest)
    _demand(not manifest.segments or manifest.dim is not None, "segments without a dimension")
    for segment in manifest.segments:
        _demand(_is_int(segment.rows, range(1, 1 << 40)), "rows")
        for entry, pattern in (
            (segment.vectors, r"vectors-\d+\.f32"),
            (segment.records, r"rows-\d+\.vxr"),
            (segment.ids, r"ids-\d+\.vxi"),
        ):
            _admit_entry(entry, pattern)
    if manifest.dead is not None:
        _demand(bool(manifest.segments), "removed rows without segments")
        _admit_entry(manifest.dead, r"dead-\d+\.vxd")
    segments = tuple(replace(segment, columns=None) for segment in manifest.segments)
    return replace(manifest, segments=segments, structure=None, choice=None, queries=None)


def _admit_logs(manifest: Manifest) -> None:
    _demand(bool(manifest.logs), "no log")
    for number, log in enumerate(manifest.logs):
        _demand(re.fullmatch(r"log-\d+\.vxl", log.name) is not None, "a log's name")
        _demand(_is_int(log.sequence, _COUNTS) and _is_int(log.synced, _COUNTS), "a log's numbers")
        closed = number < len(manifest.logs) - 1
        _demand(_is_int(log.size, _COUNTS) if closed else log.size is None, "a log's size")


def _admit_entry(entry: FileEntry, pattern: str) -> None:
    _demand(re.fullmatch(pattern, entry.name) is not None, f"the name {entry.name}")
    _demand(_is_int(entry.size, _COUNTS), f"the size of {entry.name}")
    wanted = 4 * -(-entry.size // BLOCK_BYTES)
    _demand(
        isinstance(entry.crcs, bytes) and len(entry.crcs) == wanted, f"checksums of {entry.name}"
    )


def _demand(good: bool, what: str) -> None:
    if not good:
        raise CorruptIndexError(f"MANIFEST is damaged at offset 64: {what} cannot be")


def _is_int(value: object, within: range) -> bool:
    return type(value) is int and value in within


def admit_segments(state: State, before: State | None) -> None:
    """Check the rows of a state's segments, but for those that an earlier state has.

    Raises
    ------
    CorruptIndexError
        Naming the file, if rows, records and ids contradict each other, or cannot be used.
    """
    known = set() if before is None else {id(segment) for segment in before.segments}
    for segment, dead in zip(state.segments, state.dead, strict=False):
        if id(segment) not in known:
            _admit_vectors(segment)
            segment.check_ids()
            _admit_rows(segment, dead)
    _admit_twins(state)


def _admit_vectors(segment: Segment) -> None:
    segment.check_rows()
    for start in range(0, segment.count, _CHUNK_ROWS):
        bad = _not_unit(segment.vectors[start : start + _CHUNK_ROWS])
        if bad.any():
            row = start + int(np.flatnonzero(bad)[0])
            raise CorruptIndexError(f"{segment.entry.vectors.name}: row {row} is no unit row")


def _not_unit(rows: Float32Array) -> BoolArray:
    with np.errstate(all="ignore"):
        good: BoolArray = np.abs(np.vecdot(rows, rows) - 1) <= _LENGTH_ERROR
    return np.logical_not(good)  # NaN is not good


def _admit_rows(segment: Segment, dead: BoolArray | None) -> None:
    """Check each record, and that the id table leads to the rows that are not removed."""
    records = segment.scan_records()
    for start in range(0, segment.count, _CHUNK_ROWS):
        chunk = list(islice(records, _CHUNK_ROWS))
        rows = np.arange(start, start + len(chunk))
        ids: list[Id] = []
        places: list[int] = []
        for row, packed in zip(rows.tolist(), chunk, strict=True):
            if packed == DEAD_RECORD and dead is not None and dead[row]:
                continue
            try:
                ids.append(admit_record(packed))
            except (ValueError, CorruptIndexError) as error:
                raise CorruptIndexError(
                    f"{segment.entry.records.name}: row {row} cannot be used: {error}"
                ) from error
            places.append(row)
        live = np.array(places, dtype=np.int64)
        if dead is not None:
            alive = ~dead[live]
            ids = [value for value, kept in zip(ids, alive.tolist(), strict=True) if kept]
            live = live[alive]
        if not np.array_equal(segment.find(ids), live) or segment.ids(live) != ids:
            raise CorruptIndexError(
                f"{segment.entry.ids.name}: it is not of the rows from {start} on"
            )


def _admit_twins(state: State) -> None:
    """Check that the newest row of each id is the only one that is not removed."""
    for number, segment in enumerate(state.segments):
        dead = state.dead[number]
        live = np.arange(segment.count) if dead is None else np.flatnonzero(~dead)
        for start in range(0, len(live), _CHUNK_ROWS):
            rows = live[start : start + _CHUNK_ROWS]
            parts, found = state.find(segment.ids(rows))
            if (parts != number).any() or not np.array_equal(found, rows):
                raise CorruptIndexError(f"{segment.entry.ids.name}: an id is there twice")


def admit_frame(frame: Frame, dim: int | None) -> None:
    """Check a logged operation.

    Raises
    ------
    ValueError
        If it is not one that we would have written.
    """
    body = frame.body
    if frame.kind not in (PUT, REMOVE) or not isinstance(body, dict):
        raise ValueError("this is no operation")
    ids = body.get("ids")
    if not isinstance(ids, list) or not all(map(_is_id, ids)) or len(set(ids)) != len(ids):
        raise ValueError("its ids cannot be used")
    if frame.kind == REMOVE:
        return
    records = body.get("records")
    if not isinstance(records, list) or not len(records) == len(ids) == len(frame.vectors):
        raise ValueError("its rows differ in number")
    if dim is None or frame.vectors.shape[1] != dim or _not_unit(frame.vectors).any():
        raise ValueError("its vectors are no unit rows of the index's dimension")
    for value, packed in zip(ids, records, strict=True):
        found = admit_record(packed) if isinstance(packed, bytes) else None
        if found != value or type(found) is not type(value):
            raise ValueError(f"the record of {value!r} is another one's")


def admit_record(packed: bytes) -> Id:
    """Return the id of a packed record.

    Raises
    ------
    ValueError, CorruptIndexError
        If it is not one that we would have written.
    """
    try:
        well_formed(packed)
    except msgpack.UnpackException as error:
        raise ValueError(f"no msgpack: {error!r}") from error
    record_id, text, metadata = unpack_fields(packed)
    if not _is_id(record_id):
        raise ValueError("it has no id")
    if not isinstance(text, str | None) or not isinstance(metadata, dict | None):
        raise ValueError("text or metadata are of another kind")  # noqa: TRY004 - of the bytes
    _admit_values([metadata])
    return record_id


def _is_id(value: Any) -> bool:
    return type(value) is str or _is_int(value, _INTS)


def _admit_values(values: Sequence[Any]) -> None:
    """Go down level by level, so that no depth is too deep for the check itself."""
    depth = 0
    while values:
        below: list[Any] = []
        for value in values:
            if isinstance(value, dict | list) and depth > MAX_DEPTH:
                raise ValueError(f"its metadata is nested more than {MAX_DEPTH} deep")
            if isinstance(value, dict):
                if set(map(type, value)) - {str}:
                    raise ValueError("a key of its metadata is no text")
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif type(value) not in _LEAVES:
                raise ValueError(f"its metadata holds a {type(value).__name__}")
        values = below
        depth += 1
