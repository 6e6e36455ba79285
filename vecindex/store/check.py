"""Reading every byte of a state, to find all damage and not only the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vecindex.arrays import HEADER_BYTES
from vecindex.errors import CorruptIndexError
from vecindex.results import Problem
from vecindex.store.files import BLOCK_BYTES, Directory, FileEntry, MappedFile
from vecindex.store.log import TornLogError, newer_log, read_log
from vecindex.store.manifest import NAME, LogEntry, Manifest
from vecindex.store.state import State

Checked = tuple[str, int, list[Problem]]


def check_state(directory: Directory, state: State) -> Iterator[Checked]:
    """Yield name, size in bytes and problems of each file of a state, as it was read."""
    *closed, active = state.manifest.logs
    logs = (*closed, replace(active, synced=state.offset))  # what we saw must be there
    yield from _check_files(directory, replace(state.manifest, logs=logs))


def check_directory(directory: Directory, manifest: Manifest) -> list[Problem]:
    """Return all problems of the files that a manifest names, though no state can be loaded."""
    found = [problem for _, _, some in _check_files(directory, manifest) for problem in some]
    newer = newer_log(directory, manifest)
    if newer is not None:
        what = f"it is older than {newer}, which holds operations that it does not know of"
        found.append(Problem(NAME, 0, what, rebuildable=False))
    return found


def size_bytes(state: State) -> int:
    """Return the bytes that the files of a state take on disk, the manifest apart."""
    logs = [log.size or 0 for log in state.manifest.logs]
    return sum(entry.size for entry in state.manifest.files()) + sum(logs) + state.offset


def _check_files(directory: Directory, manifest: Manifest) -> Iterator[Checked]:
    caches = manifest.caches()
    for entry in manifest.files():
        lost = _Lost(manifest, entry)
        yield entry.name, entry.size, _check_file(directory, entry, lost, entry in caches)
    for log in manifest.logs:
        yield (
            log.name,
            log.synced if log.size is None else log.size,
            _check_log(directory, log, manifest.owner),
        )


def _check_file(
    directory: Directory, entry: FileEntry, lost: _Lost, rebuildable: bool
) -> list[Problem]:
    try:
        file = MappedFile(directory, entry)
    except OSError as error:
        return [Problem(entry.name, 0, f"{error}{lost.of_file()}", rebuildable)]
    return [
        Problem(entry.name, offset, f"checksum mismatch{lost.of_block(offset)}", rebuildable)
        for offset in file.bad_blocks()
    ]


class _Lost:
    """Says what is lost with a file, or with one block of it; a cache takes nothing with it."""

    def __init__(self, manifest: Manifest, entry: FileEntry) -> None:
        self._entry = entry
        self._dim = manifest.dim or 1
        self._what = ""
        for number, segment in enumerate(manifest.segments):
            if entry == segment.vectors:
                self._what = f"vectors of segment {number} ({segment.rows:,} rows)"
            elif entry == segment.records:
                self._what = (
                    f"records of segment {number} ({segment.rows:,} rows), but for blocks of 16 "
                    "whose own checksum holds"
                )
            elif entry == segment.ids:
                self._what = "nothing that the records do not say"
        if entry == manifest.dead:
            self._what = "which rows were removed"
        elif entry == manifest.queries:
            self._what = "queries to calibrate with"

    def of_file(self) -> str:
        return f"; lost: {self._what}" if self._what else ""

    def of_block(self, offset: int) -> str:
        if not self._entry.name.startswith("vectors-"):
            return self.of_file()
        row_bytes = 4 * self._dim
        end = min(self._entry.size, offset + BLOCK_BYTES)
        first = max(0, offset - HEADER_BYTES) // row_bytes
        last = max(0, end - HEADER_BYTES - 1) // row_bytes
        return f"; lost: rows {first} to {last} of the {self._what}"


def _check_log(directory: Directory, log: LogEntry, owner: int) -> list[Problem]:
    offset, sequence = 0, log.sequence
    try:
        for frame in read_log(directory, log, log.sequence, owner=owner):
            offset, sequence = offset + frame.size, frame.sequence + 1
    except TornLogError:
        return []  # a call of the writer that is not finished
    except (CorruptIndexError, FileNotFoundError) as error:
        what = f"{error}; lost: operation {sequence}, perhaps later ones"
        return [Problem(log.name, offset, what, rebuildable=False)]
    return []
