"""The manifest: the one commit point, a checksummed frame that names every file of a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vecindex.errors import CorruptIndexError, IndexPathError
from vecindex.forks import lazily
from vecindex.results import Calibration, OperatingPoint
from vecindex.spec import Params, params_from_dict
from vecindex.store.files import Directory, FileEntry, check_name
from vecindex.store.frames import FORMAT, MANIFEST, BadFrameError, decode, encode

NAME = "MANIFEST"


@dataclass(frozen=True)
class LogEntry:
    """One log file.

    Parameters
    ----------
    name : str
        Its name.
    sequence : int
        Number of its first operation.
    size : int or None
        Bytes; None while it grows.
    synced : int
        Bytes of a growing log that are known to be on stable storage: damage there is damage,
        behind it may be an unfinished write.
    """

    name: str
    sequence: int
    size: int | None = None
    synced: int = 0

    def __post_init__(self) -> None:
        """Refuse a name that could leave the directory."""
        check_name(self.name)


@dataclass(frozen=True)
class SegmentEntry:
    """The files of one immutable segment of `rows` rows; it can do without columns."""

    rows: int
    vectors: FileEntry
    records: FileEntry
    ids: FileEntry
    columns: FileEntry | None = None

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The segment's files."""
        columns = () if self.columns is None else (self.columns,)
        return self.vectors, self.records, self.ids, *columns


@dataclass(frozen=True)
class StructureEntry:
    """The structure over the first segment: how it was built, its file, what was measured."""

    kind: str
    spec: dict[str, Any]
    file: FileEntry
    calibration: dict[str, Any] | None
    memory_bytes: int = 0

    @lazily
    def measured(self) -> Calibration | None:
        """The calibration, read; None if there is none of this version's form."""
        return Calibration.from_dict(self.calibration)

    @lazily
    def settings(self) -> tuple[tuple[OperatingPoint, Params], ...]:
        """The points of the calibration, in its order, with the parameters of each."""
        points = () if self.measured is None else self.measured.points
        return tuple((point, params_from_dict(self.kind, point.params)) for point in points)


@dataclass(frozen=True)
class Manifest:
    """Everything that one state of the index consists of.

    Parameters
    ----------
    generation : int
        Counts the commits.
    dim : int or None
        Dimension of the vectors, None before the first row.
    spec : dict
        The structure that was asked for.
    target_recall : float
        The promise for recall@10.
    embedder : dict or None
        Fingerprint of the embedder.
    next_id : int
        The next id that vecindex may make; greater than every int id ever used.
    next_file : int
        The next number for a file name.
    logs : tuple of LogEntry
        In order; the last one grows.
    segments : tuple of SegmentEntry
        In row order. A structure covers exactly the first one.
    dead : FileEntry or None
        Bitmap of the segments' removed rows, as of the start of the first log.
    structure : StructureEntry or None
        None while every search is exact.
    choice : dict or None
        What `auto` chose and tried, and for how many rows.
    queries : FileEntry or None
        Queries to calibrate with, as a vectors file; None takes rows.
    owner : int
        A random number that the frames of this index's logs have, too.
    """

    generation: int
    dim: int | None
    spec: dict[str, Any]
    target_recall: float
    embedder: dict[str, Any] | None = None
    next_id: int = 0
    next_file: int = 1
    logs: tuple[LogEntry, ...] = ()
    segments: tuple[SegmentEntry, ...] = ()
    dead: FileEntry | None = None
    structure: StructureEntry | None = None
    choice: dict[str, Any] | None = None
    queries: FileEntry | None = None
    owner: int = 0

    def files(self) -> list[FileEntry]:
        """Return the entries of all immutable files."""
        entries = [entry for segment in self.segments for entry in segment.files]
        if self.dead is not None:
            entries.append(self.dead)
        if self.structure is not None:
            entries.append(self.structure.file)
        if self.queries is not None:
            entries.append(self.queries)
        return entries

    def caches(self) -> set[FileEntry]:
        """Return the entries of the files that can be made anew from the others."""
        found = {segment.columns for segment in self.segments if segment.columns is not None}
        return found if self.structure is None else found | {self.structure.file}

    def names(self) -> set[str]:
        """Return the names of all files, logs included."""
        return {entry.name for entry in self.files()} | {log.name for log in self.logs}


