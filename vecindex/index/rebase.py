"""One rebase: segments become one, with a structure that is built, measured and committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vecindex import ann
from vecindex.ann import BuildInterrupted, LiveMask, Structure
from vecindex.arrays import BoolArray, Float32Array
from vecindex.errors import CorruptIndexError
from vecindex.index.loaded import Loaded, Slot
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
from vecindex.store.files import FileEntry, MappedFile
from vecindex.store.manifest import Manifest, StructureEntry
from vecindex.store.rewrite import Source
from vecindex.store.segment import Segment
from vecindex.store.state import State
from vecindex.store.store import Store
from vecindex.store.vectors import read_all, write_vectors

Progress = Callable[[str, int, int | None], object]

AUTO_ROWS = 10_000
"""`auto` scans exactly below so many rows (0.6 ms at dimension 384); above it tries structures."""

_GROWN = 2  # times the rows at the last choice: `auto` chooses anew
_DEAD_SHARE = 0.2  # removed rows above this share: build anew instead of extending


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


class Rebase:
    """One rebase: read a state's segments, write the new ones, commit."""

    def __init__(
        self,
        store: Store,
        state: State,
        goal: Goal,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._store = store
        self._state = state
        self._goal = goal
        manifest = state.manifest
        self._spec = goal.spec or spec_from_dict(manifest.spec)
        self._target = goal.target_recall or manifest.target_recall
        self._progress = progress
        self._should_stop = should_stop
        self._sources: list[Source] = []
        self._segment: Segment | None = None
        self._structure: StructureEntry | None = None
        self._choice: dict[str, Any] | None = None
        self._asked: FileEntry | None = manifest.queries
        self._queries: Float32Array | None = None
        self.loaded: Loaded | None = None
        """The new structure as searches will use it, once it is ready."""

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
            segment = state.segments[0]
        elif sum(int(source.keep.sum()) for source in self._sources):
            segment = self._store.segment(self._store.rewrite(self._sources, self._poll)[0])
        else:
            return
        self._segment = segment
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

    def make_ready(self, slot: Slot) -> None:
        """Do what the first search would otherwise have to wait for.

        The structure is read as any reader reads it, so it takes no memory of its own, and what
        was sealed since is encoded in its words.

        Parameters
        ----------
        slot : Slot
            Where the structure is if it has not changed.
        """
        if self._segment is None or self._structure is None:
            return
        entry, known = self._structure, slot.loaded
        if self.loaded is None and known is not None and known.entry == entry.file:
            self.loaded = known
        if self.loaded is None:
            file = MappedFile(self._store.directory, entry.file)
            file.check()
            spec = structure_spec(entry.spec)
            self.loaded = Loaded(entry.file, ann.load(spec, file.data, self._segment.mapped))
        sealed = self._store.state.segments[len(self._state.segments) :]
        for segment in sealed:
            if self.loaded.codes(segment) is None:
                segment.check_rows()
                self.loaded.prepare(segment, [], self._poll)

    def commit(self) -> None:
        """Replace the segments that were read; those sealed meanwhile stay behind the new one."""
        now, count = self._store.state, len(self._state.segments)
        segments = [segment.entry for segment in now.segments[count:]]
        dead = list(now.dead[count:-1])
        if self._segment is not None:
            segments.insert(0, self._segment.entry)
            dead.insert(0, self._dead_by_now(now))
        self._store.commit(
            segments,
            dead,
            made=[] if self._segment is None else [self._segment],
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
