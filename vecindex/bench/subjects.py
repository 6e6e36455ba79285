"""Measure one index over its settings: recall against the truth, times, cost, on one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.bench.copies import Cost
from vecindex.bench.metrics import latency_summary, recall_summary, recalls, throughput_summary
from vecindex.bench.queries import Queries
from vecindex.bench.report import BenchRow
from vecindex.bench.trials import (
    EXACT,
    Answers,
    Fetch,
    Setting,
    ask,
    recompute,
    time_trials,
)

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

Truth = Mapping[int, Float32Array]
"""For each k the k-th best exact cosine of every query, shape (q,)."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An index to measure.

    Parameters
    ----------
    label : str
        How reports call it.
    index : VectorIndex
        Never changed.
    queries : Queries
        What to ask.
    fetch : callable
        Gives the vectors of ids, to compute scores anew.
    cost : Cost
        What it takes to have it.
    """

    label: str
    index: VectorIndex
    queries: Queries
    fetch: Fetch
    cost: Cost


def own_truth(subject: Subject, ks: Sequence[int]) -> Truth:
    """Return the truth by the index's own exact search, its scores computed anew.

    Parameters
    ----------
    subject : Subject
        The index.
    ks : sequence of int
        Neighbours.

    Returns
    -------
    mapping of int to ndarray of float32, shape (q,)
        For each k.
    """
    exact = ask(subject.index, subject.queries, max(ks), EXACT)
    (scores,) = recompute(subject.fetch, subject.queries.vectors, [exact])
    ordered = np.sort(scores, axis=1)[:, ::-1]
    return {k: ordered[:, k - 1] for k in ks}


def measure(
    subject: Subject,
    trials: Sequence[tuple[int, Setting]],
    truth: Truth,
    repeats: int,
    after_each: Callable[[int, int], object],
) -> list[BenchRow]:
    """Return a row for each setting at each k.

    Parameters
    ----------
    subject : Subject
        The index.
    trials : sequence of (int, Setting)
        k, and how to ask.
    truth : mapping of int to ndarray of float32, shape (q,)
        For each k.
    repeats : int
        Rounds of timing.
    after_each : callable
        Called with timings done and timings in total.

    Returns
    -------
    list of BenchRow
        In the order of the trials. Exact search has no build of its own, so its rows say none.
    """
    answers = [ask(subject.index, subject.queries, k, setting) for k, setting in trials]
    scores = recompute(subject.fetch, subject.queries.vectors, answers)
    asked = subject.queries.vectors
    times = time_trials(subject.index, asked, trials, repeats, after_each)
    rows = []
    for number, (k, setting) in enumerate(trials):
        numbers: dict[str, Any] = {
            **recall_summary(recalls(answers[number].ids, scores[number], truth[k], k)),
            **latency_summary(times[number].alone_ms),
            **throughput_summary(times[number].batch_s, len(asked)),
            **asdict(Cost() if setting is EXACT else subject.cost),
            "score_error": score_error(answers[number], scores[number]),
        }
        plan = str(subject.index.explain(k, **setting.options))
        rows.append(BenchRow(subject.label, setting.name, k, plan, **numbers))
    return rows


def score_error(answers: Answers, scores: Float32Array) -> float:
    """Return the largest difference of a returned score from the one computed anew."""
    present = np.isfinite(scores)
    return float(np.abs(scores[present] - answers.scores[present]).max(initial=0.0))
