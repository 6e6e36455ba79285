"""What a build would take, from one reading and a sample; nothing is built, no file is left."""

from __future__ import annotations

import os
import random
import time
from dataclasses import asdict, dataclass
from typing import Any

from vecindex.build.changes import changes_of
from vecindex.build.job import Job
from vecindex.build.options import BuildOptions, Progress
from vecindex.build.passages import split
from vecindex.build.reader import take
from vecindex.errors import EmbedderError
from vecindex.index import VectorIndex
from vecindex.index.rebase import AUTO_ROWS
from vecindex.io import Batch, Columns
from vecindex.spec import AutoSpec, FlatSpec, HnswSpec, Spec, parse_spec, spec_from_dict
from vecindex.store.codec import RecordPacker

_SAMPLE = 256  # records whose texts are embedded: some seconds with a local model
_ROW_S = 60e-6  # storing and folding a row of few dimensions, and as much again for 384; measured
_ROW_BYTES = 40  # of a row besides vector and record: tables of ids, blocks, checksums
_KNOWN_BYTES = 24  # of an id in memory while twins are looked for
_FIXED_BYTES = 220_000_000  # interpreter, libraries, batches and the log's last 32 MB; measured
_TRAINED = 60_000  # vectors in memory while codes are learnt
# Of one dimension.
_CODE_BYTES = {"float32": 4.0, "bf16": 2.0, "sq8": 1.0, "sq4": 0.5, "pq4": 0.125}


