"""Saving what is whole of a damaged index, in place, by one commit.

A record is kept if its checksum holds and its vector's block holds, and an operation of the log if
its frame is whole; everything else is lost, and named. Nothing is guessed: rows do not come back
because the list of removed ones is gone, unless that is asked for. The new files stand beside the
old ones until the manifest is replaced, so an interrupted repair is begun again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from vecindex.arrays import BoolArray
from vecindex.errors import CorruptIndexError
from vecindex.results import Id, Problem, RepairReport
from vecindex.store.check import check_directory
from vecindex.store.codec import DEAD_RECORD, unpack_record
from vecindex.store.columns import derive_columns, has_arrow, write_columns
from vecindex.store.files import Directory, FileEntry, FileWriter, MappedFile, copy_file
from vecindex.store.frames import Frame
from vecindex.store.ids import IdColumn, IdTable, write_ids
from vecindex.store.lock import WriterLock
from vecindex.store.log import TornLogError, read_log
from vecindex.store.manifest import (
    NAME,
    LogEntry,
    Manifest,
    SegmentEntry,
    read_manifest,
    write_manifest,
)
from vecindex.store.records import RecordsFile, write_records
from vecindex.store.rewrite import Source, rewrite
from vecindex.store.salvage import Salvaging, each_record, picked, whole_frames, whole_rows
from vecindex.store.state import State, load_state, pack_dead
from vecindex.store.store import OURS, Store
from vecindex.store.vectors import VectorsFile, write_vectors

_CHUNK_ROWS = 4096


def repair(
    directory: Directory, *, restore_removed: bool = False, dry_run: bool = False
) -> tuple[RepairReport, bool]:
    """Save what is whole of an index, and return what was found and lost.

    Parameters
    ----------
    directory : Directory
        The index directory.
    restore_removed : bool
        Go on where it cannot be known any more which rows were removed: all come back.
    dry_run : bool
        Only look; takes no lock and changes nothing.

    Returns
    -------
    RepairReport
        What was found, saved and lost.
    bool
        Whether the index has lost its structure, which must be built anew elsewhere.

    Raises
    ------
    IndexPathError, FormatVersionError
        If there is no index that could be repaired.
    IndexLockedError
        If a writer holds the index.
    CorruptIndexError
        If the manifest cannot be read, or the removed rows are not known.
    StorageFullError, StorageFailedError
        If the new files cannot be written; the index is as it was.
    """
    manifest = _manifest(directory)
    if dry_run:
        return RepairReport(tuple(check_directory(directory, manifest))), False
    lock = WriterLock(directory)
    try:
        manifest = _manifest(directory)  # again, now that nobody else can change it
        problems = check_directory(directory, manifest)
        if any(problem.file == NAME for problem in problems):
            raise CorruptIndexError(
                f"{directory.path / NAME}: {problems[-1].what}. Put the newer manifest back; "
                "nothing was changed"
            )
        if not problems:
            return RepairReport(rows=live_rows(directory)), False
        return _Repair(directory, manifest, problems, restore_removed).run()
    finally:
        lock.release()


def _manifest(directory: Directory) -> Manifest:
    try:
        return read_manifest(directory)
    except CorruptIndexError as error:
        raise CorruptIndexError(
            f"{error}. Only the manifest knows which files belong together and what their bytes "
            "must be, so nothing can be repaired without it: restore it from a backup"
        ) from error


@dataclass
class _Losses:
    rows: int = 0
    ids: list[Id] = field(default_factory=list)
    operations: int = 0


class _Repair:
    """One repair, under the writer's lock."""

    def __init__(
        self,
        directory: Directory,
        manifest: Manifest,
        problems: Sequence[Problem],
        restore_removed: bool,
    ) -> None:
        self._directory = directory
        self._manifest = manifest
        self._problems = problems
        self._damaged = {problem.file for problem in problems}
        self._restore = restore_removed
        self._salvaging = Salvaging(directory, manifest)
        self._next_file = manifest.next_file
        self._lost = _Losses()

    def run(self) -> tuple[RepairReport, bool]:
        """Write what is saved, keep the damaged bytes aside, commit."""
        self._sweep(self._manifest)
        removed = self._removed()
        logged = self._logged()
        aside = self._keep_aside()
        manifest = self._mended(removed, logged)
        if manifest != self._manifest:
            self._directory.sync()
            generation = manifest.generation + 1
            manifest = replace(manifest, generation=generation, next_file=self._next_file)
            write_manifest(self._directory, manifest)
            self._sweep(manifest)
        self._forget_touched(logged)
        lost, rebuilt = self._lost, tuple(sorted(self._damaged))
        structure = self._manifest.structure
        gone = structure is not None and (
            manifest.structure is None or structure.file.name in self._damaged
        )
        report = RepairReport(
            tuple(self._problems),
            rebuilt,
            live_rows(self._directory),
            lost.rows,
            tuple(lost.ids),
            lost.operations,
            str(aside.path),
        )
        return report, gone

    def _sweep(self, manifest: Manifest) -> None:
        """Remove files that the manifest does not name: replaced ones, or of an earlier try."""
        wanted = manifest.names()
        for name in self._directory.names():
            if OURS.match(name) and name not in wanted:
                self._directory.remove(name)

    def _number(self) -> int:
        self._next_file += 1
        return self._next_file - 1

    def _keep_aside(self) -> Directory:
        """Copy the damaged files, and the manifest that tells what they were, beside the index."""
        path = self._directory.path
        aside = Directory(path.with_name(f"{path.name}.damaged-{self._manifest.generation}"))
        aside.make()
        for name in sorted(self._damaged):
            aside.remove(name)  # of an interrupted try
            with suppress(FileNotFoundError):
                copy_file(self._directory.map(name), aside, name)
        aside.write(NAME, self._directory.read(NAME))
        return aside

    # -- what is there ---------------------------------------------------------------------

    def _removed(self) -> list[BoolArray] | None:
        """Return which rows of each segment are removed, None if that is not known any more."""
        manifest = self._manifest
        counts = [segment.rows for segment in manifest.segments]
        if manifest.dead is None:
            return [np.zeros(count, dtype=np.bool_) for count in counts]
        if manifest.dead.name in self._damaged:
            self._ask_about_removed(f"{manifest.dead.name} is damaged")
            return None
        data = MappedFile(self._directory, manifest.dead).data
        marks = np.unpackbits(data, count=sum(counts), bitorder="little").view(np.bool_)
        return np.split(marks, np.cumsum(counts)[:-1])

    def _ask_about_removed(self, why: str) -> None:
        if not self._restore:
            raise CorruptIndexError(
                f"{self._directory.path}: {why}, so it is not known any more which rows were "
                "removed. Repair with restore_removed=True (--restore-removed) to have all back "
                "of which that is not known; nothing was changed"
            )

    def _logged(self) -> list[Frame] | None:
        """Return the whole frames of damaged logs, None if all logs are whole."""
        logs = self._manifest.logs
        if self._damaged.isdisjoint(log.name for log in logs):
            return None
        found: list[Frame] = []
        for log, following in zip(logs, (*logs[1:], None), strict=True):
            end = None if following is None else following.sequence
            whole = whole_frames(self._directory, log, self._manifest.owner, end)
            if whole.unsure:
                self._ask_about_removed(f"{log.name} has lost operations")
            found += whole.frames
            self._lost.operations += whole.lost
        return found

    def _forget_touched(self, logged: list[Frame] | None) -> None:
        """Leave out of the losses what a later operation has removed or replaced anyway."""
        manifest, frames = self._manifest, logged
        if frames is None and self._lost.ids:
            with suppress(TornLogError):
                frames = []
                for log in manifest.logs:
                    frames += read_log(self._directory, log, log.sequence, owner=manifest.owner)
        touched = {value for frame in frames or [] for value in frame.body["ids"]}
        left = [value for value in self._lost.ids if value not in touched]
        self._lost.rows -= len(self._lost.ids) - len(left)
        self._lost.ids = left

    # -- what is made of it ----------------------------------------------------------------

    def _mended(self, removed: list[BoolArray] | None, logged: list[Frame] | None) -> Manifest:
        """Return a manifest of what is saved, whose files are on stable storage."""
        before = self._manifest
        entries, dead = [], []
        for number, entry in enumerate(before.segments):
            known = np.zeros(entry.rows, np.bool_) if removed is None else removed[number]
            made, marks = self._segment(entry, known)
            if made is not None:
                entries.append(made)
                dead.append(marks)
        same_rows = [entry.vectors for entry in entries] == [e.vectors for e in before.segments]
        same_first = bool(entries) and entries[0].vectors == before.segments[0].vectors
        asked = before.queries
        manifest = replace(
            before,
            segments=tuple(entries),
            structure=before.structure if same_first else None,
            queries=None if asked is None or asked.name in self._damaged else asked,
        )
        if same_rows and removed is not None and logged is None:
            return manifest
        state = load_state(self._directory, replace(manifest, dead=None, structure=None))
        count = sum(int(np.count_nonzero(marks)) for marks in dead)
        state = replace(state, dead=(*dead, None), removed=count)
        if removed is None:
            state = _newest_only(state)
        if logged is not None:
            state = self._folded(state, logged)
            manifest = replace(
                manifest,
                dim=state.manifest.dim,
                segments=state.manifest.segments,
                logs=state.manifest.logs,
                next_id=max(manifest.next_id, state.next_id),
            )
        counts = [entry.rows for entry in manifest.segments]
        marks_now = state.dead[: len(counts)]
        return replace(manifest, dead=self._write_dead(marks_now, counts))

    def _folded(self, state: State, frames: list[Frame]) -> State:
        """Return the state after some operations, with a segment in place of the logs."""
        for frame in frames:
            state = state.apply(frame)
        manifest, tail = state.manifest, state.tail
        source = Source(tail, state.dead[-1])
        segments, dead = manifest.segments, state.dead[:-1]
        if source.keep.any():
            entry, _ = rewrite(self._directory, self._number(), [source], tail.tail.dim, _go_on)
            segments, dead = (*segments, entry), (*dead, None)
        log = LogEntry(f"log-{self._number()}.vxl", self._after_all(frames))
        self._directory.create(log.name).close()
        dim = manifest.dim or tail.tail.dim or None
        manifest = replace(manifest, dim=dim, segments=segments, logs=(log,))
        return replace(state, manifest=manifest, dead=dead)

    def _after_all(self, frames: list[Frame]) -> int:
        """Return a number that no operation had."""
        last = frames[-1].sequence if frames else self._manifest.logs[-1].sequence
        return last + self._lost.operations + 1

    def _write_dead(
        self, dead: Sequence[BoolArray | None], counts: Sequence[int]
    ) -> FileEntry | None:
        packed = pack_dead([m if m is not None and m.any() else None for m in dead], counts)
        if packed is None:
            return None
        writer = FileWriter(self._directory, f"dead-{self._number()}.vxd")
        writer.write(packed)
        return writer.finish()

    # -- segments --------------------------------------------------------------------------

    def _segment(
        self, entry: SegmentEntry, removed: BoolArray
    ) -> tuple[SegmentEntry | None, BoolArray]:
        """Return a whole segment of what is saved of one, and its removed rows."""
        truth = {entry.vectors.name, entry.records.name}
        if not self._damaged.isdisjoint(truth):
            saved = self._saved(entry, removed)
            return saved, np.zeros(0 if saved is None else saved.rows, dtype=np.bool_)
        if self._damaged.isdisjoint(file.name for file in entry.files):
            return entry, removed
        records = RecordsFile(self._directory, entry.records, entry.rows)
        number = self._number()
        ids = entry.ids
        if ids.name in self._damaged:
            found = [_id_of(packed) for packed in records.scan()]
            live = np.array([value is not None for value in found]) & ~removed
            column = IdColumn.of([0 if value is None else value for value in found])
            ids = write_ids(self._directory, f"ids-{number}.vxi", column, live)
        columns = entry.columns
        if columns is not None and columns.name in self._damaged:
            columns = self._columns(records, number)
        return replace(entry, ids=ids, columns=columns), removed

    def _columns(self, records: RecordsFile, number: int) -> FileEntry | None:
        if not has_arrow():
            return None
        name = f"columns-{number}.arrow"
        return write_columns(self._directory, name, derive_columns(records.scan()))

    def _saved(self, entry: SegmentEntry, removed: BoolArray) -> SegmentEntry | None:
        """Return a segment of the rows of which record and vector are whole."""
        dim = self._manifest.dim or 0
        vectors = VectorsFile(self._salvaging, entry.vectors, (entry.rows, dim))
        records = RecordsFile(self._salvaging, entry.records, entry.rows)
        table = self._table(entry)
        whole = whole_rows(vectors, entry.rows, dim)
        known: list[Id] | None = None
        if table is not None:
            known = table.ids(np.arange(entry.rows))
            removed = removed | ~table.live()  # those from before the segment was written
        rows, ids = [], []
        for row, packed in enumerate(each_record(records, known is not None)):
            if removed[row] or packed == DEAD_RECORD:
                continue
            found = None if packed is None else unpack_record(packed).id
            if found is not None and whole[row] and (known is None or found == known[row]):
                rows.append(row)
                ids.append(found)
                continue
            self._lost.rows += 1
            if known is not None:
                found = known[row]
            if found is not None:
                self._lost.ids.append(found)
        if not rows:
            return None
        kept, number = np.array(rows, dtype=np.int64), self._number()
        chunks = (
            np.ascontiguousarray(vectors.rows[kept[start : start + _CHUNK_ROWS]])
            for start in range(0, len(kept), _CHUNK_ROWS)
        )
        new = SegmentEntry(
            len(kept),
            write_vectors(self._directory, f"vectors-{number}.f32", chunks, (len(kept), dim)),
            write_records(
                self._directory,
                f"rows-{number}.vxr",
                picked(each_record(records, known is not None), rows),
                len(kept),
            ),
            write_ids(
                self._directory, f"ids-{number}.vxi", IdColumn.of(ids), np.ones(len(kept), np.bool_)
            ),
        )
        if entry.columns is None:
            return new
        written = RecordsFile(self._directory, new.records, new.rows)
        return replace(new, columns=self._columns(written, number))

    def _table(self, entry: SegmentEntry) -> IdTable | None:
        if entry.ids.name in self._damaged:
            return None
        return IdTable(self._directory, entry.ids, entry.rows)


def live_rows(directory: Directory) -> int:
    """Return the number of rows that a reader sees now."""
    store = Store.open(directory, writable=False, sync=True)
    store.close()
    return store.state.live


def _go_on() -> None:
    """Never stop a rewrite."""


def _id_of(packed: bytes) -> Id | None:
    return None if packed == DEAD_RECORD else unpack_record(packed).id


def _newest_only(state: State) -> State:
    """Return the state in which only the newest row of each id is live."""
    dead = list(state.dead)
    for number, segment in enumerate(state.segments):
        marks = np.zeros(segment.count, dtype=np.bool_)
        for start in range(0, segment.count, _CHUNK_ROWS):
            rows = np.arange(start, min(start + _CHUNK_ROWS, segment.count))
            parts, found = state.find(segment.ids(rows))
            marks[rows] = (parts != number) | (found != rows)
        dead[number] = marks
    removed = sum(int(np.count_nonzero(marks)) for marks in dead if marks is not None)
    return replace(state, dead=tuple(dead), removed=removed)
