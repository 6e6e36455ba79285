"""What filters, removed rows and new rows cost: recall, rows returned, and time against without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vecindex.arrays import BoolArray, Float32Array, Int64Array
from vecindex.bench.copies import RANK, Copy, Recipe, add_rows, built, twin
from vecindex.bench.data import Dataset
from vecindex.bench.metrics import Float64Array, recall_summary, recalls
from vecindex.bench.report import ConditionRow
from vecindex.bench.trials import DEFAULT, Answers, Setting, recompute, seconds, spread_out
from vecindex.bench.workload import Workload, percent

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

K = 10
"""Neighbours asked for under a condition."""

NEAR_QUERIES = 50
"""At most so many queries ask at the place where all near rows were removed."""

_WARM_UP = 3  # queries asked of each side before the clock runs

AfterEach = Callable[[int, int], object]


@dataclass(frozen=True, eq=False)
class Situation:
    """An index under a condition, beside the same index without it.

    Parameters
    ----------
    label : str
        The structure.
    name : str
        The condition.
    index : VectorIndex
        What is asked.
    plain : VectorIndex
        What the times are compared with.
    allowed : ndarray of bool, shape (n,)
        The rows that may be returned; their numbers are the ids.
    queries : ndarray of float32, shape (q, dim)
        What to ask.
    where : dict or None
        The filter.
    """

    label: str
    name: str
    index: VectorIndex
    plain: VectorIndex
    allowed: BoolArray
    queries: Float32Array
    where: dict[str, Any] | None = None


def measure_conditions(
    recipe: Recipe,
    copy: Copy,
    data: Dataset,
    ranks: Int64Array | None,
    workload: Workload,
    after_each: AfterEach,
) -> list[ConditionRow]:
    """Return a row for each filter, each share of removed rows (twice) and each share of new rows.

    Parameters
    ----------
    recipe : Recipe
        How the copy was built; new rows need another one.
    copy : Copy
        Of all rows; not changed.
    data : Dataset
        Its rows, and the queries.
    ranks : ndarray of int64, shape (n,), or None
        The copy's metadata, which filters need.
    workload : Workload
        The conditions.
    after_each : callable
        Called with conditions done and conditions in total.

    Returns
    -------
    list of ConditionRow
        In the order in which the workload names them.
    """
    jobs: list[Callable[[], ConditionRow]] = []
    if ranks is not None:
        jobs += [
            partial(_filtered, recipe.label, copy, data, ranks, share, workload.repeats)
            for share in workload.filters
        ]
    for share in workload.deleted:
        jobs += [
            partial(_removed, recipe.label, copy, data, removal, workload.repeats)
            for removal in _removals(data, share, workload.seed)
        ]
    jobs += [
        partial(_grown, recipe, copy, data, share, workload.repeats) for share in workload.tail
    ]
    found = []
    for job in jobs:
        found.append(job())
        after_each(len(found), len(jobs))
    return found


def _filtered(
    label: str, copy: Copy, data: Dataset, ranks: Int64Array, share: float, repeats: int
) -> ConditionRow:
    matches = max(1, round(share * len(data.rows)))
    situation = Situation(
        label,
        f"filter {percent(share)}",
        copy.index,
        copy.index,
        ranks < matches,
        data.queries,
        {RANK: {"$lt": matches}},
    )
    return measure_situation(situation, data.rows, repeats)


def _removed(label: str, copy: Copy, data: Dataset, removal: Removal, repeats: int) -> ConditionRow:
    with twin(copy.index) as index:
        index.remove(np.flatnonzero(removal.gone).tolist())
        left = np.logical_not(removal.gone)
        situation = Situation(label, removal.name, index, copy.index, left, removal.queries)
        return measure_situation(situation, data.rows, repeats)


def _grown(recipe: Recipe, copy: Copy, data: Dataset, share: float, repeats: int) -> ConditionRow:
    first = len(data.rows) - _count(share, len(data.rows))
    every = np.ones(len(data.rows), dtype=np.bool_)
    with built(recipe, data.rows[:first]) as grown:
        add_rows(grown.index, data.rows[first:], first)
        name = f"tail {percent(share)}"
        situation = Situation(recipe.label, name, grown.index, copy.index, every, data.queries)
        return measure_situation(situation, data.rows, repeats)


@dataclass(frozen=True, eq=False)
class Removal:
    """Rows to remove, and the queries to ask then.

    Parameters
    ----------
    name : str
        The condition.
    gone : ndarray of bool, shape (n,)
        The rows.
    queries : ndarray of float32, shape (q, dim)
        The queries.
    """

    name: str
    gone: BoolArray
    queries: Float32Array


def _removals(data: Dataset, share: float, seed: int) -> list[Removal]:
    """Return a share of the rows at random, and as many around the first query."""
    rows = len(data.rows)
    count = _count(share, rows)
    at_random, near = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_)
    at_random[np.random.default_rng(seed).choice(rows, count, replace=False)] = True
    centre = data.queries[0]
    near[np.argsort(-(data.rows @ centre), kind="stable")[:count]] = True
    around = np.argsort(-(data.queries @ centre), kind="stable")[:NEAR_QUERIES]
    name = f"deleted {percent(share)}"
    return [
        Removal(f"{name} at random", at_random, data.queries),
        Removal(f"{name} nearest to a query", near, data.queries[around]),
    ]


def _count(share: float, rows: int) -> int:
    """Return how many rows a share means: at least one, and one is left."""
    return min(max(1, round(share * rows)), rows - 1)


def measure_situation(situation: Situation, rows: Float32Array, repeats: int) -> ConditionRow:
    """Return what an index finds under a condition, and how much longer it takes.

    Parameters
    ----------
    situation : Situation
        The two indexes.
    rows : ndarray of float32, shape (n, dim)
        The rows behind the ids.
    repeats : int
        Rounds of timing; both indexes take turns in each.

    Returns
    -------
    ConditionRow
        An answer that the condition does not allow counts as not found.
    """
    queries, allowed = situation.queries, situation.allowed
    matches = int(allowed.sum())
    expected = min(K, matches)
    truth = Dataset("", rows, queries, "").truth(expected, allowed)
    here = DEFAULT if situation.where is None else Setting("", {"where": situation.where})
    first_ms = 1000 * seconds(situation.index, queries[:1], K, here)
    answers = Answers(*situation.index.search_arrays(queries, K, **here.options))
    (scores,) = recompute(lambda ids: rows[ids], queries, [answers])
    forbidden = np.isfinite(scores)
    forbidden[forbidden] = np.logical_not(allowed[answers.ids[forbidden].astype(np.int64)])
    scores[forbidden] = np.nan
    returned = np.isfinite(scores).sum(axis=1)
    pairs = _in_turns(situation, spread_out(queries), here, repeats)
    return ConditionRow(
        structure=situation.label,
        name=situation.name,
        k=K,
        queries=len(queries),
        plan=str(situation.index.explain(K, **here.options)),
        matches=matches,
        expected=expected,
        returned=int(returned.min()),
        **recall_summary(recalls(answers.ids, scores, truth[:, -1], expected)),
        first_ms=first_ms,
        **_ratio_summary(pairs),
    )


def _in_turns(
    situation: Situation, queries: Float32Array, here: Setting, repeats: int
) -> Float64Array:
    """Return times in milliseconds, shape (repeats, q, 2): without the condition, and with it."""
    singles = [query[None] for query in queries]
    sides = ((0, situation.plain, DEFAULT), (1, situation.index, here))
    times = np.empty((repeats, len(singles), 2))
    for repeat in range(repeats):
        for side, index, setting in sides:
            for query in singles[:_WARM_UP]:
                seconds(index, query, K, setting)
            times[repeat, :, side] = [seconds(index, query, K, setting) for query in singles]
    return 1000 * times


def _ratio_summary(times_ms: Float64Array) -> dict[str, float]:
    """Return the median times of a query, and the median and range of the repeats' ratios."""
    plain, here = np.median(np.median(times_ms, axis=0), axis=0)
    medians = np.median(times_ms, axis=1)
    ratios = medians[:, 1] / medians[:, 0]
    return {
        "p50_ms": float(here),
        "plain_p50_ms": float(plain),
        "ratio": float(np.median(ratios)),
        "ratio_spread": float(np.ptp(ratios)),
    }
