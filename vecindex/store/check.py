"""Reading every byte of a state, to find all damage and not only the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vecindex.errors import CorruptIndexError
from vecindex.results import Problem
from vecindex.store.files import Directory, FileEntry, MappedFile
from vecindex.store.log import TornLogError, read_log
from vecindex.store.manifest import LogEntry
from vecindex.store.state import State


def check_state(directory: Directory, state: State) -> Iterator[tuple[str, int, list[Problem]]]:
    """Yield name, size in bytes and problems of each file of a state, as it was read."""
    caches = state.manifest.caches()
    for entry in state.manifest.files():
        problems = _check_file(directory, entry, rebuildable=entry in caches)
        yield entry.name, entry.size, problems
    *closed, active = state.manifest.logs
    for log in (*closed, replace(active, synced=state.offset)):  # what we saw must be there
        yield log.name, log.size or state.offset, _check_log(directory, log)


def size_bytes(state: State) -> int:
    """Return the bytes that the files of a state take on disk, the manifest apart."""
    logs = [log.size or 0 for log in state.manifest.logs]
    return sum(entry.size for entry in state.manifest.files()) + sum(logs) + state.offset


def _check_file(directory: Directory, entry: FileEntry, *, rebuildable: bool) -> list[Problem]:
    try:
        file = MappedFile(directory, entry)
    except OSError as error:
        return [Problem(entry.name, 0, str(error), rebuildable)]
    return [
        Problem(entry.name, offset, "checksum mismatch", rebuildable)
        for offset in file.bad_blocks()
    ]


def _check_log(directory: Directory, log: LogEntry) -> list[Problem]:
    offset = 0
    try:
        for frame in read_log(directory, log, log.sequence):
            offset += frame.size
    except TornLogError:
        return []  # a call of the writer that is not finished
    except (CorruptIndexError, FileNotFoundError) as error:
        return [Problem(log.name, offset, str(error), rebuildable=False)]
    return []
