"""One whole, immutable state of an index; operations make the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int64Array
from vecindex.results import Id
from vecindex.store.files import Directory, MappedFile
from vecindex.store.frames import PUT, REMOVE, Frame
from vecindex.store.ids import Wanted
from vecindex.store.manifest import Manifest
from vecindex.store.masks import quiet
from vecindex.store.segment import Part, Segment, Tail, TailView


@dataclass(frozen=True, eq=False)
class State:
    """What one reader sees: segments, tail, and which rows are removed.

    Parameters
    ----------
    manifest : Manifest
        The commit that this state builds on.
    segments : tuple of Segment
        Immutable rows on disk.
    tail : TailView
        Rows from the logs.
    dead : tuple of (ndarray of bool, or None)
        Removed rows per part, the tail's last; None where nothing was removed.
    removed : int
        Number of removed rows.
    sequence : int
        Number of the next operation.
    offset : int
        Bytes of the last log that this state includes.
    next_id : int
        The next id that vecindex may make.
    last : tuple of (int, bytes)
        Offset and header of the last frame that was read, by which a reader notices that the
        writer has taken it back.
    structure_file : MappedFile or None
        The structure's file, unchecked; None if there is none or it cannot be used.
    """

    manifest: Manifest
    segments: tuple[Segment, ...]
    tail: TailView
    dead: tuple[BoolArray | None, ...]
    removed: int
    sequence: int
    offset: int
    next_id: int
    last: tuple[int, bytes] = (0, b"")
    structure_file: MappedFile | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Segments and tail in row order."""
        return (*self.segments, self.tail)

    @property
    def total(self) -> int:
        """Number of rows, removed ones included."""
        return sum(part.count for part in self.parts)

    @property
    def live(self) -> int:
        """Number of rows that were not removed."""
        return self.total - self.removed

    def find(self, ids: Sequence[Id]) -> tuple[Int64Array, Int64Array]:
        """Return part and row within it for each id, -1 for an id that is not live."""
        parts = np.full(len(ids), -1, dtype=np.int64)
        rows = np.full(len(ids), -1, dtype=np.int64)
        missing = np.arange(len(ids))
        wanted = Wanted(ids)
        for number, part in reversed(list(enumerate(self.parts))):
            if not len(missing):
                break
            if not part.count:
                continue
            found = part.find(wanted)
            dead = self.dead[number]
            alive = found >= 0 if dead is None else (found >= 0) & ~dead[found]
            parts[missing[alive]] = number
            rows[missing[alive]] = found[alive]
            missing = missing[~alive]
            if alive.any():
                wanted = Wanted([ids[i] for i in missing.tolist()])
        return parts, rows

    def put(
        self,
        ids: Sequence[Id],
        records: Sequence[bytes],
        vectors: Float32Array,
        *,
        fresh: bool = False,
    ) -> State:
        """Return the state with rows added; rows that had these ids before are removed.

        `fresh` promises that there are none.
        """
        state = self if fresh else self.remove(ids)
        tail = state.tail.tail
        if tail.dim != vectors.shape[1]:  # the first rows decide the dimension
            tail = Tail(vectors.shape[1])
        tail.append(state.tail.count, ids, records, vectors)
        view = TailView(tail, state.tail.count + len(ids))
        dead = state.dead[-1]
        if dead is not None:
            dead = np.concatenate([dead, np.zeros(len(ids), dtype=np.bool_)])
        ints = [value for value in ids if isinstance(value, int)]
        return replace(
            state,
            tail=view,
            dead=(*state.dead[:-1], dead),
            next_id=max(state.next_id, max(ints) + 1) if ints else state.next_id,
        )

    def remove(self, ids: Sequence[Id]) -> State:
        """Return the state without the rows of `ids`; unknown ids are passed over."""
        parts, rows = self.find(ids)
        if (parts < 0).all():
            return self
        dead = list(self.dead)
        for number in np.unique(parts[parts >= 0]).tolist():
            known = dead[number]
            count = self.parts[number].count
            marks = np.zeros(count, dtype=np.bool_) if known is None else known.copy()
            marks[rows[parts == number]] = True
            dead[number] = marks
        removed = sum(int(np.count_nonzero(marks)) for marks in dead if marks is not None)
        return replace(self, dead=tuple(dead), removed=removed)

    def apply(self, frame: Frame) -> State:
        """Return the state after a logged operation."""
        if frame.kind == PUT:
            state = self.put(frame.body["ids"], frame.body["records"], frame.vectors)
        elif frame.kind == REMOVE:
            state = self.remove(frame.body["ids"])
        else:
            raise ValueError(f"unknown kind of frame: {frame.kind}")
        return replace(
            state,
            sequence=self.sequence + 1,
            offset=self.offset + frame.size,
            last=(self.offset, frame.header),
        )