@dataclass(frozen=True)
class BuildPlan:
    """What a build would do and take.

    Parameters
    ----------
    path : str
        The index.
    records : int
        Records in the sources that can be read: counted.
    skipped : int
        Those that cannot (with `skip_bad`): counted.
    added : int
        Rows that would be new: counted, or for passages of a new index estimated.
    changed : int
        Rows that would change: counted.
    unchanged : int
        Rows that would stay: counted.
    to_embed : int
        Texts that would go through the model, if a cache has none of them.
    sample : int
        Records in the sample that the estimates are made from.
    seconds : float
        Estimated time for everything. A graph takes longer, and so does `auto` where vectors are
        so scattered that it has to try many structures.
    model_seconds : float
        Estimated time in the model, its loading included.
    disk_bytes : int
        Estimated size of the index; while it is folded twice as much may be needed.
    memory_bytes : int
        Estimated memory of the process besides the model.
    """

    path: str
    records: int
    skipped: int
    added: int
    changed: int
    unchanged: int
    to_embed: int
    sample: int
    seconds: float
    model_seconds: float
    disk_bytes: int
    memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, as JSON holds them."""
        return asdict(self)


def plan_build(
    sources: Any,
    out: str | os.PathLike[str],
    columns: Columns | None = None,
    *,
    embedder: Any = None,
    spec: str | Spec | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> BuildPlan:
    """Return what `build` would do and take, without building anything.

    Parameters
    ----------
    sources : str, path, list of them, or whatever `vecindex.io.read_batches` reads
        As for `build`; read once, and checked as there.
    out : str or path
        As for `build`; an index that is there is only read.
    columns : Columns or None
        As for `build`.
    embedder : str, callable, Embedder or None
        As for `build`; embeds the texts of a sample of 256 records.
    spec : str, Spec or None
        As for `build`.
    options : BuildOptions or None
        As for `build`; a cache is not looked at.
    progress : callable or None
        Called with `"check"` and the number of records so far.

    Returns
    -------
    BuildPlan
        Counts are exact but where it says otherwise; bytes should be right within a factor of 2.

    Raises
    ------
    VecindexError
        As `build` does before it changes anything.
    """
    job = Job.of(sources, out, columns, embedder, options or BuildOptions())
    tell = progress or (lambda _stage, _done, _total: None)
    started = time.perf_counter()
    with job.target.read(job.embedder, job.settled) as index:
        tally = _Tally(job, index)
        census = job.reader.census(tally.add, lambda n: tell("check", n, None))
        read_s = time.perf_counter() - started
        wanted = parse_spec(spec or "auto")
        if index is not None and spec is None:
            wanted = spec_from_dict(index.info().spec)
        before = 0 if index is None else len(index)
    tally.measure()
    gone = before - tally.unchanged - tally.changed if job.options.prune else 0
    rows, dim = before - gone + tally.added, tally.dim
    structure = _structure_bytes(wanted, rows, dim)
    moved = tally.added + tally.changed
    return BuildPlan(
        path=str(job.target.out),
        records=census.records,
        skipped=census.skipped,
        added=tally.added,
        changed=tally.changed,
        unchanged=tally.unchanged,
        to_embed=tally.to_embed,
        sample=len(tally.sample),
        seconds=2 * read_s + moved * _ROW_S * (1 + dim / 384) + tally.model_seconds,
        model_seconds=tally.model_seconds,
        disk_bytes=int(rows * (tally.record_bytes + _ROW_BYTES + 4 * dim)) + structure,
        memory_bytes=_FIXED_BYTES + census.records * _KNOWN_BYTES + structure + _TRAINED * 4 * dim,
    )


class _Tally:
    """Counts what batches would change, and keeps a fair sample of their records."""

    def __init__(self, job: Job, index: VectorIndex | None) -> None:
        self._job, self._index = job, index
        self._random = random.Random(0)
        self._seen = 0
        self.sample: list[Batch] = []
        self.added = self.changed = self.unchanged = self.to_embed = 0
        self.dim = 0 if index is None else index.dim or 0
        self.record_bytes = self.model_seconds = 0.0

    def add(self, records: Batch) -> None:
        """Count the records of a batch."""
        self._keep(records)
        if records.vectors is not None:
            self.dim = records.vectors.shape[1]
        put = len(records)
        if self._index is None:
            self.added += put
        else:
            batch = split(records, self._job.meter, self._job.options)
            changes = changes_of(self._index, batch)
            put, described = len(changes.put), len(changes.described)
            self.added += changes.added
            self.changed += put - changes.added + described
            self.unchanged += len(batch) - put - described
        self.to_embed += put if records.vectors is None else 0

    def measure(self) -> None:
        """Embed the sample's texts, if any would be, and reckon what holds for all rows."""
        pack = RecordPacker().pack_all
        batches = [split(one, self._job.meter, self._job.options) for one in self.sample]
        packed = [pack(one.ids or [], one.texts, one.metadata) for one in batches]
        described = [pack(one.ids or [], None, one.metadata) for one in batches if one.metadata]
        passages = sum(map(len, batches))
        # Metadata is stored twice: in the records, and as columns for filters.
        self.record_bytes = sum(len(b) for some in packed + described for b in some) / passages
        if self._index is None:
            self.added = round(self.added * passages / len(self.sample))
            self.to_embed = round(self.to_embed * passages / len(self.sample))
        if self.to_embed:
            self._embed([text or "" for one in batches for text in one.texts or []])

    def _embed(self, texts: list[str]) -> None:
        meter = self._job.meter
        if meter is None:
            raise EmbedderError("the texts' embedder cannot be restored by its name: give it")
        self.dim = meter.dim
        loaded = meter.seconds
        meter.embed_documents(texts)
        share = self.to_embed / len(texts)
        self.model_seconds = loaded + (meter.seconds - loaded) * share

    def _keep(self, records: Batch) -> None:
        """Let each record so far be in the sample with the same chance."""
        for row in range(len(records)):
            self._seen += 1
            if len(self.sample) < _SAMPLE:
                self.sample.append(take(records, [row]))
            elif (place := self._random.randrange(self._seen)) < _SAMPLE:
                self.sample[place] = take(records, [row])


def _structure_bytes(spec: Spec, rows: int, dim: int) -> int:
    """Return what a structure takes, on disk and in memory."""
    if isinstance(spec, AutoSpec):  # it mostly ends with a scan of codes
        spec = FlatSpec(codes="pq4") if rows >= AUTO_ROWS else FlatSpec()
    if spec == FlatSpec():
        return 0
    links = 2 * spec.m * 4 if isinstance(spec, HnswSpec) else 8
    # A graph with float32 codes walks over the stored vectors themselves.
    codes = (
        0.0
        if isinstance(spec, HnswSpec) and spec.codes == "float32"
        else dim * _CODE_BYTES[spec.codes]
    )
    return int(rows * (codes + links))
