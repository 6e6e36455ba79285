"""What comes back: hits, records, plans and facts, all plain frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, overload

from vecindex.arrays import Float32Array

Id: TypeAlias = str | int
Metadata: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One stored row as the user gave it.

    Parameters
    ----------
    id : str or int
        The user's own id.
    text : str or None
        The text, None if the row was added without one.
    metadata : dict or None
        The metadata, None if the row was added without any.
    vector : ndarray of float32, shape (dim,), or None
        The unit row, only when it was asked for.
    """

    id: Id
    text: str | None = None
    metadata: Metadata | None = None
    vector: Float32Array | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Hit:
    """One answer of a search.

    Parameters
    ----------
    id : str or int
        The user's own id.
    score : float
        The cosine of query and row, in [-1, 1], higher is better.
    text : str or None
        The row's text.
    metadata : dict or None
        The row's metadata.
    """

    id: Id
    score: float
    text: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True)
class Plan:
    """How a search is carried out; `str(plan)` is a sentence.

    Parameters
    ----------
    method : str
        `"exact"`; a structure with its codes, as in `"hnsw"` or `"ivf/pq4"`; `"scan/pq4"` for a
        scan of codes beside the structure; `"none"` when there is nothing to search.
    reason : str
        Why this method.
    searched : int
        Rows that were candidates: live rows, or those that the filter left.
    total : int
        Live rows of the index.
    params : dict
        The structure's parameters for this search, empty for exact search.
    tail : int
        Rows outside the structure, which are searched beside it: exactly, or as many of them as
        have codes by those.
    costs_us : dict
        The ways that were open with what each was reckoned to take, in microseconds, if there
        was a choice.
    """

    method: str
    reason: str
    searched: int
    total: int
    params: dict[str, Any] = field(default_factory=dict)
    tail: int = 0
    costs_us: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the plan as one sentence."""
        words = f"{self.method} over {self.searched:,} of {self.total:,} rows ({self.reason})"
        if self.params:
            words += ", " + ", ".join(f"{name}={value}" for name, value in self.params.items())
        if self.tail:
            rows = "row" if self.tail == 1 else "rows"
            words += f"; {self.tail:,} {rows} outside the structure searched beside it"
        return words


class Hits(Sequence[Hit]):
    """The hits of one query, best first, with the plan that found them.

    Parameters
    ----------
    hits : list of Hit
        Best first.
    plan : Plan
        What was done.
    """

    __slots__ = ("_hits", "plan")

    def __init__(self, hits: list[Hit], plan: Plan) -> None:
        self._hits = hits
        self.plan = plan

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        """Return one hit, or a list of them for a slice."""
        return self._hits[index]

    def __len__(self) -> int:
        """Return the number of hits."""
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        """Iterate over the hits, best first."""
        return iter(self._hits)

    def __eq__(self, other: object) -> bool:
        """Compare hit by hit, with another `Hits` or a list."""
        if isinstance(other, Hits):
            return self._hits == other._hits
        return self._hits == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable-sequence semantics: equal by content

    def __repr__(self) -> str:
        """Return the hits and the plan's sentence."""
        return f"Hits({self._hits!r}, plan={str(self.plan)!r})"


@dataclass(frozen=True)
class OperatingPoint:
    """What was measured for one setting of a structure's parameters.

    Parameters
    ----------
    params : dict
        The parameters, as in `{"ef_search": 64}`.
    recall : float
        Mean recall@k over the sampled queries, against exact search.
    bound : float
        Lower confidence bound of `recall`.
    latency_ms : float
        Median time of one query on one thread, in milliseconds.
    """

    params: dict[str, Any]
    recall: float
    bound: float
    latency_ms: float


@dataclass(frozen=True)
class Costs:
    """What single steps of a search were measured to take; the planner reckons with them.

    Parameters
    ----------
    row_us : float
        Scoring one chosen row, in microseconds.
    call_us : float
        What a search takes that scores next to nothing, in microseconds.
    scan_row_us : float or None
        Scanning one row's code, in microseconds; None if the structure has no scan.
    """

    row_us: float
    call_us: float
    scan_row_us: float | None = None


@dataclass(frozen=True)
class Calibration:
    """The measured operating curve of a structure.

    Parameters
    ----------
    kind : str
        The structure's name.
    codes : str
        How it holds rows.
    k : int
        Neighbours asked for.
    queries : int
        Sampled queries.
    source : str
        Where the queries came from: `"rows"` or `"queries"`.
    confidence : float
        Of each point's lower bound, one-sided.
    exact_ms : float
        Median time of one exact search on one thread, in milliseconds.
    costs : Costs
        Of single steps.
    points : tuple of OperatingPoint
        By rising cost: those that no other beats in both, and those of a scan of all codes.
    """

    kind: str
    codes: str
    k: int
    queries: int
    source: str
    confidence: float
    exact_ms: float
    costs: Costs
    points: tuple[OperatingPoint, ...]

    def cheapest(self, target: float) -> OperatingPoint | None:
        """Return the fastest point whose bound meets `target`, None if there is none."""
        good = [point for point in self.points if point.bound >= target]
        return min(good, key=lambda point: point.latency_ms) if good else None

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any] | None) -> Calibration | None:
        """Return the calibration that `to_dict` wrote; None if there is none of this form."""
        try:
            points = tuple(OperatingPoint(**point) for point in (data or {})["points"])
            return cls(
                **{**(data or {}), "points": points, "costs": Costs(**(data or {})["costs"])}
            )
        except (KeyError, TypeError):  # of an earlier version: searches are exact without it
            return None