def load_state(
    directory: Directory,
    manifest: Manifest,
    reuse: State | None = None,
    note: Callable[[str], object] = quiet,
) -> State:
    """Return the state of the manifest's segments, before any log is replayed.

    Parameters
    ----------
    directory : Directory
        The index directory.
    manifest : Manifest
        The commit to load.
    reuse : State or None
        A state whose mapped files may be used again.
    note : callable
        Is told, when it is noticed, of damage to what can be done without.

    Raises
    ------
    CorruptIndexError
        If a file has another size than the manifest says, or the removed rows cannot be read.
    FileNotFoundError
        If a file is gone: a writer may have committed since the manifest was read.
    """
    known = {segment.entry: segment for segment in reuse.segments} if reuse else {}
    segments = tuple(
        known.get(entry) or Segment(directory, entry, manifest.dim or 0, note)
        for entry in manifest.segments
    )
    dead = _load_dead(directory, manifest)
    return State(
        manifest=manifest,
        segments=segments,
        tail=TailView(Tail(manifest.dim or 0), 0),
        dead=(*dead, None),
        removed=sum(int(np.count_nonzero(marks)) for marks in dead if marks is not None),
        sequence=manifest.logs[0].sequence,
        offset=0,
        next_id=manifest.next_id,
        structure_file=_map_structure(directory, manifest, reuse),
    )


def _load_dead(directory: Directory, manifest: Manifest) -> list[BoolArray | None]:
    counts = [segment.rows for segment in manifest.segments]
    if manifest.dead is None:
        return [None] * len(counts)
    file = MappedFile(directory, manifest.dead)
    file.check()
    if len(file.data) != -(-sum(counts) // 8):
        raise file.corrupt(0, f"{len(file.data)} bytes are no bitmap of {sum(counts)} rows")
    marks = np.unpackbits(file.data, count=sum(counts), bitorder="little").view(np.bool_)
    pieces = np.split(marks, np.cumsum(counts)[:-1])
    return [piece if piece.any() else None for piece in pieces]


def pack_dead(dead: Sequence[BoolArray | None], counts: Sequence[int]) -> bytes | None:
    """Return the bitmap of removed rows, None when there are none."""
    if all(marks is None for marks in dead):
        return None
    pieces = [
        np.zeros(count, dtype=np.bool_) if marks is None else marks
        for marks, count in zip(dead, counts, strict=True)
    ]
    return np.packbits(np.concatenate(pieces), bitorder="little").tobytes()


def _map_structure(
    directory: Directory, manifest: Manifest, reuse: State | None
) -> MappedFile | None:
    """Map the structure's file; it is a cache, so its absence is no error."""
    if manifest.structure is None:
        return None
    entry = manifest.structure.file
    if reuse and reuse.structure_file and reuse.structure_file.entry == entry:
        return reuse.structure_file
    try:
        return MappedFile(directory, entry)
    except OSError:  # missing, or another size (CorruptIndexError is an OSError)
        return None
