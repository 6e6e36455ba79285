"""`build`: from sources to an index, again and again."""

from __future__ import annotations

import os
import time
from typing import Any

from vecindex.build.changes import Changes, changes_of, describe, put
from vecindex.build.job import Job
from vecindex.build.known import KnownIds
from vecindex.build.options import BuildOptions, Progress
from vecindex.build.passages import PARENT, split, surplus
from vecindex.build.report import BuildReport
from vecindex.build.target import Target
from vecindex.errors import InputError
from vecindex.index import VectorIndex
from vecindex.index.inputs import check_share
from vecindex.io import Batch, Columns
from vecindex.results import Id, Record
from vecindex.spec import Spec, parse_spec, spec_to_dict

_REMOVED_AT_ONCE = 1000


def build(
    sources: Any,
    out: str | os.PathLike[str],
    columns: Columns | None = None,
    *,
    embedder: Any = None,
    spec: str | Spec | None = None,
    target_recall: float | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Make an index hold what sources hold, and return what that took.

    A new index is made in `out` + `.partial`, which becomes `out` when it is whole. Stopped
    anywhere, even by a kill or a power failure, the same call goes on where it was, and ends
    with the same index. An index that is there already is updated: records that it holds are
    left alone, new ones are added, changed ones replaced; only new and changed texts are
    embedded.

    Parameters
    ----------
    sources : str, path, list of them, or whatever `vecindex.io.read_batches` reads
        Read twice: before anything is changed everything is checked.
    out : str or path
        The index.
    columns : Columns or None
        Which columns hold what; None finds texts, ids and vectors by their plain names. Without a
        column of ids, ids are the records' positions, counted from 0 over all sources.
    embedder : str, callable, Embedder or None
        As for `VectorIndex.create`; None takes that of the index that is updated.
    spec : str, Spec or None
        The structure; None keeps what the index has, `"auto"` for a new one.
    target_recall : float or None
        The promise for recall@10; None keeps what the index has, 0.95 for a new one.
    options : BuildOptions or None
        Passages, pruning, the cache and the like.
    progress : callable or None
        Called with a stage's name, what is done and the total: `"check"` and `"rows"` for the two
        readings, `"cached"` with the texts found in the cache and those looked for.

    Returns
    -------
    BuildReport
        What was done.

    Raises
    ------
    InputError
        If the sources hold no record, or one that cannot be read, or `options` differ from those
        the index was built with; the message names file and line.
    DuplicateIdError
        If an id occurs twice in the sources: the message names the first two places.
    EmbedderError
        If the embedder fails; notes name the record.
    EmbedderMismatchError
        If the index holds another embedder's embeddings.
    IndexPathError, IndexLockedError, StorageFullError
        If the index cannot be written.

    Notes
    -----
    Needs memory for a batch, the log's last 32 MB, 24 bytes for each record, and what `optimize`
    needs for the structure; vectors and texts stay on disk.

    Examples
    --------
    >>> build("faq.jsonl", "faq.vx", embedder="all-MiniLM-L6-v2")  # doctest: +SKIP
    BuildReport(path='faq.vx', rows=13, added=13, ...)
    """
    started = time.perf_counter()
    options = options or BuildOptions()
    wanted = parse_spec(spec or "auto")
    promise = 0.95 if target_recall is None else check_share(target_recall, "target_recall")
    job = Job.of(sources, out, columns, embedder, options)
    told = progress or (lambda _stage, _done, _total: None)
    census = job.reader.census(lambda _: None, lambda n: told("check", n, None))
    if options.prune and census.skipped:
        raise InputError(
            f"{census.skipped} records cannot be read, so it is not known which are gone: mend "
            "them, or build without prune. Nothing was changed"
        )
    try:
        with job.target.opened(
            job.embedder, job.settled, spec=wanted, target_recall=promise
        ) as index:
            filler = _Filler(index, job, told, census.records)
            filler.fill()
            if options.prune:
                filler.prune(census.ids)
            _fold(index, job.target, spec, target_recall, progress)
            rows = len(index)
    finally:
        job.close()
    job.target.finish()
    meter, cache = job.meter, job.cache
    return BuildReport(
        path=str(job.target.out),
        rows=rows,
        added=filler.added,
        changed=filler.changed,
        unchanged=filler.unchanged,
        removed=filler.removed,
        skipped=census.skipped,
        embedded=meter.texts if meter else 0,
        truncated=getattr(cache or meter, "truncated", 0),
        cache_hits=cache.hits if cache else None,
        cache_misses=cache.misses if cache else None,
        seconds=time.perf_counter() - started,
        model_seconds=meter.seconds if meter else 0.0,
    )


class _Filler:
    """Puts the records of a job into an open index, and counts what that changes."""

    def __init__(self, index: VectorIndex, job: Job, progress: Progress, records: int) -> None:
        self._index, self._job = index, job
        self._progress, self._records = progress, records
        self._empty = not len(index)  # then no id can be known: all ids of a job differ
        self.added = self.changed = self.unchanged = self.removed = 0

    def fill(self) -> None:
        """Put in all records."""
        done = 0
        for records in self._job.reader.batches():
            self._fill(split(records, self._job.meter, self._job.options), done)
            done += len(records)
            self._tell(done)

    def prune(self, ids: KnownIds) -> None:
        """Remove the rows of records that are not among those with these ids."""
        listed: list[Id] = []
        parents: list[Id] = []
        for record in self._index.scan():
            listed.append(record.id)
            parents.append(self._parent(record))
            if len(listed) == _REMOVED_AT_ONCE:
                self._remove([listed[row] for row in ids.missing(parents)])
                listed, parents = [], []
        self._remove([listed[row] for row in ids.missing(parents)])

    def _parent(self, record: Record) -> Id:
        if self._job.options.chunk is None or not record.metadata:
            return record.id
        parent: Id = record.metadata.get(PARENT, record.id)
        return parent

    def _fill(self, batch: Batch, done: int) -> None:
        index = self._index
        if self._empty:
            changes = Changes(list(range(len(batch))), [], len(batch))
        else:
            changes = changes_of(index, batch)
        with self._job.located(batch, changes.put):
            put(index, batch, changes.put, new=self._empty, progress=self._after(done))
        with self._job.located(batch, changes.described):
            describe(index, batch, changes.described)
        if self._job.options.chunk is not None and not self._empty:
            self._remove(surplus(index, batch.ids or []))
        changed = len(changes.put) - changes.added + len(changes.described)
        self.added += changes.added
        self.changed += changed
        self.unchanged += len(batch) - changes.added - changed

    def _remove(self, ids: list[Id]) -> None:
        if ids:
            self.removed += self._index.remove(ids)

    def _after(self, done: int) -> Progress | None:
        """Return a callback for the texts of one call; passages are not counted as records."""
        if self._job.options.chunk is not None:
            return None
        return lambda _stage, more, _total: self._tell(done + more)

    def _tell(self, done: int) -> None:
        self._progress("rows", done, self._records)
        if (cache := self._job.cache) is not None:
            self._progress("cached", cache.hits, cache.hits + cache.misses)


def _fold(
    index: VectorIndex,
    target: Target,
    spec: str | Spec | None,
    target_recall: float | None,
    progress: Progress | None,
) -> None:
    """Fold what is new into the structure, if that pays or another one is asked for."""
    info = index.info()
    asked = spec is not None and spec_to_dict(parse_spec(spec)) != info.spec
    promised = target_recall is not None and target_recall != info.target_recall
    if asked or promised or not target.updates:
        index.optimize(spec, target_recall, progress=progress)
    else:
        index.maintain(progress=progress)  # folding all for a few rows would be dear