@dataclass(frozen=True)
class Tried:
    """One structure that `auto` considered.

    Parameters
    ----------
    spec : str
        Its short name, as in `"ivf/pq4"`.
    verdict : str
        Why it was chosen, or why not.
    build_s : float or None
        Seconds that building it took; None if it was not built.
    size_bytes : int or None
        Its bytes in memory, without the stored vectors.
    params : dict or None
        The cheapest measured parameters that meet the target, if any do.
    recall : float or None
        Their mean recall@10.
    bound : float or None
        Its lower confidence bound.
    latency_ms : float or None
        The median time of one query on one thread, in milliseconds.
    """

    spec: str
    verdict: str
    build_s: float | None = None
    size_bytes: int | None = None
    params: dict[str, Any] | None = None
    recall: float | None = None
    bound: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class Problem:
    """One damaged place found by `VectorIndex.verify`.

    Parameters
    ----------
    file : str
        The file's name within the index directory.
    offset : int
        Where in the file, in bytes.
    what : str
        What is wrong.
    rebuildable : bool
        True if nothing is lost: the file is a cache that can be built again.
    """

    file: str
    offset: int
    what: str
    rebuildable: bool


@dataclass(frozen=True)
class VerifyReport:
    """What `VectorIndex.verify` read and what it found.

    Parameters
    ----------
    files : int
        Files read.
    size_bytes : int
        Bytes read.
    rows : int
        Live rows checked.
    problems : tuple of Problem
        Empty when all is well.
    """

    files: int
    size_bytes: int
    rows: int
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """True if no problem was found."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, `ok` included."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class RepairReport:
    """What `VectorIndex.repair` found, saved and lost.

    Parameters
    ----------
    problems : tuple of Problem
        What was found; empty when all was well, and then nothing was changed.
    rebuilt : tuple of str
        Names of damaged files whose content was made anew, or saved in part, in other files.
    rows : int
        Live rows afterwards; 0 of a dry run.
    lost_rows : int
        Rows of segments that could not be saved.
    lost_ids : tuple of (str or int)
        Their ids, as far as they are known.
    lost_operations : int
        Calls of `add`, `upsert` and `remove` that could not be read: what they added is lost, what
        they replaced or removed is as it was before.
    aside : str or None
        The directory where copies of the damaged files are kept.
    """

    problems: tuple[Problem, ...] = ()
    rebuilt: tuple[str, ...] = ()
    rows: int = 0
    lost_rows: int = 0
    lost_ids: tuple[Id, ...] = ()
    lost_operations: int = 0
    aside: str | None = None

    @property
    def lossless(self) -> bool:
        """True if nothing is lost."""
        return not self.lost_rows and not self.lost_operations

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, `lossless` included."""
        return {"lossless": self.lossless, **asdict(self)}


@dataclass(frozen=True)
class IndexInfo:
    """Facts about an open index.

    Parameters
    ----------
    path : str
        The directory.
    mode : str
        `"r"` or `"r+"`.
    format : int
        Version of the file format.
    generation : int
        Counts the commits of the manifest.
    rows : int
        Live rows.
    removed : int
        Removed rows that still take space until `compact`.
    dim : int or None
        Dimension; None before the first row.
    spec : dict
        The structure that was asked for.
    structure : str or None
        The structure that exists; None while every search is exact.
    codes : str or None
        How the structure holds rows.
    indexed : int
        Rows in the structure, removed ones included.
    tail : int
        Rows outside the structure, searched exactly, removed ones included.
    target_recall : float
        The promise for recall@10.
    params : dict or None
        The calibrated parameters of the structure.
    calibration : Calibration or None
        The measured operating curve behind `params`.
    tried : tuple of Tried
        What `auto` considered when it chose the structure.
    memory_bytes : int
        Bytes of the structure in memory, without the stored vectors, which are mapped.
    embedder : str or None
        Name of the embedder whose embeddings are stored.
    durability : str
        `"sync"` or `"os"`.
    maintenance : str
        `"background"` or `"manual"`.
    size_bytes : int
        Bytes on disk.
    notes : tuple of str
        What deserves attention: a torn tail that was dropped, a structure that is being rebuilt,
        texts added since it was opened that were longer than the model reads.
    """

    path: str
    mode: str
    format: int
    generation: int
    rows: int
    removed: int
    dim: int | None
    spec: dict[str, Any]
    structure: str | None
    codes: str | None
    indexed: int
    tail: int
    target_recall: float
    params: dict[str, Any] | None
    calibration: Calibration | None
    tried: tuple[Tried, ...]
    memory_bytes: int
    embedder: str | None
    durability: str
    maintenance: str
    size_bytes: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict that json can write."""
        return asdict(self)
