"""What is still whole of damaged files: vectors by block, records by block, logs by frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from vecindex.arrays import HEADER_BYTES, BoolArray, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.store.files import BLOCK_BYTES, Directory
from vecindex.store.frames import ALIGN, PUT, REMOVE, BadFrameError, Frame, decode, read_header
from vecindex.store.manifest import LogEntry, Manifest
from vecindex.store.records import RECORDS_PER_BLOCK, RecordsFile
from vecindex.store.vectors import VectorsFile


class Salvaging(Directory):
    """A directory whose files have the bytes that they should, zeros where none are left."""

    def __init__(self, directory: Directory, manifest: Manifest) -> None:
        super().__init__(directory.path)
        self._sizes = {entry.name: entry.size for entry in manifest.files()}

    def map(self, name: str, *, private: bool = False) -> UInt8Array:
        """Return a file's bytes, cut or filled to the size that it had."""
        size = self._sizes[name]
        data = np.empty(0, dtype=np.uint8)
        with suppress(OSError):
            data = super().map(name, private=private)
        if len(data) >= size:
            return data[:size]
        whole = np.zeros(size, dtype=np.uint8)
        whole[: len(data)] = data
        return whole


@dataclass(frozen=True, eq=False)
class WholeFrames:
    """What is whole of some logs."""

    frames: list[Frame]
    lost: int
    unsure: bool  # whether a lost one may have removed rows


def whole_rows(vectors: VectorsFile, count: int, dim: int) -> BoolArray:
    """Return which rows lie in no damaged block."""
    whole = np.ones(count, dtype=np.bool_)
    for offset in vectors.file.bad_blocks():
        first = max(0, offset - HEADER_BYTES) // (4 * dim)
        last = max(0, offset + BLOCK_BYTES - HEADER_BYTES - 1) // (4 * dim)
        whole[first : last + 1] = False
    return whole


def each_record(records: RecordsFile, alone: bool) -> Iterator[bytes | None]:
    """Yield the record of each row, None for those that are lost."""
    left = records.count
    for block in records.salvage(alone=alone):
        size = min(RECORDS_PER_BLOCK, left)
        left -= size
        yield from [None] * size if block is None else block


def picked(records: Iterator[bytes | None], rows: list[int]) -> Iterator[bytes]:
    """Yield the records of some rows, which are whole."""
    wanted = set(rows)
    for row, packed in enumerate(records):
        if packed is not None and row in wanted:
            yield packed


def whole_frames(directory: Directory, log: LogEntry, owner: int, end: int | None) -> WholeFrames:
    """Return the whole frames of a log whose operations are numbered below `end`."""
    try:
        data = np.frombuffer(directory.read(log.name), dtype=np.uint8)
    except FileNotFoundError:  # how many there were is not known
        return WholeFrames([], max(1, (end or 0) - log.sequence), unsure=True)
    frames: list[Frame] = []
    at = whole = lost = puts = 0
    expected = log.sequence
    while at < len(data):
        frame = _frame_at(data, at, log.name)
        good = frame is not None and frame.owner == owner and frame.sequence >= expected
        if frame is None or not good or (end is not None and frame.sequence >= end):
            puts += _kind_at(data, at) == PUT
            at += ALIGN
            continue
        lost += frame.sequence - expected
        frames.append(frame)
        expected = frame.sequence + 1
        at = whole = at + frame.size
    if end is not None:
        lost += max(0, end - expected)
    elif whole < log.synced:
        lost += max(1, puts - lost)
    return WholeFrames(frames, lost, unsure=puts < lost)


def _frame_at(data: UInt8Array, at: int, name: str) -> Frame | None:
    try:
        frame = decode(data, at, name)
    except (BadFrameError, CorruptIndexError):
        return None
    return frame if frame.kind in (PUT, REMOVE) else None


def _kind_at(data: UInt8Array, at: int) -> int | None:
    """Return the kind of a damaged frame whose header is whole."""
    try:
        return read_header(data, at, "")[0]
    except BadFrameError:
        return None
