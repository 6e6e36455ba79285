"""Measure an index with its alternatives, or vectors in several structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vecindex.ann import CORES
from vecindex.arrays import Float32Array
from vecindex.bench.conditions import measure_conditions
from vecindex.bench.copies import Copy, Recipe, built, cost_of, random_ranks
from vecindex.bench.data import Dataset, held_out, row_hash
from vecindex.bench.machine import command_text, machine_facts, version_facts
from vecindex.bench.queries import Contents, Queries, read_contents
from vecindex.bench.report import INDEX, BenchReport, BenchRow, ConditionRow
from vecindex.bench.subjects import Subject, measure, own_truth
from vecindex.bench.trials import EXACT, LATENCY_QUERIES, settings, stored_vectors
from vecindex.bench.workload import STRUCTURES, Progress, Workload
from vecindex.results import IndexInfo
from vecindex.spec import spec_from_dict

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

_FLATTERED = "rows of a graph find their neighbours by their own links; other queries find fewer"
_HELD_OUT = "the same rows are held out of the temporary indexes, and are still in this index"


def bench(
    index: VectorIndex,
    workload: Workload | None = None,
    *,
    queries: ArrayLike | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure an index as it is, and on request other structures with its vectors.

    Parameters
    ----------
    index : VectorIndex
        Open in either mode; never changed.
    workload : Workload or None
        How to measure. Its structures and conditions are measured on temporary copies, for which
        all vectors are held in memory.
    queries : array_like of shape (q, dim), or None
        Vectors like those that will be asked. None draws rows of the index; then the drawn
        row itself counts neither as truth nor as an answer.
    progress : callable or None
        Called as `progress(stage, done, total)`.

    Returns
    -------
    BenchReport
        For each k: exact search, the calibrated default, and the points of the calibration.

    Raises
    ------
    InputError
        If the index has too few rows, or an argument is out of range.

    Notes
    -----
    The truth is the index's own exact search; every score of every answer is recomputed here from
    the stored vectors, and recall is counted on those. Drawn rows flatter a graph, where their
    own links lead straight to their neighbours: of 20,000 sentences, 500 found 0.983 as rows
    (`ef_search=16`, k=10), and 0.914 when they were left out. Give queries of your own for a
    graph. Temporary indexes are not flattered: they are built without the drawn rows.

    Times are of `search_arrays`: ids and scores, without fetching texts. Up to `LATENCY_QUERIES`
    queries are asked one by one in each repeat, and all of them in one call. FAISS uses one thread
    for a single query and all cores for a batch.

    Examples
    --------
    >>> bench(index, Workload(k=(10,))).default()["this index"].recall  # doctest: +SKIP
    """
    work = workload or Workload()
    sample = held_out(len(index), work.sample) if work.copies else work.sample
    contents = read_contents(index, queries, sample, work.seed, keep_rows=work.copies)
    asked, info = contents.queries, index.info()
    subject = Subject(INDEX, index, asked, stored_vectors(index), cost_of(info))
    ks = _cut(work.k, len(index) - (asked.own is not None))
    trials = [(k, one) for k in ks for one in (EXACT, *settings(info))]
    found = Found()
    found.rows += measure(
        subject, trials, own_truth(subject, ks), work.repeats, _told(INDEX, progress)
    )
    if contents.rows is not None:
        data = _without_queries(contents, info)
        recipes = [Recipe(name, name, info.target_recall) for name in work.structures]
        if work.conditions:
            own = Recipe(INDEX, spec_from_dict(info.spec), info.target_recall)
            _measure_copy(own, data, work, found, progress)
        for recipe in recipes:
            _measure_copy(recipe, data, work, found, progress)
    facts = {
        "index": Path(info.path).name,
        "data": Path(info.path).name,
        "sha256": contents.sha256,
        "rows": info.rows,
        "dim": info.dim,
        "spec": info.spec,
        "structure": info.structure,
        "indexed": info.indexed,
        "tail": info.tail,
        "target_recall": info.target_recall,
        "params": info.params,
        "size_bytes": info.size_bytes,
        **_shared_facts(asked.vectors, asked.source, work),
        "notes": _notes(asked, info, work),
    }
    return found.report(facts)