def write_manifest(directory: Directory, manifest: Manifest) -> None:
    """Replace the manifest atomically; when this returns, the new state is durable."""
    directory.write(NAME, manifest_bytes(manifest))


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return what the manifest's file holds."""
    buffers, _ = encode(MANIFEST, _to_dict(manifest), sequence=manifest.generation)
    return b"".join(buffers)


def read_manifest(directory: Directory) -> Manifest:
    """Return the manifest.

    Raises
    ------
    IndexPathError
        If the directory is not an index.
    CorruptIndexError
        If the manifest is damaged.
    FormatVersionError
        If it was written by a newer format.
    """
    path = directory.path / NAME
    try:
        data = np.frombuffer(directory.read(NAME), dtype=np.uint8)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IndexPathError(
            f"{directory.path} is not a vecindex index: no {NAME} in it"
        ) from error
    try:
        frame = decode(data, 0, str(path))
    except BadFrameError as error:
        raise CorruptIndexError(f"{path} is damaged at offset 0: {error}") from error
    if frame.kind != MANIFEST or frame.size != len(data):
        raise CorruptIndexError(f"{path} is damaged at offset {frame.size}: not one manifest frame")
    try:
        return _from_dict(frame.body)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptIndexError(f"{path} is damaged: unexpected content ({error!r})") from error


def _to_dict(manifest: Manifest) -> dict[str, Any]:
    structure = manifest.structure
    return {
        "format": FORMAT,
        "generation": manifest.generation,
        "dim": manifest.dim,
        "spec": manifest.spec,
        "target_recall": manifest.target_recall,
        "embedder": manifest.embedder,
        "next_id": manifest.next_id,
        "next_file": manifest.next_file,
        "logs": [[log.name, log.sequence, log.size, log.synced] for log in manifest.logs],
        "segments": [
            {
                "rows": segment.rows,
                "vectors": segment.vectors.to_list(),
                "records": segment.records.to_list(),
                "ids": segment.ids.to_list(),
                "columns": None if segment.columns is None else segment.columns.to_list(),
            }
            for segment in manifest.segments
        ],
        "dead": None if manifest.dead is None else manifest.dead.to_list(),
        "structure": None
        if structure is None
        else {
            "kind": structure.kind,
            "spec": structure.spec,
            "file": structure.file.to_list(),
            "calibration": structure.calibration,
            "memory_bytes": structure.memory_bytes,
        },
        "choice": manifest.choice,
        "queries": None if manifest.queries is None else manifest.queries.to_list(),
        "owner": manifest.owner,
    }


def _from_dict(data: dict[str, Any]) -> Manifest:
    structure = data["structure"]
    return Manifest(
        generation=data["generation"],
        dim=data["dim"],
        spec=data["spec"],
        target_recall=data["target_recall"],
        embedder=data["embedder"],
        next_id=data["next_id"],
        next_file=data["next_file"],
        logs=tuple(LogEntry(*log) for log in data["logs"]),
        segments=tuple(
            SegmentEntry(
                segment["rows"],
                FileEntry(*segment["vectors"]),
                FileEntry(*segment["records"]),
                FileEntry(*segment["ids"]),
                FileEntry(*segment["columns"]) if segment.get("columns") else None,
            )
            for segment in data["segments"]
        ),
        dead=None if data["dead"] is None else FileEntry(*data["dead"]),
        structure=None
        if structure is None
        else StructureEntry(
            structure["kind"],
            structure["spec"],
            FileEntry(*structure["file"]),
            structure["calibration"],
            structure.get("memory_bytes", 0),
        ),
        choice=data.get("choice"),
        queries=None if data.get("queries") is None else FileEntry(*data["queries"]),
        owner=data.get("owner", 0),
    )
