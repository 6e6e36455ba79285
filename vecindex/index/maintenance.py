"""Folding: the log becomes segments, segments become one with a structure, space comes back.

Two kinds of work. *Sealing* writes the tail as a segment; it is quick, and the thread that adds
does it. *Rebasing* merges segments into a new first one and builds the structure over it; it may
take minutes, and a background thread does it. Adds, removes, searches and sealing go on meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from vecindex.ann import CORES, BuildInterrupted, limit_threads
from vecindex.arrays import BoolArray
from vecindex.errors import InputError, VecindexError
from vecindex.forks import new_lock, new_rlock
from vecindex.index.loaded import Slot
from vecindex.index.rebase import AUTO_ROWS, Goal, Progress, Rebase, chosen, is_exact
from vecindex.spec import spec_from_dict
from vecindex.store.columns import load_arrow
from vecindex.store.lending import lending
from vecindex.store.manifest import SegmentEntry, StructureEntry
from vecindex.store.rewrite import Source
from vecindex.store.segment import Segment
from vecindex.store.state import State
from vecindex.store.store import Store

_SEAL_BYTES = 32 << 20  # log bytes at which the tail becomes a segment: bounds memory and reopening
_IMPORT_BYTES = 8 << 20  # log bytes from which on it will be sealed: what that needs is imported
_SEAL_OPERATIONS = 4096  # many small operations take long to replay
_MERGE_FACTOR = 8  # so many segments of one size become one
_FIRST_ROWS = AUTO_ROWS  # rows without any structure that start the first build
_LEAST_ROWS = 1_000  # fewer new rows never start a fold
_SHARE = 20  # new rows below 1/20 of the structure's do not pay for rewriting them all
_COMPACT_SHARE = 0.4  # removed rows above this share: give the space back


class Maintenance:
    """Keeps a writable store in shape.

    Parameters
    ----------
    store : Store
        The store.
    slot : Slot
        Where views look for the newest structure.
    background : bool
        Fold without being asked.
    """

    def __init__(self, store: Store, slot: Slot, *, background: bool) -> None:
        self._store = store
        self._slot = slot
        self._background = background
        self._jobs = new_rlock()  # one rebase at a time
        self._commits = new_lock()  # sealing and the end of a rebase exclude each other
        self._busy = False  # only read by the thread that holds `_jobs`
        self._pinned = 0  # first segments that a rebase is reading: sealing leaves them alone
        self._closing = threading.Event()
        self._give_way = threading.Event()  # tells the background thread only
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self.damaged: set[str] = set()
        """Names of structure files that cannot be used."""
        columned = any(entry.columns for entry in store.state.manifest.segments)
        self._imported = background and store.writable and columned
        if self._imported:
            load_arrow()  # here, not while others search: imports hold the interpreter

    # -- when ------------------------------------------------------------------------------

    def after_write(self) -> None:
        """Seal the tail if it has grown enough, and start a fold if one is due."""
        state = self._store.state
        if not self._imported and state.offset >= _IMPORT_BYTES:
            self._import(state)
        if state.offset >= _SEAL_BYTES or (
            state.sequence - state.manifest.logs[-1].sequence >= _SEAL_OPERATIONS
        ):
            try:
                self.seal()
            except (OSError, MemoryError) as error:
                # The write before is acknowledged; its rows stay in the log until a later try.
                self._store.note(f"the log could not be folded: {error}")
                return
            state = self._store.state
        if self._background and self._failure is None and due(state, self.damaged):
            try:
                self._start()
            except (VecindexError, RuntimeError) as error:  # no thread to be had, or closing
                self._store.note(f"no fold in the background: {error}")

    def _import(self, state: State) -> None:
        """Import beside further adds what the first seal would otherwise stop for."""
        self._imported = True
        if state.tail.has_metadata():
            with suppress(RuntimeError):  # no thread to be had
                threading.Thread(target=load_arrow, name="vecindex-import").start()

    def _start(self) -> None:
        with self._store.writing():
            running = self._thread is not None and self._thread.is_alive()
            if not running and not self._stopping():
                thread = threading.Thread(target=self._run, name="vecindex-fold", daemon=True)
                thread.start()
                self._thread = thread

    def _stopping(self) -> bool:
        return self._closing.is_set() or self._give_way.is_set()

    def _run(self) -> None:
        limit_threads(max(1, CORES // 2))
        while not self._stopping() and due(self._store.state, self.damaged):
            try:
                self.rebase(None, should_stop=self._stopping)
            except BuildInterrupted:
                return
            except Exception as error:  # nobody above this thread could catch it
                self._failure = f"background fold failed: {error}"
                self._store.note(self._failure)
                return

    def close(self) -> None:
        """End all work; a fold that is not finished is given up, wherever it runs."""
        self._closing.set()
        self._join()
        with self._jobs, self._commits:
            pass  # whatever was at work has seen it

    def _join(self) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # -- sealing ---------------------------------------------------------------------------

    def seal(self) -> None:
        """Write the tail as a segment, together with segments before it that are no larger."""
        store = self._store
        with self._commits, lending():
            if self._closing.is_set():
                return
            frozen = store.freeze()
            if frozen.sequence == frozen.manifest.logs[0].sequence:
                return  # nothing was logged
            first = self._first_to_absorb(frozen)
            sources = [
                Source(part, dead)
                for part, dead in zip(frozen.parts[first:], frozen.dead[first:], strict=True)
            ]
            segments, dead = [segment.entry for segment in frozen.segments[:first]], frozen.dead
            fresh = self._rewrite(sources)
            made = [] if fresh is None else [store.segment(fresh[0])]
            for segment in made:
                self._make_ready(segment, sources)
            store.commit(
                [*segments, *(segment.entry for segment in made)],
                [*dead[:first], *(None for _ in made)],
                since=frozen.sequence,
                made=made,
            )

    def _make_ready(self, segment: Segment, sources: Sequence[Source]) -> None:
        """Do what the first search of a sealed segment would otherwise have to wait for."""
        segment.check_rows()
        if (loaded := self._slot.loaded) is not None and loaded.scanned:
            loaded.prepare(segment, sources, lambda: None)

    def _first_to_absorb(self, state: State) -> int:
        """Return the first segment to be merged with the tail: small ones, seven at a time."""
        fixed = max(self._pinned, 0 if state.manifest.structure is None else 1)
        first, rows = len(state.segments), state.tail.count
        while True:
            run = first
            while run > fixed and state.segments[run - 1].count <= 2 * rows:
                run -= 1
            if first - run < _MERGE_FACTOR - 1:
                return first
            rows += sum(segment.count for segment in state.segments[run:first])
            first = run

    def _rewrite(self, sources: Sequence[Source]) -> tuple[SegmentEntry, BoolArray] | None:
        """Write one segment; None if no row is left."""
        if not any(source.keep.any() for source in sources):
            return None
        try:
            return self._store.rewrite(sources, lambda: None, hurry=True)  # an add waits for it
        except BaseException:
            if not self._pinned:
                self._store.sweep()
            raise

    # -- rebasing --------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make the background thread give up, so that a fold by hand need not wait for it."""
        self._give_way.set()
        self._join()
        self._give_way.clear()
        self._failure = None

    def rebase(
        self,
        goal: Goal | None,
        *,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Put everything into one segment with a calibrated structure, and commit it.

        Parameters
        ----------
        goal : Goal or None
            What to reach; None takes what is due when the work begins, if anything is.
        progress : callable or None
            Called with a stage's name, what is done and the total.
        should_stop : callable or None
            Polled; True ends the work with `BuildInterrupted` and leaves the state before. None
            asks whether the index is being closed.
        """
        should_stop = should_stop or self._closing.is_set
        with self._jobs:
            if should_stop():
                raise BuildInterrupted("the index is being closed")
            if self._busy:
                raise InputError("this thread is folding the index already; wait until it is done")
            goal = goal or due(self._store.state, self.damaged)
            if goal is None:
                return
            self._busy = True
            try:
                with lending():
                    self._rebase(goal, progress, should_stop)
            except BaseException:
                self._pinned = 0
                with self._commits:
                    self._store.sweep()
                raise
            finally:
                self._pinned = 0
                self._busy = False

    def _rebase(
        self,
        goal: Goal,
        progress: Progress | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.seal()
        with self._commits:
            state = self._store.state
            self._pinned = len(state.segments)
        work = Rebase(self._store, state, goal, progress, should_stop)
        work.prepare(self.damaged)
        self.seal()  # of a tail no codes can be made before the commit, which reads it again
        work.make_ready(self._slot)
        with self._commits:
            work.make_ready(self._slot)  # what was sealed since: hardly anything
            self._slot.take(work.loaded)  # before there is a view that looks for it
            work.commit()


def due(state: State, damaged: set[str]) -> Goal | None:
    """Return what a fold should reach, None if none is due."""
    manifest = state.manifest
    spec = spec_from_dict(manifest.spec)
    if state.removed > max(_LEAST_ROWS, _COMPACT_SHARE * state.total):
        return Goal(drop_dead=True)
    if is_exact(spec, state.live):
        return None
    goal = Goal()
    structure = manifest.structure
    if structure is None and manifest.choice is not None and chosen(manifest, state.live):
        return None  # `auto` found that nothing beats exact search
    if structure is None:
        return goal if state.live >= _FIRST_ROWS else None
    if state.structure_file is None or structure.file.name in damaged or not structure.measured:
        return goal
    new = state.total - state.segments[0].count
    return goal if new > _fold_rows(state.segments[0].count, structure) else None


def _fold_rows(indexed: int, structure: StructureEntry) -> float:
    """Return how many new rows cost as much to scan as the structure costs to search."""
    least = max(_LEAST_ROWS, indexed / _SHARE)
    calibration = structure.measured
    if calibration is None or not calibration.points or not calibration.exact_ms:
        return least
    search_ms = min(point.latency_ms for point in calibration.points)
    return max(least, search_ms / (calibration.exact_ms / indexed))