def bench_vectors(
    data: Dataset,
    workload: Workload | None = None,
    *,
    target_recall: float = 0.95,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure structures on vectors: each is built in a temporary index and asked.

    Parameters
    ----------
    data : Dataset
        Rows and queries, see `from_arrays` and `read_hdf5`.
    workload : Workload or None
        How to measure; without structures, those of `STRUCTURES`.
    target_recall : float
        The promise with which the indexes are built.
    progress : callable or None
        Called as `progress(stage, done, total)`.

    Returns
    -------
    BenchReport
        Exact search first; then for each structure and k the calibrated default and the points of
        the calibration.

    Notes
    -----
    The truth is computed here, or is the data set's own where that is right. The temporary
    indexes are removed one after the other, also after an error or Ctrl-C.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((300, 8))
    >>> report = bench_vectors(from_arrays(rows), Workload(structures=("flat",), repeats=1))
    >>> report.default()["flat"].recall
    1.0
    """
    work = workload or Workload()
    work = replace(work, structures=tuple(dict.fromkeys(work.structures or STRUCTURES)))
    found = Found()
    for name in work.structures:
        _measure_copy(Recipe(name, name, target_recall), data, work, found, progress)
    facts = {
        "index": None,
        "data": data.name,
        "sha256": data.sha256,
        "rows": len(data.rows),
        "dim": data.rows.shape[1],
        "target_recall": target_recall,
        **_shared_facts(data.queries, data.source, work),
        "notes": list(data.notes),
    }
    return found.report(facts)


@dataclass(eq=False)
class Found:
    """What was measured so far.

    Parameters
    ----------
    rows : list of BenchRow
        Settings.
    conditions : list of ConditionRow
        Conditions.
    """

    rows: list[BenchRow] = field(default_factory=list)
    conditions: list[ConditionRow] = field(default_factory=list)

    def report(self, facts: dict[str, Any]) -> BenchReport:
        """Return all of it with the facts."""
        return BenchReport(facts, tuple(self.rows), tuple(self.conditions))


def _measure_copy(
    recipe: Recipe, data: Dataset, work: Workload, found: Found, progress: Progress | None
) -> None:
    """Build a structure; measure its settings, unless it stands for the index, and conditions."""
    ranks = random_ranks(len(data.rows), work.seed) if work.filters else None
    with built(recipe, data.rows, ranks, progress=progress) as copy:
        if recipe.label != INDEX:
            found.rows += _settings_of(recipe.label, copy, data, work, found, progress)
        if work.conditions:
            told = _told(f"{recipe.label}: conditions", progress)
            found.conditions += measure_conditions(recipe, copy, data, ranks, work, told)


def _settings_of(
    label: str,
    copy: Copy,
    data: Dataset,
    work: Workload,
    found: Found,
    progress: Progress | None,
) -> list[BenchRow]:
    ks = _cut(work.k, len(data.rows))
    best = data.truth(max(ks))
    truth = {k: best[:, k - 1] for k in ks}
    queries = Queries(data.queries, None, data.source)
    subject = Subject(label, copy.index, queries, data.rows.__getitem__, copy.cost)
    rows = []
    if not found.rows:  # exact search is the same in every copy
        exact = replace(subject, label="exact")
        trials = [(k, EXACT) for k in ks]
        rows += measure(exact, trials, truth, work.repeats, _told("exact", progress))
    trials = [(k, setting) for k in ks for setting in settings(copy.index.info())]
    return rows + measure(subject, trials, truth, work.repeats, _told(label, progress))


def _without_queries(contents: Contents, info: IndexInfo) -> Dataset:
    """Return the rows of an index, those that are asked held out."""
    assert contents.rows is not None
    rows = np.delete(contents.rows, contents.drawn, axis=0)
    asked = contents.queries
    return Dataset(Path(info.path).name, rows, asked.vectors, asked.source)


def _cut(ks: Sequence[int], available: int) -> list[int]:
    return sorted({min(k, available) for k in ks})


def _told(label: str, progress: Progress | None) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(label, done, total)

    return tell


def _shared_facts(queries: Float32Array, source: str, work: Workload) -> dict[str, Any]:
    return {
        "structures": list(work.structures),
        "queries": len(queries),
        "queries_sha256": row_hash(queries),
        "latency_queries": min(len(queries), LATENCY_QUERIES),
        "query_source": source,
        "sample": work.sample,
        "seed": work.seed,
        "repeats": work.repeats,
        "threads": {"single": 1, "batch": CORES},
        "machine": machine_facts(),
        "versions": version_facts(),
        "command": command_text(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _notes(asked: Queries, info: IndexInfo, work: Workload) -> list[str]:
    notes = []
    if asked.own is not None:
        if (info.structure or "").startswith("hnsw"):
            notes.append(_FLATTERED)
        if work.copies:
            notes.append(_HELD_OUT)
    return notes
