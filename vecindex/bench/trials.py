"""The searches that are measured: exact, as calibrated, and over the structure's parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vecindex.arrays import Float32Array, Int64Array
from vecindex.bench.metrics import Float64Array, Ids
from vecindex.bench.queries import Queries
from vecindex.results import IndexInfo

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

Fetch = Callable[[list[Any]], Float32Array]
"""Gives the stored vectors of ids, shape (n, dim)."""

GRID = 10
"""At most so many of the points that the calibration measured are tried."""

LATENCY_QUERIES = 100
"""At most so many of the queries are timed one by one, in every repeat."""

_WARM_UP = 3  # queries asked before the clock runs, in each round
_CHUNK = 32  # queries whose answers' vectors are in memory at once


@dataclass(frozen=True)
class Setting:
    """One way to ask.

    Parameters
    ----------
    name : str
        `"exact"`, `"default"`, or parameters with their values.
    options : dict
        Keywords of `VectorIndex.search_arrays`.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


EXACT = Setting("exact", {"exact": True})
DEFAULT = Setting("default")


def settings(info: IndexInfo) -> list[Setting]:
    """Return the settings to try on an index.

    Parameters
    ----------
    info : IndexInfo
        The points of its calibration are the grid, thinned to `GRID`; without one there is none.

    Returns
    -------
    list of Setting
        The calibrated default first, then by rising cost.
    """
    points = info.calibration.points if info.calibration else ()
    grid = [point.params for point in points if point.params]
    return [DEFAULT, *(Setting(_words(params), {"params": params}) for params in thinned(grid))]


def thinned(grid: Sequence[dict[str, Any]], most: int = GRID) -> list[dict[str, Any]]:
    """Return at most `most` of a grid's points, spread evenly, the first and the last included."""
    if len(grid) <= most:
        return list(grid)
    kept = np.linspace(0, len(grid) - 1, most).round().astype(int).tolist()
    return [grid[number] for number in kept]


def _words(params: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in params.items() if value is not None)


@dataclass(frozen=True, eq=False)
class Answers:
    """What one setting returned for all queries.

    Parameters
    ----------
    ids : ndarray of int64 or object, shape (q, k)
        Best first.
    scores : ndarray of float32, shape (q, k)
        As returned; not finite where there is no answer.
    """

    ids: Ids
    scores: Float32Array


def ask(index: VectorIndex, queries: Queries, k: int, setting: Setting) -> Answers:
    """Return the k best answers for each query, other than the query's own row.

    Parameters
    ----------
    index : VectorIndex
        The index.
    queries : Queries
        If they are rows of the index, k + 1 answers are asked for and the own row is dropped, or
        the last answer where the own row is not among them.
    k : int
        Answers wanted.
    setting : Setting
        How to ask.

    Returns
    -------
    Answers
        Of shape (q, k).
    """
    if queries.own is None:
        return Answers(*index.search_arrays(queries.vectors, k, **setting.options))
    ids, scores = index.search_arrays(queries.vectors, k + 1, **setting.options)
    own = ids == queries.own[:, None]
    drop = np.where(own.any(axis=1), own.argmax(axis=1), k)
    keep = np.arange(k + 1) != drop[:, None]
    return Answers(ids[keep].reshape(-1, k), scores[keep].reshape(-1, k))


def recompute(fetch: Fetch, queries: Float32Array, answers: list[Answers]) -> list[Float32Array]:
    """Return the cosine of every answer, computed here from the vectors.

    Parameters
    ----------
    fetch : callable
        Gives the vectors of ids.
    queries : ndarray of float32, shape (q, dim)
        The queries of the answers.
    answers : list of Answers
        Of any k; every row is fetched once per chunk of queries, whoever returned it.

    Returns
    -------
    list of ndarray of float32, shape (q, k)
        One for each of the answers, NaN where there is no answer.
    """
    found = [np.full(one.scores.shape, np.nan, dtype=np.float32) for one in answers]
    for start in range(0, len(queries), _CHUNK):
        part = slice(start, start + _CHUNK)
        present = [np.isfinite(one.scores[part]) for one in answers]
        wanted = {
            id
            for one, there in zip(answers, present, strict=True)
            for id in one.ids[part][there].tolist()
        }
        if not wanted:
            continue
        place = {id: number for number, id in enumerate(wanted)}
        matrix = fetch(list(wanted))
        for one, there, out in zip(answers, present, found, strict=True):
            rows = np.array([place[id] for id in one.ids[part][there].tolist()], dtype=np.int64)
            asking = np.nonzero(there)[0]
            out[part][there] = _dots(queries[part], asking, matrix, rows)
    return found


def stored_vectors(index: VectorIndex) -> Fetch:
    """Return a function that gives the vectors which an index has stored for ids."""

    def _fetch(ids: list[Any]) -> Float32Array:
        records = index.get(ids, vectors=True)
        return np.stack([record.vector for record in records if record.vector is not None])

    return _fetch


def _dots(
    queries: Float32Array, asking: Int64Array, matrix: Float32Array, rows: Int64Array
) -> Float32Array:
    products: Float32Array = np.einsum("ij,ij->i", queries[asking], matrix[rows], optimize=False)
    return products


@dataclass(frozen=True, eq=False)
class Times:
    """How long one setting took.

    Parameters
    ----------
    alone_ms : ndarray of float64, shape (repeats, q')
        Each of some queries asked alone, in milliseconds.
    batch_s : ndarray of float64, shape (repeats,)
        All queries in one call, in seconds.
    """

    alone_ms: Float64Array
    batch_s: Float64Array


def time_trials(
    index: VectorIndex,
    queries: Float32Array,
    trials: Sequence[tuple[int, Setting]],
    repeats: int,
    after_each: Callable[[int, int], object],
) -> list[Times]:
    """Return the times of each setting at its k.

    Parameters
    ----------
    index : VectorIndex
        The index.
    queries : ndarray of float32, shape (q, dim)
        At most `LATENCY_QUERIES` of them are asked alone.
    trials : sequence of (int, Setting)
        k, and how to ask.
    repeats : int
        Rounds over all trials: what slows the machine for a while slows all settings alike.
    after_each : callable
        Called with runs done and runs in total.

    Returns
    -------
    list of Times
        Wall-clock times of `search_arrays`, in the order of the trials.
    """
    singles = [query[None] for query in spread_out(queries)]
    alone = np.empty((len(trials), repeats, len(singles)))
    batch = np.empty((len(trials), repeats))
    for repeat in range(repeats):
        for number, (k, setting) in enumerate(trials):
            for query in singles[:_WARM_UP]:
                seconds(index, query, k, setting)
            alone[number, repeat] = [seconds(index, query, k, setting) for query in singles]
            if repeat == 0:
                seconds(index, queries, k, setting)
            batch[number, repeat] = seconds(index, queries, k, setting)
            after_each(repeat * len(trials) + number + 1, repeats * len(trials))
    return [Times(1000 * one, many) for one, many in zip(alone, batch, strict=True)]


def seconds(index: VectorIndex, queries: Float32Array, k: int, setting: Setting) -> float:
    """Return the wall-clock time of one call of `search_arrays`, in seconds."""
    start = time.perf_counter()
    index.search_arrays(queries, k, **setting.options)
    return time.perf_counter() - start


def spread_out(queries: Float32Array, most: int = LATENCY_QUERIES) -> Float32Array:
    """Return at most `most` of the queries, taken evenly from first to last."""
    if len(queries) <= most:
        return queries
    spread: Float32Array = queries[np.linspace(0, len(queries) - 1, most).astype(int)]
    return spread
