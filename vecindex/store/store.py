"""The store: what survives. Opens a directory, applies operations durably, commits states."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vecindex.arrays import BoolArray, Float32Array
from vecindex.errors import (
    ClosedIndexError,
    CorruptIndexError,
    IndexPathError,
    ReadOnlyError,
    StorageFailedError,
)
from vecindex.forks import call_in_child, new_rlock
from vecindex.results import Id
from vecindex.store import lock
from vecindex.store import manifest as manifests
from vecindex.store.files import Directory, FileEntry, FileWriter
from vecindex.store.lending import lending
from vecindex.store.log import LogWriter, RewoundLogError, newer_log, replay
from vecindex.store.manifest import (
    LogEntry,
    Manifest,
    SegmentEntry,
    read_manifest,
    write_manifest,
)
from vecindex.store.rewrite import Poll, Source, rewrite
from vecindex.store.segment import Segment
from vecindex.store.snapshot import take_snapshot
from vecindex.store.state import State, load_state, pack_dead
from vecindex.store.untrusted import (
    UntrustedDirectory,
    admit_frame,
    admit_manifest,
    admit_segments,
)

OURS = re.compile(
    r"(log-\d+\.vxl|rows-\d+\.vxr|vectors-\d+\.f32|ids-\d+\.vxi|dead-\d+\.vxd|"
    r"columns-\d+\.arrow|structure-\d+\.faiss|queries-\d+\.f32|MANIFEST\.tmp)\Z"
)
_LOAD_TRIES = 20
_LEFTOVERS = ("log-1.vxl", "MANIFEST.tmp")


class Store:
    """An open index directory; `state` is the newest whole state.

    Use `create` or `open`. Reading `state` needs no lock; every method may be called from
    several threads, but from `freeze` to `commit` no other thread may do either.
    """

    state: State

    def __init__(
        self, directory: Directory, *, writable: bool, sync: bool, trusted: bool = True
    ) -> None:
        self.directory = directory if trusted else UntrustedDirectory(directory.path)
        self.writable = writable
        self.sync = sync
        self.trusted = trusted
        """False: caches are left alone, and the rest is looked at before it is used."""
        self.notes: list[str] = []
        self._lock = new_rlock()
        self._writer_lock: lock.WriterLock | None = None
        self._log: LogWriter | None = None
        self._stamp = (0, 0, 0)
        self._looked: object = None  # how manifest and log looked at the last `follow`
        self._next_file = 0
        self._pid = os.getpid()
        call_in_child(self._leave_to_the_parent)

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one that opened the store."""
        return self._pid != os.getpid()

    def _leave_to_the_parent(self) -> None:
        """In a fork: close what the parent writes with, and trust no half a refresh."""
        if self._writer_lock is not None:
            self._writer_lock.release()  # here only; else the child would go on holding it
        if self._log is not None:
            self._log.close()
        self._stamp, self._looked = (0, 0, 0), None

    def refuse_fork(self) -> None:
        """Raise `StorageFailedError` if this is a fork of the process that opened the writer."""
        if self.writable and self.forked:
            raise StorageFailedError(
                f"{self.directory.path} was opened for writing by process {self._pid}, of which "
                "this one is a fork; open it again here, after the other one has closed it"
            )

    # -- opening and closing --------------------------------------------------------------

    @classmethod
    def create(
        cls, directory: Directory, manifest: Manifest, *, sync: bool, timeout: float = 0.0
    ) -> Store:
        """Return a new, empty, writable store, durable when this returns.

        Another one who creates it is waited for `timeout` seconds.

        Raises
        ------
        IndexPathError
            If there is something at the path already.
        """
        _refuse_existing(directory.path)
        directory.make()
        store = cls(directory, writable=True, sync=sync)
        try:
            store._writer_lock = lock.WriterLock(directory, timeout)
            _refuse_existing(directory.path)  # again, now that nobody else can create it
            for name in _LEFTOVERS:  # of a create that was interrupted
                directory.remove(name)
            log = LogEntry(_log_name(1), 0)
            directory.create(log.name).close()
            directory.sync()
            owner = int.from_bytes(os.urandom(4), "little")
            fresh = replace(manifest, generation=1, next_file=2, logs=(log,), owner=owner)
            write_manifest(directory, fresh)
            store._open_writer()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(
        cls,
        directory: Directory,
        *,
        writable: bool,
        sync: bool,
        trusted: bool = True,
        timeout: float = 0.0,
    ) -> Store:
        """Return the store of an existing index, recovered if need be.

        What is not `trusted` can only be read. Another writer is waited for `timeout` seconds.

        Raises
        ------
        IndexPathError
            If the directory is not an index.
        IndexLockedError
            If `writable` and another writer holds it.
        CorruptIndexError, FormatVersionError
            If it cannot be read.
        """
        store = cls(directory, writable=writable, sync=sync, trusted=trusted)
        read_manifest(store.directory)  # before the lock file is touched
        try:
            if writable:
                store._writer_lock = lock.WriterLock(store.directory, timeout)
                store._open_writer()
            else:
                store._load_newest()
        except BaseException:
            store.close()
            raise
        return store

    def _open_writer(self) -> None:
        torn = self._load_newest()
        if torn:
            self.note(f"dropped {torn}; it was never acknowledged as durable")
        manifest = self.state.manifest
        self._log = LogWriter(
            self.directory, manifest.logs[-1].name, self.state.offset, manifest.owner
        )
        self._log.sync()
        self._next_file = self.state.manifest.next_file
        self.sweep()

    def note(self, text: str) -> None:
        """Keep a remark for `info`, once."""
        _keep_once(self.notes, text)

    def close(self) -> None:
        """Release everything; harmless when that was done."""
        with self._lock:
            log, writer_lock = self._log, self._writer_lock
            try:
                if log is not None:
                    self._seal_log(log)
            finally:
                self._log = self._writer_lock = None
                try:
                    if log is not None:
                        log.close()
                finally:
                    if writer_lock is not None:
                        writer_lock.release()

    def _seal_log(self, log: LogWriter) -> None:
        """Record how much of the log is synced: damage to it can then not pass for a torn write."""
        *closed, active = self.state.manifest.logs
        if log.failed or active.synced == log.size:
            return
        with suppress(OSError):  # the log itself has it all; this only sharpens a later diagnosis
            log.sync()
            logs = (*closed, replace(active, synced=log.size))
            self._commit(replace(self.state.manifest, logs=logs))

    def _load_newest(self) -> str | None:
        """Load the newest committed state and replay its logs; return what was torn."""
        for _ in range(_LOAD_TRIES):
            self._stamp = self._manifest_stamp()
            manifest = read_manifest(self.directory)
            before = getattr(self, "state", None)
            try:
                if self.trusted:
                    state = self._load(manifest, before)
                else:
                    state = self._load(admit_manifest(manifest), before)
                    admit_segments(state, before)
                state, torn = self._replay(state)
                newer = newer_log(self.directory, manifest)
            except FileNotFoundError as error:
                if self._stamp == self._manifest_stamp():
                    raise CorruptIndexError(
                        f"{error.filename} is missing, though {manifests.NAME} names it"
                    ) from error
                continue  # a writer committed in between: its new manifest names other files
            if self._stamp == self._manifest_stamp():
                if newer is not None:
                    raise CorruptIndexError(
                        f"{self.directory.path / manifests.NAME} is damaged at offset 0: it is "
                        f"older than {newer}, which holds operations that it does not know of"
                    )
                self.state = state
                return torn
        raise StorageFailedError(f"{self.directory.path} changes faster than it can be read")

    def _replay(self, state: State) -> tuple[State, str | None]:
        return replay(self.directory, state, None if self.trusted else admit_frame)

    def _load(self, manifest: Manifest, reuse: State | None) -> State:
        return load_state(self.directory, manifest, reuse, partial(_keep_once, self.notes))

    def _manifest_stamp(self) -> tuple[int, int, int]:
        return self.directory.stamp(manifests.NAME)

    @lending()
    def refresh(self) -> bool:
        """Step to the newest state; return whether it is another one.

        A fork of a writer does it as a reader.
        """
        if self.writable and not self.forked:
            return False
        with self._lock, self._still_there():
            before = (self.state.manifest.generation, self.state.sequence)
            if self._stamp != self._manifest_stamp():
                self._load_newest()
            else:
                try:
                    self.state, _ = self._replay(self.state)  # the writer may be within a call
                except (FileNotFoundError, CorruptIndexError, RewoundLogError):
                    self._load_newest()
            return before != (self.state.manifest.generation, self.state.sequence)

    @contextmanager
    def _still_there(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise IndexPathError(
                f"{self.directory.path} is not a vecindex index any more: {manifests.NAME} is gone"
            ) from error

    def follow(self) -> None:
        """Step to the newest state if the log looks different, for the price of one `stat`."""
        if (self.writable and not self.forked) or self._unchanged():
            return
        with self._lock:
            if not self._unchanged():  # else another thread has stepped meanwhile
                looks = self._look()
                self.refresh()
                self._looked = looks

    def _unchanged(self) -> bool:
        looks = self._look()
        return looks is not None and looks == self._looked

    def _look(self) -> object:
        # An add grows the log, and a commit removes it or touches it.
        try:
            return self.directory.stamp(self.state.manifest.logs[-1].name)
        except FileNotFoundError:
            return None

    def newest(self) -> State:
        """Return the state that was acknowledged last, without stepping to it."""
        if self.writable and not self.forked:
            return self.state
        fresh = Store.open(self.directory, writable=False, sync=self.sync, trusted=self.trusted)
        fresh.close()
        return fresh.state

    def snapshot(self, path: Path) -> None:
        """Make a copy of the newest state in a new directory, see `take_snapshot`."""
        take_snapshot(self.directory, self.newest, path)

    # -- operations -----------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[LogWriter]:
        """Hold the lock of all writes; raises when this handle cannot write."""
        self.refuse_fork()
        with self._lock:
            if not self.writable:
                raise ReadOnlyError(
                    f'{self.directory.path} is open for reading; open it with mode="r+" to write'
                )
            if self._log is None:
                raise ClosedIndexError(f"{self.directory.path} was closed; open it again")
            if self._log.failed:
                raise StorageFailedError(
                    f"{self.directory.path}: an earlier write failed and its outcome is unknown; "
                    "close this handle and open the index again"
                )
            yield self._log

    def put(
        self,
        ids: Sequence[Id],
        records: Sequence[bytes],
        vectors: Float32Array,
        *,
        fresh: bool = False,
    ) -> None:
        """Add rows durably; rows that had these ids before are removed.

        `fresh` promises that there are none.
        """
        with self._logging() as log:
            log.put(self.state.sequence, ids, records, vectors)
            self._acknowledge(log, self.state.put(ids, records, vectors, fresh=fresh))

    def remove(self, ids: Sequence[Id]) -> int:
        """Remove rows durably; unknown ids are passed over. Return how many rows there were."""
        with self._logging() as log:
            state = self.state.remove(ids)
            count = state.removed - self.state.removed
            if count:
                log.remove(self.state.sequence, ids)
                self._acknowledge(log, state)
            return count

    def flush(self) -> None:
        """Put every acknowledged operation on stable storage."""
        with self.writing() as log:
            log.sync()

    @contextmanager
    def _logging(self) -> Iterator[LogWriter]:
        """Take back from the log what was not acknowledged."""
        with self.writing() as log:
            size, sequence = log.size, self.state.sequence
            try:
                yield log
            except BaseException:
                if self.state.sequence == sequence:
                    log.take_back(size)
                raise

    def _acknowledge(self, log: LogWriter, state: State) -> None:
        if self.sync:
            log.sync()
        self.state = replace(state, sequence=self.state.sequence + 1, offset=log.size)

    def update(self, **fields: Any) -> None:
        """Commit the manifest with some of its fields changed."""
        with self.writing():
            self._commit(replace(self.state.manifest, **fields))

    # -- rewriting ------------------------------------------------------------------------

    def freeze(self) -> State:
        """Start a new log and return the state of everything before it."""
        with self.writing() as log, self._all_or_reopen():
            frozen = self.state
            if not log.size:
                return frozen
            log.sync()
            name = _log_name(self.next_number())
            stamp, fresh = self._manifest_stamp(), None
            try:
                self.directory.create(name).close()
                fresh = LogWriter(self.directory, name, 0, frozen.manifest.owner)
                *closed, active = frozen.manifest.logs
                logs = (*closed, replace(active, size=log.size), LogEntry(name, frozen.sequence))
                manifest = replace(frozen.manifest, logs=logs)
                self._commit(manifest, replace(frozen, offset=0))
                self._log = fresh
            except BaseException:
                if fresh is not None:
                    fresh.close()
                if stamp == self._manifest_stamp():  # the new log belongs to no manifest
                    self.directory.remove(name)
                raise
            log.close()
            return frozen

    def next_number(self) -> int:
        """Return a number that no file of this index has."""
        with self._lock:
            self._next_file += 1
            return self._next_file - 1

    def rewrite(
        self, sources: Sequence[Source], poll: Poll, *, hurry: bool = False
    ) -> tuple[SegmentEntry, BoolArray]:
        """Write one new segment from parts; it belongs to no state until `commit`."""
        dim = sources[0].part.vectors.shape[1]
        return rewrite(self.directory, self.next_number(), sources, dim, poll, hurry=hurry)

    def segment(self, entry: SegmentEntry) -> Segment:
        """Return a rewritten segment, opened; it belongs to no state until `commit`."""
        dim = self.state.manifest.dim or 0
        return Segment(self.directory, entry, dim, partial(_keep_once, self.notes))

    def new_file(self, stem: str, suffix: str) -> FileWriter:
        """Return a new numbered file that belongs to no state until `commit`."""
        return FileWriter(self.directory, f"{stem}-{self.next_number()}.{suffix}")

    def commit(
        self,
        segments: Sequence[SegmentEntry],
        dead: Sequence[BoolArray | None],
        *,
        since: int = 0,
        made: Sequence[Segment] = (),
        **fields: Any,
    ) -> None:
        """Make rewritten segments the newest state; logged operations are replayed on top.

        Parameters
        ----------
        segments : sequence of SegmentEntry
            All segments of the new state, in row order.
        dead : sequence of (ndarray of bool, or None)
            Their removed rows; those that a replayed operation removes may be among them.
        since : int
            Drop the logs of operations before this one: the segments hold what they did.
        made : sequence of Segment
            New ones among the segments, already open, perhaps checked: they are taken as they are.
        **fields
            Other fields of the manifest.
        """
        manifest = self.state.manifest
        draft = replace(
            manifest,
            logs=tuple(log for log in manifest.logs if log.sequence >= since),
            segments=tuple(segments),
            dead=self._write_dead(dead, [segment.rows for segment in segments]),
            next_id=self.state.next_id,
            **fields,
        )
        # Most of the work outside the lock: writers only wait for what came in meanwhile.
        state, _ = replay(self.directory, self._load(draft, _with(self.state, made)))
        with self.writing(), self._all_or_reopen():
            state = self._caught_up(draft, state)
            now = self.state.manifest
            self._commit(replace(draft, dim=now.dim, embedder=now.embedder), state)

    def _caught_up(self, draft: Manifest, state: State) -> State:
        """Return the state with every acknowledged operation, and with no other."""
        try:
            state, torn = replay(self.directory, state)
        except RewoundLogError as error:
            torn = str(error)
        if torn or state.sequence != self.state.sequence:
            # It was read while a call was under way that has been taken back since.
            state, torn = replay(self.directory, self._load(draft, state))
        if torn or (state.sequence, state.offset) != (self.state.sequence, self.state.offset):
            raise StorageFailedError(
                f"{self.directory.path}: the log holds other operations than were acknowledged"
            )
        return state

    @contextmanager
    def _all_or_reopen(self) -> Iterator[None]:
        """Refuse to go on with a state that is older than the manifest which was committed.

        Files that the new manifest does not name are removed at the end, when all is in place.
        """
        before = self.state.manifest
        try:
            yield
        except BaseException:
            if self._log is not None and self.state.manifest is not before:
                self._log.failed = True
            raise
        for name in before.names() - self.state.manifest.names():
            with suppress(OSError):  # the next writer sweeps what is left
                self.directory.remove(name)

    def sweep(self) -> None:
        """Remove files that belong to no state, left by work that was given up."""
        with self._lock:
            if self._log is None or self._log.failed:
                return  # the manifest on disk may be one that we do not know
            wanted = self.state.manifest.names()
            for name in self.directory.names():
                if OURS.match(name) and name not in wanted:
                    self.directory.remove(name)

    def _write_dead(
        self, dead: Sequence[BoolArray | None], counts: Sequence[int]
    ) -> FileEntry | None:
        packed = pack_dead(dead, counts)
        if packed is None:
            return None
        writer = self.new_file("dead", "vxd")
        try:
            writer.write(packed)
            return writer.finish()
        except BaseException:
            writer.abandon()
            raise

    def _commit(self, manifest: Manifest, state: State | None = None) -> None:
        """Write the manifest as the next generation, and publish its state; None keeps rows."""
        before = self.state.manifest
        after = replace(manifest, generation=before.generation + 1, next_file=self._next_file)
        stamp = self._manifest_stamp()
        try:
            self.directory.sync()
            write_manifest(self.directory, after)
            # At once: a search between two assignments would mix old rows and a new structure.
            self.state = replace(state or self.state, manifest=after)
            self.directory.touch(before.logs[-1].name)  # whoever follows looks at nothing else
        except BaseException:
            if self._log is not None and stamp != self._manifest_stamp():
                self._log.failed = True  # replaced, but nobody knows if it is durable
            raise


def _refuse_existing(path: Path) -> None:
    if not os.path.lexists(path):
        return
    empty = path.is_dir() and all(map(_is_left_over, path.iterdir()))
    if (path / manifests.NAME).exists():  # looked at last: another may just have made it
        raise IndexPathError(f"{path} is an index already; open it, or choose another path")
    if not empty:
        raise IndexPathError(f"{path} exists and is not an index; choose another path")


def _is_left_over(path: Path) -> bool:
    """Return whether this file is of a create that did not come to its end."""
    if path.name in (lock.NAME, f"{manifests.NAME}.tmp"):
        return True
    try:
        return path.name == _log_name(1) and not path.stat().st_size
    except FileNotFoundError:  # another create has just removed it
        return True


def _with(state: State, made: Sequence[Segment]) -> State:
    return replace(state, segments=(*state.segments, *made))


def _log_name(number: int) -> str:
    return f"log-{number}.vxl"


def _keep_once(notes: list[str], text: str) -> None:
    # No method: what a state's files call must not hold the store that holds the state, or the
    # files of a closed index would stay open until garbage is collected.
    if text not in notes:
        notes.append(text)
