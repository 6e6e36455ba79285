"""The log: operations since the last commit, one checksummed frame each, one sync a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import CorruptIndexError
from vecindex.results import Id
from vecindex.store.files import Directory
from vecindex.store.frames import (
    PUT,
    REMOVE,
    BadFrameError,
    Frame,
    decode,
    encode,
    has_later_frame,
    read_header,
)
from vecindex.store.manifest import LogEntry, Manifest
from vecindex.store.state import State

_NAME = re.compile(r"log-(\d+)\.vxl\Z")

Admit: TypeAlias = Callable[[Frame, int | None], None]


class LogWriter:
    """Appends frames to the growing log.

    Parameters
    ----------
    directory : Directory
        The index directory.
    name : str
        The log's file name.
    size : int
        Bytes that are valid; whatever follows them is cut off.
    owner : int
        The index's number.
    """

    def __init__(self, directory: Directory, name: str, size: int, owner: int = 0) -> None:
        self.name = name
        self._owner = owner
        self.size = size
        self.synced = 0
        self.failed = False
        self._appender = directory.reopen(name, size)

    def put(
        self, sequence: int, ids: Sequence[Id], records: Sequence[bytes], vectors: Float32Array
    ) -> None:
        """Append added rows."""
        self._append(PUT, {"ids": list(ids), "records": list(records)}, sequence, vectors)

    def remove(self, sequence: int, ids: Sequence[Id]) -> None:
        """Append a removal."""
        self._append(REMOVE, {"ids": list(ids)}, sequence, None)

    def _append(self, kind: int, body: object, sequence: int, vectors: Float32Array | None) -> None:
        buffers, size = encode(
            kind,
            body,
            sequence=sequence,
            synced=self.synced,
            vectors=vectors,
            owner=self._owner,
        )
        self._appender.append(buffers)
        self.size += size

    def sync(self) -> None:
        """Wait until every frame is on stable storage."""
        if self.synced == self.size:
            return
        try:
            self._appender.sync()
        except BaseException:
            # What the kernel could not write is dropped from its cache: a second try would lie.
            self.failed = True
            raise
        self.synced = self.size

    def take_back(self, size: int) -> None:
        """Cut off what followed the first `size` bytes; afterwards `failed` says if it worked."""
        failed, self.failed = self.failed, True  # in case this is interrupted
        with suppress(OSError):
            self._appender.truncate(size)
            self._appender.sync()  # or a crash could bring it back
            self.size = size
            self.synced = min(self.synced, size)
            self.failed = failed

    def close(self) -> None:
        """Close the file."""
        self._appender.close()


def replay(
    directory: Directory, state: State, admit: Admit | None = None
) -> tuple[State, str | None]:
    """Return the state after all logged operations that it does not include yet.

    Parameters
    ----------
    directory : Directory
        The index directory.
    state : State
        As of some offset of the last log, or with no log applied (`offset` 0).
    admit : callable or None
        Is asked before an operation is applied, with the index's dimension; may raise ValueError.

    Returns
    -------
    State
        The newest state.
    str or None
        What was found behind the last whole frame, None if nothing.

    Raises
    ------
    CorruptIndexError
        If a frame is damaged that was once on stable storage.
    RewoundLogError
        If the last operation that the state includes is not in its log any more.
    """
    *closed, active = state.manifest.logs
    for log, following in zip(closed, state.manifest.logs[1:], strict=True):
        if state.sequence < following.sequence:
            owner = state.manifest.owner
            for frame in read_log(directory, log, state.sequence, owner=owner):
                state = _apply(directory, log, state, frame, admit)
            state = replace(state, offset=0, last=(0, b""))
    try:
        for frame in read_log(
            directory,
            active,
            state.sequence,
            state.offset,
            state.last,
            owner=state.manifest.owner,
        ):
            state = _apply(directory, active, state, frame, admit)
    except RewoundLogError:
        raise
    except TornLogError as torn:
        return state, str(torn)
    return state, None


def _apply(
    directory: Directory, log: LogEntry, state: State, frame: Frame, admit: Admit | None
) -> State:
    try:
        if admit is not None:
            admit(frame, state.manifest.dim)
        return state.apply(frame)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CorruptIndexError(
            f"{directory.path / log.name} is damaged at offset {state.offset}: operation "
            f"{frame.sequence} cannot be applied: {error}"
        ) from error


def newer_log(directory: Directory, manifest: Manifest) -> str | None:
    """Return the name of a log that only a later manifest can have named, None if there is none.

    A log is not written to before the manifest that names it is on stable storage.
    """
    with suppress(FileNotFoundError, PermissionError):
        for name in directory.names():
            found = _NAME.match(name)
            if found is None or int(found[1]) < manifest.next_file:
                continue
            with suppress(BadFrameError):
                data = np.frombuffer(directory.read(name), dtype=np.uint8)
                if read_header(data, 0, name)[-1] == manifest.owner:
                    return name
    return None


class TornLogError(Exception):
    """The growing log ends in an unfinished write."""


class RewoundLogError(TornLogError):
    """The growing log lacks a call that was read before: the writer has taken it back."""


def read_log(
    directory: Directory,
    log: LogEntry,
    sequence: int,
    offset: int = 0,
    last: tuple[int, bytes] = (0, b""),
    *,
    owner: int = 0,
) -> Iterator[Frame]:
    """Yield the frames of one log from `offset` on, numbered from `sequence`.

    `last` is offset and header of a frame that was read before and must still be there.

    Raises
    ------
    CorruptIndexError
        If a frame is damaged that was once on stable storage.
    TornLogError
        If the growing log ends in something else than a whole frame.
    """
    path = str(directory.path / log.name)
    begin, header = last if offset else (offset, b"")
    data = np.frombuffer(directory.read(log.name, begin), dtype=np.uint8)
    size = begin + len(data) if len(data) else directory.size(log.name)
    known = log.synced if log.size is None else log.size
    if size < known:
        raise CorruptIndexError(
            f"{path} is damaged at offset {size}: it ends there, but {known} bytes were synced"
        )
    if size < offset or data[: len(header)].tobytes() != header:
        raise RewoundLogError(f"{log.name} is not what it was: the writer has taken a call back")
    if log.size is not None:
        data = data[: log.size - begin]
    at = offset - begin
    while at < len(data):
        try:
            frame = decode(data, at, path, sequence)
        except BadFrameError as error:
            place = begin + at
            if place < known or has_later_frame(data, at, path, place):
                raise CorruptIndexError(f"{path} is damaged at offset {place}: {error}") from error
            raise TornLogError(
                f"{len(data) - at} bytes of an unfinished write at the end of {log.name}"
            ) from error
        if frame.owner != owner:  # whole, so no torn write
            raise CorruptIndexError(
                f"{path} is damaged at offset {begin + at}: this is the log of another index"
            )
        yield frame
        at += frame.size
        sequence += 1
