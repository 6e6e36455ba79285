"""Folding: the log becomes segments, segments become one with a structure, space comes back.

Two kinds of work. *Sealing* writes the tail as a segment; it is quick, and the thread that adds
does it. *Rebasing* merges segments into a new first one and builds the structure over it; it may
take minutes, and a background thread does it. Adds, removes, searches and sealing go on meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vecindex import ann
from vecindex.ann import CORES, BuildInterrupted, LiveMask, Structure
from vecindex.arrays import BoolArray, Float32Array
from vecindex.errors import CorruptIndexError, InputError, VecindexError
from vecindex.results import Calibration
from vecindex.spec import (
    AutoSpec,
    FlatSpec,
    OptimizeBudget,
    Spec,
    StructureSpec,
    spec_from_dict,
    spec_to_dict,
    structure_spec,
)
from vecindex.store.files import FileEntry
from vecindex.store.manifest import Manifest, SegmentEntry, StructureEntry
from vecindex.store.rewrite import Source
from vecindex.store.segment import Segment
from vecindex.store.state import State
from vecindex.store.store import Store
from vecindex.store.vectors import read_all, write_vectors

Progress = Callable[[str, int, int | None], object]

AUTO_ROWS = 10_000
"""`auto` scans exactly below so many rows (0.6 ms at dimension 384); above it tries structures."""

_SEAL_BYTES = 16 << 20  # log bytes at which the tail becomes a segment: bounds memory and reopening
_SEAL_OPERATIONS = 4096  # many small operations take long to replay
_MERGE_FACTOR = 4  # so many segments of one size become one
_FIRST_ROWS = AUTO_ROWS  # rows without any structure that start the first build
_GROWN = 2  # times the rows at the last choice: `auto` chooses anew
_LEAST_ROWS = 1_000  # fewer new rows never start a fold
_SHARE = 20  # new rows below 1/20 of the structure's do not pay for rewriting them all
_DEAD_SHARE = 0.2  # removed rows above this share: build anew instead of extending
_COMPACT_SHARE = 0.4  # removed rows above this share: give the space back


def is_exact(spec: Spec, rows: int) -> bool:
    """Return whether a spec means that so many rows are searched without any structure."""
    if isinstance(spec, AutoSpec):
        return rows < AUTO_ROWS
    return spec == FlatSpec()


def chosen(manifest: Manifest, rows: int) -> StructureSpec | None:
    """Return what `auto` chose, None if it has not, or if there are so many more rows since."""
    choice = manifest.choice
    if choice is None or rows > _GROWN * choice["rows"]:
        return None
    return structure_spec(choice["spec"])


@dataclass(frozen=True)
class Goal:
    """What rebasing shall reach.

    Parameters
    ----------
    spec : Spec or None
        The structure asked for; None keeps what the index has when the work begins.
    target_recall : float or None
        The promise; None keeps it, too.
    queries : ndarray of float32, shape (q, dim), or None
        Queries to calibrate with, now and in later folds; None takes those given before, or rows.
    drop_dead : bool
        Rewrite everything without removed rows, even if the structure must then be built anew.
    budget : OptimizeBudget or None
        For `auto`, which then chooses anew.
    """

    spec: Spec | None = None
    target_recall: float | None = None
    queries: Float32Array | None = None
    drop_dead: bool = False
    budget: OptimizeBudget | None = None


class Maintenance:
    """Keeps a writable store in shape.

    Parameters
    ----------
    store : Store
        The store.
    background : bool
        Fold without being asked.
    """

    def __init__(self, store: Store, *, background: bool) -> None:
        self._store = store
        self._background = background
        self._jobs = threading.RLock()  # one rebase at a time
        self._commits = threading.Lock()  # sealing and the end of a rebase exclude each other
        self._busy = False  # only read by the thread that holds `_jobs`
        self._pinned = 0  # first segments that a rebase is reading: sealing leaves them alone
        self._closing = threading.Event()
        self._give_way = threading.Event()  # tells the background thread only
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self.damaged: set[str] = set()
        """Names of structure files that cannot be used."""

    # -- when ------------------------------------------------------------------------------

    def after_write(self) -> None:
        """Seal the tail if it has grown enough, and start a fold if one is due."""
        state = self._store.state
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
        while not self._stopping() and due(self._store.state, self.damaged):
            try:
                self.rebase(None, threads=max(1, CORES // 2), should_stop=self._stopping)
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
        with self._commits:
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
            fresh = self._rewrite(sources, lambda: None)
            store.commit(
                [*segments, *([fresh[0]] if fresh else [])],
                [*dead[:first], *([None] if fresh else [])],
                since=frozen.sequence,
            )

    def _first_to_absorb(self, state: State) -> int:
        """Return the first segment to be merged with the tail: small ones, three at a time."""
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

    def _rewrite(
        self, sources: Sequence[Source], poll: Callable[[], object]
    ) -> tuple[SegmentEntry, BoolArray] | None:
        """Write one segment; None if no row is left."""
        if not any(source.keep.any() for source in sources):
            return None
        try:
            return self._store.rewrite(sources, poll)
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
        threads: int | None = None,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Put everything into one segment with a calibrated structure, and commit it.

        Parameters
        ----------
        goal : Goal or None
            What to reach; None takes what is due when the work begins, if anything is.
        threads : int or None
            For building; None takes all cores.
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
                self._rebase(goal, threads, progress, should_stop)
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
        threads: int | None,
        progress: Progress | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.seal()
        with self._commits:
            state = self._store.state
            self._pinned = len(state.segments)
        work = _Rebase(self._store, state, goal, threads, progress, should_stop)
        work.prepare(self.damaged)
        with self._commits:
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
    unread = Calibration.from_dict(structure.calibration) is None
    if state.structure_file is None or structure.file.name in damaged or unread:
        return goal
    new = state.total - state.segments[0].count
    return goal if new > _fold_rows(state.segments[0].count, structure) else None


def _fold_rows(indexed: int, structure: StructureEntry) -> float:
    """Return how many new rows cost as much to scan as the structure costs to search."""
    least = max(_LEAST_ROWS, indexed / _SHARE)
    calibration = Calibration.from_dict(structure.calibration)
    if calibration is None or not calibration.points or not calibration.exact_ms:
        return least
    search_ms = min(point.latency_ms for point in calibration.points)
    return max(least, search_ms / (calibration.exact_ms / indexed))


class _Rebase:
    """One rebase: read a state's segments, write the new ones, commit."""

    def __init__(
        self,
        store: Store,
        state: State,
        goal: Goal,
        threads: int | None,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._store = store
        self._state = state
        self._goal = goal
        manifest = state.manifest
        self._spec = goal.spec or spec_from_dict(manifest.spec)
        self._target = goal.target_recall or manifest.target_recall
        self._threads = threads
        self._progress = progress
        self._should_stop = should_stop
        self._sources: list[Source] = []
        self._segment: SegmentEntry | None = None
        self._structure: StructureEntry | None = None
        self._choice: dict[str, Any] | None = None
        self._asked: FileEntry | None = manifest.queries
        self._queries: Float32Array | None = None

    def prepare(self, damaged: set[str]) -> None:
        """Write the new segment and its structure; nothing refers to them yet."""
        state = self._state
        self._queries = self._keep_queries()
        spec = self._wanted()
        base = self._base(spec, damaged)
        self._sources = [
            Source(segment, state.dead[number], keep_dead=base is not None and number == 0)
            for number, segment in enumerate(state.segments)
        ]
        kept = len(state.segments) == 1 and (base is not None or state.dead[0] is None)
        if kept and state.segments[0].columns_intact():
            self._segment, segment = state.segments[0].entry, state.segments[0]
        elif sum(int(source.keep.sum()) for source in self._sources):
            self._segment, _ = self._store.rewrite(self._sources, self._poll)
            assert state.manifest.dim is not None
            segment = Segment(self._store.directory, self._segment, state.manifest.dim)
        else:
            return
        if spec is None:
            self._choose(segment)
        elif spec != FlatSpec():
            self._build(spec, segment, base)

    def _wanted(self) -> StructureSpec | None:
        """Return the structure to build, None if it must be chosen first."""
        state, goal = self._state, self._goal
        if not isinstance(self._spec, AutoSpec):
            return self._spec
        if state.live < AUTO_ROWS:
            return FlatSpec()
        fresh = goal.spec is None and goal.budget is None and goal.target_recall is None
        known = chosen(state.manifest, state.live) if fresh and goal.queries is None else None
        if known is not None:
            self._choice = state.manifest.choice
        return known

    def _base(self, spec: Spec | None, damaged: set[str]) -> Structure | None:
        """Return the structure to extend, None to build anew."""
        state, entry = self._state, self._state.manifest.structure
        if spec is None:
            return None
        if entry is None or self._goal.drop_dead or state.structure_file is None:
            return None
        if entry.spec != spec_to_dict(spec) or entry.file.name in damaged:
            return None
        dead = state.dead[0]
        if dead is not None and np.count_nonzero(dead) > _DEAD_SHARE * len(dead):
            return None
        try:
            state.structure_file.check()
            file, mapped = state.structure_file, state.segments[0].mapped
            return ann.load(structure_spec(entry.spec), file.data, mapped)
        except CorruptIndexError:
            return None

    def _build(self, spec: StructureSpec, segment: Segment, base: Structure | None) -> None:
        segment.check_rows()
        entry = self._state.manifest.structure
        if base is not None and entry is not None and base.rows == segment.count:
            structure, file = base, entry.file
        else:
            structure = ann.build(
                spec,
                segment.mapped,
                threads=self._threads,
                base=base,
                progress=self._reporter("build"),
                should_stop=self._should_stop,
            )
            file = self._write(structure)
        asked = ann.questions(segment.vectors, self._live(), self._queries, target=self._target)
        calibration = ann.calibrate(
            structure,
            asked,
            progress=self._reporter("calibrate"),
            should_stop=self._should_stop,
        )
        self._structure = _entry(spec, structure, file, calibration)

    def _choose(self, segment: Segment) -> None:
        """Build the structure that `auto` finds best."""
        segment.check_rows()
        choice = ann.choose(
            segment.mapped,
            target=self._target,
            live=self._live(),
            queries=self._queries,
            budget=self._goal.budget,
            threads=self._threads,
            progress=self._reporter("choose"),
            should_stop=self._should_stop,
        )
        self._choice = {
            "spec": spec_to_dict(choice.spec),
            "rows": segment.count,
            "tried": [asdict(tried) for tried in choice.tried],
        }
        if choice.structure is not None and choice.calibration is not None:
            file = self._write(choice.structure)
            self._structure = _entry(choice.spec, choice.structure, file, choice.calibration)

    def _write(self, structure: Structure) -> FileEntry:
        writer = self._store.new_file("structure", "faiss")
        try:
            ann.write(structure, lambda view: writer.write(bytes(view)))
            return writer.finish()
        except BaseException:
            writer.abandon()
            raise

    def _live(self) -> LiveMask | None:
        dead = self._kept_dead()
        return None if dead is None else LiveMask(np.logical_not(dead))

    def _keep_queries(self) -> Float32Array | None:
        """Return the queries to calibrate with, None for rows; new ones are kept in a file."""
        store, entry, dim = self._store, self._state.manifest.queries, self._state.manifest.dim
        given = self._goal.queries
        if given is not None:
            name = f"queries-{store.next_number()}.f32"
            self._asked = write_vectors(store.directory, name, [given], given.shape)
            return given
        if entry is None or dim is None:
            return None
        try:
            return read_all(store.directory, entry, dim)
        except OSError as error:
            store.note(f"calibrated with rows, as the queries given before are damaged: {error}")
            self._asked = None
            return None

    def _kept_dead(self) -> BoolArray | None:
        dead = np.concatenate([source.dead_kept for source in self._sources])
        return dead if dead.any() else None

    def commit(self) -> None:
        """Replace the segments that were read; those sealed meanwhile stay behind the new one."""
        now, count = self._store.state, len(self._state.segments)
        segments = [segment.entry for segment in now.segments[count:]]
        dead = list(now.dead[count:-1])
        if self._segment is not None:
            segments.insert(0, self._segment)
            dead.insert(0, self._dead_by_now(now))
        self._store.commit(
            segments,
            dead,
            structure=self._structure,
            choice=self._choice,
            queries=self._asked,
            spec=spec_to_dict(self._spec),
            target_recall=self._target,
        )

    def _dead_by_now(self, now: State) -> BoolArray | None:
        """Return the removed rows of the new segment, those removed since it was begun too."""
        pieces = []
        for source, marks in zip(self._sources, now.dead, strict=False):
            keep = source.keep
            pieces.append(np.zeros(len(keep), np.bool_)[keep] if marks is None else marks[keep])
        dead = np.concatenate(pieces)
        return dead if dead.any() else None

    def _poll(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise BuildInterrupted("stopped before it was finished")

    def _reporter(self, stage: str) -> Callable[[int, int], object] | None:
        progress = self._progress
        return None if progress is None else lambda done, total: progress(stage, done, total)


def _entry(
    spec: Spec, structure: Structure, file: FileEntry, calibration: Calibration
) -> StructureEntry:
    return StructureEntry(
        spec.kind, spec_to_dict(spec), file, calibration.to_dict(), structure.size_bytes
    )
