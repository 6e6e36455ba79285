"""`VectorIndex`: the one place where records, vectors, structures and embedders meet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecindex import embed
from vecindex.arrays import Float32Array
from vecindex.embed import Embedder, Fingerprint
from vecindex.errors import (
    ClosedIndexError,
    DimensionError,
    IdTypeError,
    InputError,
    ReadOnlyError,
    UnknownIdError,
)
from vecindex.filters import Filter, parse
from vecindex.forks import new_rlock
from vecindex.index import carry_out, inputs, opening, planner
from vecindex.index.embedding import TextEmbedder
from vecindex.index.formats import OtherFormats
from vecindex.index.loaded import Slot
from vecindex.index.maintenance import Maintenance
from vecindex.index.planner import Request, Route
from vecindex.index.rebase import Goal, Progress, is_exact
from vecindex.index.view import View
from vecindex.results import (
    Hit,
    Hits,
    Id,
    IndexInfo,
    Metadata,
    Plan,
    Record,
    RepairReport,
    Tried,
    VerifyReport,
)
from vecindex.spec import (
    AutoSpec,
    OptimizeBudget,
    Params,
    Spec,
    parse_spec,
    spec_from_dict,
    spec_name,
    spec_to_dict,
)
from vecindex.store import repair as repairs
from vecindex.store.check import check_state, size_bytes
from vecindex.store.codec import RecordPacker, unpack_fields
from vecindex.store.files import Directory
from vecindex.store.frames import FORMAT
from vecindex.store.lending import lending
from vecindex.store.manifest import Manifest
from vecindex.store.state import State
from vecindex.store.store import Store

Where = Mapping[str, Any]
Durability = Literal["sync", "os"]
MaintenanceMode = Literal["background", "manual"]
RefreshMode = Literal["manual", "auto"]


class VectorIndex(OtherFormats):
    """An index directory, open for reading or for reading and writing.

    Make one with `VectorIndex.create` or `VectorIndex.open`. Searches may run on any number of
    threads, also while others add, remove, fold or refresh; each sees one whole state.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder | None,
        durability: Durability,
        maintenance: MaintenanceMode,
        refresh: RefreshMode = "manual",
    ) -> None:
        self._store = store
        self._embedder = TextEmbedder(store, embedder)
        self._durability = durability
        self._maintenance_mode = maintenance
        slot = Slot()
        self._maintenance = Maintenance(store, slot, background=maintenance == "background")
        self._write_lock = new_rlock()
        self._packer = RecordPacker()
        self._current = View(store.state, slot=slot)
        self._follows = refresh == "auto"
        self._closed = False

    # -- opening and closing ---------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        embedder: Any = None,
        spec: str | Spec = "auto",
        target_recall: float = 0.95,
        durability: Durability = "sync",
        maintenance: MaintenanceMode = "background",
        timeout: float = 0.0,
    ) -> VectorIndex:
        """Return a new, empty index in a new directory, open for writing.

        Parameters
        ----------
        path : str or path
            The directory to make. Parents are made, too.
        dim : int or None
            Dimension of the vectors; None takes that of the first rows.
        embedder : str, callable, Embedder or None
            Turns texts into vectors: a model's name such as
            `"sentence-transformers/all-MiniLM-L6-v2"`, a function from a list of str to an
            array of shape (n, dim), or an object that keeps `vecindex.embed.Embedder`.
        spec : str or Spec
            `"flat"`, `"hnsw"`, `"ivf"`, also with codes as in `"flat/pq4"`; `"auto"`, which tries
            some from 10,000 rows on; or a dataclass such as `HnswSpec(m=16)`.
        target_recall : float
            The promise for recall@10 against exact search, above 0 and at most 1.
        durability : {"sync", "os"}
            `"sync"`: what a call acknowledged is on stable storage. `"os"`: it survives the
            process, and a power failure only after `flush`.
        maintenance : {"background", "manual"}
            Whether the index folds new rows into its structure by itself.
        timeout : float
            Seconds to wait for somebody else who is creating it.

        Returns
        -------
        VectorIndex
            Open for writing.

        Raises
        ------
        IndexPathError
            If something is at `path` already.
        IndexLockedError
            If another process is creating it.
        SpecError, InputError, EmbedderError
            If an argument cannot be used.
        """
        opening.check_modes(durability, maintenance)
        if dim is not None and (isinstance(dim, bool) or not isinstance(dim, int) or dim < 1):
            raise DimensionError(f"dim must be an int >= 1 or None, not {dim!r}")
        manifest = Manifest(
            generation=0,
            dim=dim,
            spec=spec_to_dict(parse_spec(spec)),
            target_recall=inputs.check_share(target_recall, "target_recall"),
        )
        seconds = opening.check_timeout(timeout)
        resolved = embed.resolve(embedder)
        directory = Directory(opening.absolute(path))
        store = Store.create(directory, manifest, sync=durability == "sync", timeout=seconds)
        return cls(store, resolved, durability, maintenance)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Literal["r", "r+"] = "r",
        *,
        embedder: Any = None,
        durability: Durability = "sync",
        maintenance: MaintenanceMode = "background",
        trusted: bool = True,
        refresh: RefreshMode = "manual",
        timeout: float = 0.0,
    ) -> VectorIndex:
        """Return an existing index.

        Parameters
        ----------
        path : str or path
            The directory.
        mode : {"r", "r+"}
            `"r"` reads, beside a writer and on read-only media; `"r+"` also writes, one at a time.
        embedder : str, callable, Embedder or None
            As for `create`. None restores a model that is known by name when it is first needed;
            a function must be given again.
        durability : {"sync", "os"}
            As for `create`.
        maintenance : {"background", "manual"}
            As for `create`.
        trusted : bool
            False for an index that may have been made to do harm. It can only be read. All of it
            is checked here, which takes a while; structure and columns are not used, so every
            search is exact; no link is followed; and no embedder is restored by name.

        refresh : {"manual", "auto"}
            When a reader steps to what the writer has acknowledged: only when `refresh` is
            called, or also before each search, `get`, `scan`, `count` and the like. To look for
            news takes a few microseconds (one `stat`). A writer needs neither.
        timeout : float
            Seconds to wait, with mode `"r+"`, for another writer to close the index.

        Returns
        -------
        VectorIndex
            Nothing but the manifest, and the log's operations since the last fold, is read here.

        Raises
        ------
        IndexPathError
            If `path` is not an index.
        IndexLockedError
            If `mode` is `"r+"` and another writer holds the index, also after `timeout`.
        FormatVersionError, CorruptIndexError
            If it cannot be read.
        """
        opening.check_modes(durability, maintenance)
        opening.check_mode(mode)
        opening.check_refresh(refresh)
        seconds = opening.check_timeout(timeout)
        if mode == "r+" and not trusted:
            raise InputError(
                'an untrusted index can only be read: open it with mode="r", and add what it holds '
                "to an index of your own"
            )
        resolved = embed.resolve(embedder)
        store = Store.open(
            Directory(opening.absolute(path)),
            writable=mode == "r+",
            sync=durability == "sync",
            trusted=trusted,
            timeout=seconds,
        )
        if not trusted:
            store.note("opened as untrusted: structure and columns are not used, search is exact")
        return cls(store, resolved, durability, maintenance, refresh)

    def close(self) -> None:
        """Release files and lock. Acknowledged operations are kept; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._store.forked:
            return  # log, lock and threads are the parent's
        try:
            self._maintenance.close()
        finally:
            with self._write_lock:
                self._store.close()

    def __enter__(self) -> VectorIndex:
        """Return the index itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the index."""
        self.close()

    def __repr__(self) -> str:
        """Return path, mode and size."""
        rows = "closed" if self._closed else f"{len(self):,} rows"
        return f"VectorIndex({str(self.path)!r}, mode={self.mode!r}, {rows})"

    # -- facts -----------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The index directory."""
        return self._store.directory.path

    @property
    def mode(self) -> Literal["r", "r+"]:
        """`"r+"` if this index can be written to, else `"r"`."""
        return "r+" if self._store.writable else "r"

    @property
    def dim(self) -> int | None:
        """Dimension of the vectors, None before the first row."""
        return self._store.state.manifest.dim

    @property
    def closed(self) -> bool:
        """Whether the index was closed."""
        return self._closed

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._state().live

    def __contains__(self, record_id: object) -> bool:
        """Return whether there is a row with this id."""
        state = self._state()
        try:
            wanted = inputs.check_ids([record_id])  # type: ignore[list-item]  # checked there
        except IdTypeError:
            return False
        return bool(state.find(wanted)[0][0] >= 0)

    def info(self) -> IndexInfo:
        """Return facts about the index, the measured operating curve among them.

        Returns
        -------
        IndexInfo
            A frozen dataclass; `to_dict()` makes it plain.
        """
        view = self._view()
        state, manifest = view.state, view.state.manifest
        entry = manifest.structure
        spec = spec_from_dict(manifest.spec)
        flat = is_exact(spec, state.live) or (manifest.choice is not None and entry is None)
        point = view.point(manifest.target_recall)
        indexed = 0 if entry is None else manifest.segments[0].rows
        return IndexInfo(
            path=str(self.path),
            mode=self.mode,
            format=FORMAT,
            generation=manifest.generation,
            rows=state.live,
            removed=state.removed,
            dim=manifest.dim,
            spec=manifest.spec,
            structure=entry.kind if entry else "flat" if flat else None,
            codes=entry.spec.get("codes", "float32") if entry else "float32" if flat else None,
            indexed=indexed,
            tail=state.total - indexed,
            target_recall=manifest.target_recall,
            params=point.params if point else None,
            calibration=view.calibration,
            tried=tuple(Tried(**one) for one in (manifest.choice or {}).get("tried", ())),
            memory_bytes=entry.memory_bytes if entry else 0,
            embedder=manifest.embedder["name"] if manifest.embedder else None,
            durability=self._durability,
            maintenance=self._maintenance_mode,
            size_bytes=size_bytes(state),
            notes=(*self._store.notes, *self._embedder.notes),
        )

    # -- writing ---------------------------------------------------------------------------

    def add(
        self,
        *,
        texts: Iterable[str | None] | None = None,
        vectors: ArrayLike | None = None,
        ids: Iterable[Id] | None = None,
        metadata: Iterable[Metadata | None] | None = None,
        progress: Progress | None = None,
    ) -> list[Id]:
        """Add rows and return their ids; all of them are durable then, or none is added.

        Parameters
        ----------
        texts : iterable of (str or None), or None
            Embedded unless `vectors` are given.
        vectors : array_like of shape (n, dim), or None
            Any length but zero; stored as unit rows of float32.
        ids : iterable of (str or int), or None
            None makes int ids that were never used before.
        metadata : iterable of (dict or None), or None
            Dicts with str keys of None, bool, int, float, str, bytes, datetime, and lists and
            dicts of these. Tuples come back as lists, NumPy scalars as Python's.
        progress : callable or None
            Called with `"embed"`, texts done and texts in total.

        Returns
        -------
        list of (str or int)
            The ids, in order.

        Raises
        ------
        InputError
            If columns differ in length, or an entry cannot be stored; rows are named.
        DimensionError, VectorValueError
            If a vector has another dimension, or is not finite, or is all zeros.
        IdTypeError, DuplicateIdError
            If an id has another type, occurs twice, or is in the index already.
        EmbedderError, EmbedderMismatchError
            If texts come without an embedder, or the embedder is not the index's.
        ReadOnlyError, ClosedIndexError, StorageFullError, StorageFailedError
            If the index cannot be written to.
        """
        return self._put(texts, vectors, ids, metadata, progress, replace=False)

    def upsert(
        self,
        *,
        ids: Iterable[Id],
        texts: Iterable[str | None] | None = None,
        vectors: ArrayLike | None = None,
        metadata: Iterable[Metadata | None] | None = None,
        progress: Progress | None = None,
    ) -> list[Id]:
        """Add rows, replacing whole rows that have the same ids; atomic and durable like `add`.

        Parameters
        ----------
        ids : iterable of (str or int)
            One per row.
        texts : iterable of (str or None), or None
            As for `add`.
        vectors : array_like of shape (n, dim), or None
            As for `add`.
        metadata : iterable of (dict or None), or None
            As for `add`; what a replaced row had is gone.
        progress : callable or None
            As for `add`.

        Returns
        -------
        list of (str or int)
            The ids, in order.
        """
        return self._put(texts, vectors, ids, metadata, progress, replace=True)

    @lending()
    def _put(
        self,
        texts: Iterable[str | None] | None,
        vectors: Any,
        ids: Iterable[Id] | None,
        metadata: Iterable[Metadata | None] | None,
        progress: Progress | None,
        *,
        replace: bool,
    ) -> list[Id]:
        self._check_writable()
        rows = inputs.check_rows(texts, vectors, ids, metadata, self.dim)
        if not rows.count:
            return []
        fingerprint = None
        if rows.vectors is None or self._embedder.unbound:
            fingerprint = self._embedder.fingerprint()
            if rows.vectors is not None and fingerprint.dim != rows.vectors.shape[1]:
                raise DimensionError(
                    f"vectors have dimension {rows.vectors.shape[1]}, but the embedder "
                    f"{fingerprint.name} gives {fingerprint.dim}"
                )
        if rows.vectors is None:
            unit = self._embedder.documents([text or "" for text in rows.texts or []], progress)
        else:
            unit = rows.vectors
        with self._write_lock:
            state = self._store.state
            made = rows.ids or inputs.make_ids(state.next_id, rows.count)
            if rows.ids is not None and not replace:
                inputs.refuse_known(made, np.flatnonzero(state.find(made)[0] >= 0).tolist())
            records = self._packer.pack_all(made, rows.texts, rows.metadata)
            self._bind(unit, fingerprint)
            self._store.put(made, records, unit, fresh=not replace)
        self._after_write()
        return made

    def _bind(self, unit: Float32Array, fingerprint: Fingerprint | None) -> None:
        """Commit dimension and embedder before the first row that needs them."""
        manifest = self._store.state.manifest
        changes: dict[str, Any] = {}
        if manifest.dim is None:
            changes["dim"] = unit.shape[1]
        elif manifest.dim != unit.shape[1]:  # another thread was first
            raise DimensionError(
                f"vectors have dimension {unit.shape[1]}, but this index has {manifest.dim}"
            )
        if manifest.embedder is None and fingerprint is not None:
            changes["embedder"] = fingerprint.to_dict()
        if changes:
            self._store.update(**changes)

    @lending()
    def remove(self, ids: Iterable[Id] | None = None, *, where: Where | None = None) -> int:
        """Remove rows by id or by filter, durably, and return how many there were.

        Parameters
        ----------
        ids : iterable of (str or int), or None
            Unknown ids are passed over.
        where : mapping or None
            A filter, instead of ids.

        Returns
        -------
        int
            Rows removed.

        Raises
        ------
        InputError
            If neither or both of `ids` and `where` are given.
        IdTypeError, FilterError
            If an id or the filter cannot be used.
        """
        self._check_writable()
        if (ids is None) == (where is None):
            raise InputError("give ids or where, one of them")
        if where is not None and not where:
            raise InputError("an empty filter would remove every row; name the rows to remove")
        with self._write_lock:
            if where is not None:
                listed = self._view().ids_where(parse(where))
            else:
                listed = inputs.check_ids(ids if ids is not None else [])
            count = self._store.remove(listed) if listed else 0
        self._after_write()
        return count

    def _after_write(self) -> None:
        self._maintenance.after_write()
        self._catch_up()

    def _catch_up(self) -> None:
        """Let searches find a view, with codes; lets go of files that only another state had."""
        with suppress(ClosedIndexError, OSError, MemoryError):  # the call before has succeeded
            self._view().catch_up()

    def flush(self) -> None:
        """Put every acknowledged operation on stable storage (needed with `durability="os"`)."""
        self._check_writable()
        self._store.flush()

    # -- reading ---------------------------------------------------------------------------

    def get(self, ids: Iterable[Id], *, vectors: bool = False) -> list[Record]:
        """Return the records of the given ids, in that order.

        Parameters
        ----------
        ids : iterable of (str or int)
            All must be known.
        vectors : bool
            Also return each row's unit vector, as a copy.

        Returns
        -------
        list of Record
            One per id.

        Raises
        ------
        UnknownIdError
            If an id is not in the index; the message lists those.
        """
        view = self._view()
        wanted = inputs.check_ids(ids)
        parts, rows = view.state.find(wanted)
        if (parts < 0).any():
            missing = [wanted[i] for i in np.flatnonzero(parts < 0).tolist()]
            shown = ", ".join(repr(value) for value in missing[:10])
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            raise UnknownIdError(f"not in the index: {shown}{more}")
        return view.records(view.starts[parts] + rows, vectors=vectors)

    def scan(self, where: Where | None = None, *, vectors: bool = False) -> Iterator[Record]:
        """Yield all records, or those that a filter keeps, in insertion order.

        Parameters
        ----------
        where : mapping or None
            A filter, see `vecindex.filters`.
        vectors : bool
            Also give each row's unit vector, as a copy.

        Yields
        ------
        Record
            One state is scanned from start to end, whatever is written meanwhile.
        """
        view = self._view()
        condition = None if where is None else parse(where)
        return self._scan(view, condition, vectors)

    @staticmethod
    def _scan(view: View, condition: Filter | None, vectors: bool) -> Iterator[Record]:
        for number, part in enumerate(view.parts):
            if vectors:
                part.check_rows()
            for row, record in view.scan(number, condition):
                vector = part.vectors[row].copy() if vectors else None
                yield Record(record.id, record.text, record.metadata, vector)

    def count(self, where: Where | None = None) -> int:
        """Return the number of rows, or of those that a filter keeps.

        Parameters
        ----------
        where : mapping or None
            A filter, see `vecindex.filters`.

        Returns
        -------
        int
            Rows.
        """
        if where is None:
            return len(self)
        view, condition = self._view(), parse(where)
        kept = (view.keeps(number, condition) for number in range(len(view.parts)))
        return sum(int(np.count_nonzero(mask)) for mask in kept)

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        where: Where | None = None,
        exact: bool = False,
        recall: float | None = None,
        params: Mapping[str, Any] | Params | None = None,
    ) -> Any:
        """Return the k nearest rows of a query, or of each of several queries.

        Parameters
        ----------
        query : str, array_like of shape (dim,), list of str, or array_like of shape (q, dim)
            A text or a vector; a list of texts or a matrix asks several at once.
        k : int
            At least 1. All rows come back when there are fewer.
        where : mapping or None
            A filter, see `vecindex.filters`; `min(k, matching rows)` hits come back.
        exact : bool
            Search exactly.
        recall : float or None
            A contract for this call; None takes the index's `target_recall`.
        params : mapping, Params or None
            Structure parameters such as `{"ef_search": 64}`, instead of the calibrated ones.

        Returns
        -------
        Hits or list of Hits
            One `Hits` for one query, a list for several. Best first; equal scores in insertion
            order.

        Raises
        ------
        InputError
            If `k`, `recall` or the query cannot be used; `DimensionError`, `VectorValueError`,
            `FilterError` and `SpecError` are kinds of it.
        EmbedderError, EmbedderMismatchError
            If a text comes without an embedder, or the embedder is not the index's.
        """
        asked = inputs.read_query(query)
        view = self._view()
        route = self._route(view, k, where, exact, recall, params)
        if asked.texts is not None:
            unit = self._embedder.queries(asked.texts)
        else:
            unit = inputs.query_rows(asked.vectors, view.dim)
        scores, rows = carry_out.search(view, unit, k, route)
        packed = iter(view.packed(rows.ravel()))
        found = []
        for row_scores in scores.tolist():
            hits = []
            for score in row_scores:
                record_id, text, metadata = unpack_fields(next(packed))
                hits.append(Hit(record_id, score, text, metadata))
            found.append(Hits(hits, route.plan))
        return found[0] if asked.single else found

    def search_arrays(
        self,
        queries: Any,
        k: int = 10,
        *,
        where: Where | None = None,
        exact: bool = False,
        recall: float | None = None,
        params: Mapping[str, Any] | Params | None = None,
    ) -> tuple[NDArray[Any], Float32Array]:
        """Return ids and scores of the k nearest rows as arrays: the fast path.

        Parameters
        ----------
        queries : array_like of shape (q, dim)
            Any length but zero.
        k : int
            At least 1.
        where : mapping or None
            As for `search`.
        exact : bool
            As for `search`.
        recall : float or None
            As for `search`.
        params : mapping, Params or None
            As for `search`.

        Returns
        -------
        ids : ndarray of int64, or of object, shape (q, k')
            int64 if every id is an int; a removed row's str counts until `compact`. k' is
            min(k, matching rows); there is no padding.
        scores : ndarray of float32, shape (q, k')
            Cosines, best first.

        Raises
        ------
        InputError
            As for `search`.
        """
        view = self._view()
        route = self._route(view, k, where, exact, recall, params)
        unit = inputs.query_rows(queries, view.dim)
        scores, rows = carry_out.search(view, unit, k, route)
        ids = np.array(view.ids(rows.ravel()), dtype=np.int64 if view.all_ints else object)
        return ids.reshape(rows.shape), scores

    def explain(
        self,
        k: int = 10,
        *,
        where: Where | None = None,
        exact: bool = False,
        recall: float | None = None,
        params: Mapping[str, Any] | Params | None = None,
    ) -> Plan:
        """Return how such a search would be carried out, without running it.

        Parameters
        ----------
        k : int
            As for `search`, like the others.
        where : mapping or None
            As for `search`.
        exact : bool
            As for `search`.
        recall : float or None
            As for `search`.
        params : mapping, Params or None
            As for `search`.

        Returns
        -------
        Plan
            `str(plan)` is a sentence.
        """
        return self._route(self._view(), k, where, exact, recall, params, dry=True).plan

    def _route(
        self,
        view: View,
        k: int,
        where: Where | None,
        exact: bool,
        recall: float | None,
        params: Mapping[str, Any] | Params | None,
        *,
        dry: bool = False,
    ) -> Route:
        target = view.target if recall is None else inputs.check_share(recall, "recall")
        inputs.check_k(k)
        condition = None if where is None else parse(where)
        known = None if exact else planner.known(view, k, condition, target, params)
        if known is not None:  # another thread may clear them
            return known
        request = Request(k, condition, exact, target, params, dry)
        return planner.choose(view, request, self._on_damage)

    def _state(self) -> State:
        self._check_open()
        if self._follows:
            self._store.follow()
        return self._store.state

    def _view(self) -> View:
        state, view = self._state(), self._current
        if view.state is not state:
            view = self._current = View(state, view)
            if not self._store.writable:  # what a writer has loaded may be for its next state
                view.let_go()
        return view

    def _on_damage(self, what: str) -> None:
        structure = self._store.state.manifest.structure
        self._store.note(f"searching exactly: {what}")
        if structure is not None and self._store.writable:
            self._maintenance.damaged.add(structure.file.name)
            self._maintenance.after_write()

    # -- upkeep ----------------------------------------------------------------------------

    def optimize(
        self,
        spec: str | Spec | None = None,
        target_recall: float | None = None,
        queries: Any = None,
        *,
        budget: OptimizeBudget | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fold all rows into one calibrated structure; searches and adds go on meanwhile.

        Parameters
        ----------
        spec : str or Spec or None
            Another structure; None keeps the one asked for.
        target_recall : float or None
            Another promise; None keeps it.
        queries : list of str, array_like of shape (q, dim), or None
            Real queries to calibrate with, here and in later folds; None takes those given before,
            or rows of the index. Where questions are unlike the texts that they ask for, only
            questions tell what recall they will get.
        budget : OptimizeBudget or None
            What `auto` may spend; it chooses from 10,000 rows on. None tries the structures that
            are built in seconds, and a graph only where those are slow; with a budget graphs are
            tried whenever they fit it.
        progress : callable or None
            Called with a stage's name, what is done and the total.

        Raises
        ------
        SpecError, InputError
            If an argument cannot be used.
        """
        self._check_writable()
        chosen = None if spec is None else parse_spec(spec)
        if target_recall is not None:
            target_recall = inputs.check_share(target_recall, "target_recall")
        if budget is not None:
            if not isinstance(budget, OptimizeBudget):
                raise InputError(f"budget must be an OptimizeBudget, not {budget!r}")
            wanted = chosen or spec_from_dict(self._store.state.manifest.spec)
            if not isinstance(wanted, AutoSpec):
                name = spec_name(wanted)
                raise InputError(f'a budget goes with spec="auto", but the structure is "{name}"')
        asked = self._calibration_queries(queries)
        self._rebase(Goal(chosen, target_recall, asked, budget=budget), progress)

    def compact(self, *, progress: Progress | None = None) -> None:
        """Give back the space of removed rows; their texts are gone from disk afterwards.

        Parameters
        ----------
        progress : callable or None
            Called with a stage's name, what is done and the total.
        """
        self._check_writable()
        self._rebase(Goal(drop_dead=self._store.state.removed > 0), progress)

    def maintain(self, *, progress: Progress | None = None) -> None:
        """Do now what upkeep in the background would do: fold if it pays, or else nothing.

        With `maintenance="manual"` this is the call for the end of a series of writes; `optimize`
        and `compact` work even where there is little to gain.

        Parameters
        ----------
        progress : callable or None
            Called with a stage's name, what is done and the total.
        """
        self._check_writable()
        self._rebase(None, progress)

    def _rebase(self, goal: Goal | None, progress: Progress | None) -> None:
        self._maintenance.interrupt()
        self._maintenance.rebase(goal, progress=progress)
        self._view()  # lets go of the files that this removed

    def _calibration_queries(self, queries: Any) -> Float32Array | None:
        if queries is None:
            return None
        if self.dim is None:
            raise InputError("queries cannot be used before the index has rows")
        asked = inputs.read_query(queries)
        if asked.texts is not None:
            rows = self._embedder.queries(asked.texts)
        else:
            rows = inputs.query_rows(asked.vectors, self.dim)
        if not len(rows):
            raise InputError(
                "queries holds none; give some, or None for those given before, or rows"
            )
        return rows

    def verify(self, *, progress: Progress | None = None) -> VerifyReport:
        """Read every byte of the newest state and return what was found.

        Parameters
        ----------
        progress : callable or None
            Called with `"verify"`, bytes read and bytes in total.

        Returns
        -------
        VerifyReport
            `report.ok` is True if all is as written; otherwise `report.problems` lists all damage.
        """
        self._check_open()
        while True:
            self._store.refresh()
            state = self._store.state
            report = self._verify(state, progress)
            self._store.refresh()
            if report.ok or state.manifest == self._store.state.manifest:
                return report  # otherwise a commit removed files under our eyes

    def _verify(self, state: State, progress: Progress | None) -> VerifyReport:
        total, done, files = size_bytes(state), 0, 0
        problems = []
        for _, size, found in check_state(self._store.directory, state):
            files, done = files + 1, done + size
            problems += found
            if progress is not None:
                progress("verify", done, total)
        return VerifyReport(files, done, state.live, tuple(problems))

    @classmethod
    def repair(
        cls,
        path: str | os.PathLike[str],
        *,
        restore_removed: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> RepairReport:
        """Mend a damaged index as far as can be, and return what was found, saved and lost.

        Caches are made anew. Of the rest every row is kept whose record and vector are whole, and
        every whole operation of the log. Copies of the damaged files are kept in a directory
        beside, named `<path>.damaged-<generation>`; they may hold texts that were removed. It can
        be interrupted at any time and called again.

        Parameters
        ----------
        path : str or path
            The directory. Nobody may have it open for writing; readers may read on.
        restore_removed : bool
            Where it cannot be known any more which rows were removed: False refuses, True has all
            of them back, and rows that were replaced may be as they were before.
        dry_run : bool
            Only look; works also where the index cannot be opened.
        progress : callable or None
            Called with a stage's name, what is done and the total, when a structure is built.

        Returns
        -------
        RepairReport
            `report.problems` is empty if all was well, and `report.lossless` if nothing was lost.

        Raises
        ------
        CorruptIndexError
            If the manifest itself cannot be read, or if it is not known which rows were removed;
            nothing was changed.
        IndexPathError, IndexLockedError, FormatVersionError
            If `path` is no index, is being written, or is of a newer format.
        StorageFullError, StorageFailedError
            If there is no room for what is saved; the index is as it was.
        """
        directory = Directory(opening.absolute(path))
        report, unstructured = repairs.repair(
            directory, restore_removed=restore_removed, dry_run=dry_run
        )
        if unstructured:
            with cls.open(path, "r+", maintenance="manual") as index:
                index.optimize(progress=progress)
        return report

    def refresh(self) -> bool:
        """Step to the writer's newest state; return whether it is another one.

        Returns
        -------
        bool
            False for a writer, which is always at its newest state.

        Raises
        ------
        IndexPathError
            If there is no index at the path any more; what is open stays usable.
        """
        self._check_open()
        stepped = self._store.refresh()
        self._catch_up()
        return stepped

    def snapshot(self, dest: str | os.PathLike[str]) -> Path:
        """Make a whole copy of the newest state in a directory of its own, as a backup.

        Writers and readers go on meanwhile, and nothing that is done to either index later is
        seen in the other. It can be called on an index that is open for reading, too.

        Parameters
        ----------
        dest : str or path
            The new directory: nothing may be there, or an empty directory. It appears at once
            when every byte is on stable storage. Parents are made, too.

        Returns
        -------
        Path
            The new directory, an index like any other.

        Raises
        ------
        IndexPathError
            If something is at `dest`, or it is in the index itself.
        CorruptIndexError
            If what has to be copied is damaged.
        StorageFullError, StorageFailedError
            If it cannot be written. There is nothing at `dest` then, or all of it, if only whether
            it would survive a power failure is in doubt.

        Notes
        -----
        On the same file system files are hard-linked, which takes milliseconds and no space; only
        the log is copied. The two then share bytes: damage to them is damage to both, and space
        comes back when both have let go. On another file system all is copied and compared with
        its checksums. A process that is killed may leave `<dest>.partial-*` behind: delete it.
        """
        self._check_open()
        path = opening.absolute(dest)
        self._store.snapshot(path)
        return path

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedIndexError(f"{self.path} was closed; open it again")

    def _check_writable(self) -> None:
        self._check_open()
        self._store.refuse_fork()
        if not self._store.writable:
            raise ReadOnlyError(f'{self.path} is open for reading; open it with mode="r+" to write')
