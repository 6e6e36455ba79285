"""Measure one index: recall, latency and throughput over the settings of its structure."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vecindex.ann import CORES
from vecindex.arrays import Float32Array
from vecindex.bench.metrics import latency_summary, recall_at_k, throughput_summary
from vecindex.bench.queries import Queries, given_queries, sampled_queries
from vecindex.bench.report import BenchReport, BenchRow, machine_facts, version_facts
from vecindex.bench.trials import (
    EXACT,
    Answers,
    Setting,
    ask,
    recompute,
    settings,
    time_alone,
    time_batches,
)
from vecindex.errors import InputError

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

Progress = Callable[[str, int, int | None], None]

LATENCY_QUERIES = 100
"""At most so many of the queries are timed one by one, in every repeat."""

_FLATTERED = "rows of a graph find their neighbours by their own links; other queries find fewer"


def bench(
    index: VectorIndex,
    *,
    k: Sequence[int] = (1, 10, 100),
    queries: ArrayLike | None = None,
    sample: int = 500,
    seed: int = 0,
    repeats: int = 5,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure an index as it is: how much it finds, and how fast.

    Parameters
    ----------
    index : VectorIndex
        Open in either mode; never changed.
    k : sequence of int
        Neighbours asked for; values beyond the number of rows are cut to it.
    queries : array_like of shape (q, dim), or None
        Vectors like those that will be asked. None samples rows of the index; then the sampled
        row itself counts neither as truth nor as an answer.
    sample : int
        Rows to sample when no queries are given.
    seed : int
        Of the sample.
    repeats : int
        Rounds of timing.
    progress : callable or None
        Called as `progress(stage, done, total)` after each setting.

    Returns
    -------
    BenchReport
        For each k: exact search, the calibrated default, and a grid of the structure's parameters.

    Raises
    ------
    InputError
        If the index has too few rows, or an argument is out of range.

    Notes
    -----
    The truth is the index's own exact search; every score of every answer is recomputed here from
    the stored vectors, and recall is counted on those. Sampled rows flatter a graph, where their
    own links lead straight to their neighbours: of 20,000 sentences, 500 found 0.983 as rows
    (`ef_search=16`, k=10), and 0.914 when they were left out. Give queries of your own for a graph.

    Times are of `search_arrays`: ids and scores, without fetching texts. Up to `LATENCY_QUERIES`
    queries are asked one by one in each repeat, and all of them in one call. FAISS uses one thread
    for a single query and all cores for a batch.

    Examples
    --------
    >>> print(bench(index, k=[10]).to_markdown())  # doctest: +SKIP
    """
    if repeats < 1 or not k or min(k) < 1:
        raise InputError(f"k and repeats must be at least 1, not k={list(k)}, repeats={repeats}")
    asked = (
        sampled_queries(index, sample, seed) if queries is None else given_queries(index, queries)
    )
    available = len(index) - (asked.own is not None)
    if available < 1:
        raise InputError("the index is empty: there is nothing to measure")
    trials = [
        (n, one) for n in sorted({min(n, available) for n in k}) for one in settings(index.info())
    ]
    answers = [ask(index, asked, n, setting) for n, setting in trials]
    scores = recompute(index, asked, answers)
    exact = {n: one for (n, setting), one in zip(trials, scores, strict=True) if setting is EXACT}
    rows = []
    for i, (n, setting) in enumerate(trials):
        found = _found(answers[i], scores[i], exact[n])
        rows.append(BenchRow(setting.name, n, **found, **_timed(index, asked, n, setting, repeats)))
        if progress is not None:
            progress("bench", i + 1, len(trials))
    facts = _facts(index, asked, seed=seed, repeats=repeats)
    return BenchReport(facts, tuple(rows))


def _found(answers: Answers, scores: Float32Array, exact: Float32Array) -> dict[str, Any]:
    return {
        "recall": recall_at_k(answers.ids, scores, exact[:, -1]),
        "score_error": float(np.nanmax(np.abs(scores - answers.scores), initial=0.0)),
    }


def _timed(
    index: VectorIndex, queries: Queries, k: int, setting: Setting, repeats: int
) -> dict[str, Any]:
    alone = time_alone(index, queries.vectors[:LATENCY_QUERIES], k, setting, repeats)
    batches = time_batches(index, queries.vectors, k, setting, repeats)
    return {
        "plan": str(index.explain(k, **setting.options)),
        **latency_summary(alone),
        **throughput_summary(batches, len(queries.vectors)),
    }


def _facts(index: VectorIndex, queries: Queries, **settings: int) -> dict[str, Any]:
    info = index.info()
    return {
        "index": info.path,
        "rows": info.rows,
        "dim": info.dim,
        "spec": info.spec,
        "structure": info.structure,
        "indexed": info.indexed,
        "tail": info.tail,
        "target_recall": info.target_recall,
        "params": info.params,
        "size_bytes": info.size_bytes,
        "queries": len(queries.vectors),
        "latency_queries": min(len(queries.vectors), LATENCY_QUERIES),
        "query_source": queries.source,
        **settings,
        "threads": {"single": 1, "batch": CORES},
        "machine": machine_facts(),
        "versions": version_facts(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "note": _FLATTERED if queries.own is not None and info.structure == "hnsw" else None,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
