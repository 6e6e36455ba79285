"""The searches that are measured: exact, as calibrated, and over the structure's parameters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from vecindex.ann.ivf_build import lists_for
from vecindex.arrays import Float32Array, Int64Array
from vecindex.bench.metrics import Float64Array, Ids
from vecindex.bench.queries import Queries
from vecindex.results import IndexInfo
from vecindex.spec import IvfSpec

if TYPE_CHECKING:
    from vecindex.index import VectorIndex

EF_SEARCH = (16, 32, 64, 128, 256, 512)
"""`ef_search` of the trials of a graph."""

_WARM_UP = 10  # queries asked before the clock runs
_CHUNK = 32  # queries whose answers' vectors are in memory at once


@dataclass(frozen=True)
class Setting:
    """One way to ask.

    Parameters
    ----------
    name : str
        `"exact"`, `"default"`, or a parameter with its value.
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
        Its structure decides: `ef_search` for a graph, `nprobe` for lists, nothing otherwise.

    Returns
    -------
    list of Setting
        Exact search first, the calibrated default second.
    """
    grid = [(name, value) for name, values in _grid(info).items() for value in values]
    return [EXACT, DEFAULT, *(Setting(f"{n}={value}", {"params": {n: value}}) for n, value in grid)]


def _grid(info: IndexInfo) -> dict[str, Sequence[int]]:
    if info.structure == "hnsw":
        return {"ef_search": EF_SEARCH}
    if info.structure == "ivf":
        lists = lists_for(IvfSpec(info.spec.get("nlist")), info.indexed)
        return {"nprobe": [*takewhile(lists.__gt__, (1 << power for power in count())), lists]}
    return {}


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


def recompute(index: VectorIndex, queries: Queries, answers: list[Answers]) -> list[Float32Array]:
    """Return the cosine of every answer, computed here from the stored vectors.

    Parameters
    ----------
    index : VectorIndex
        Gives the vectors.
    queries : Queries
        The queries of the answers.
    answers : list of Answers
        Of any k; every row is fetched once per chunk of queries, whoever returned it.

    Returns
    -------
    list of ndarray of float32, shape (q, k)
        One for each of the answers, NaN where there is no answer.
    """
    found = [np.full(one.scores.shape, np.nan, dtype=np.float32) for one in answers]
    for start in range(0, len(queries.vectors), _CHUNK):
        part = slice(start, start + _CHUNK)
        present = [np.isfinite(one.scores[part]) for one in answers]
        wanted = {
            id
            for one, there in zip(answers, present, strict=True)
            for id in one.ids[part][there].tolist()
        }
        if not wanted:
            continue
        place = {
            record.id: (i, record.vector)
            for i, record in enumerate(index.get(list(wanted), vectors=True))
        }
        matrix = np.stack([vector for _, vector in place.values() if vector is not None])
        for one, there, out in zip(answers, present, found, strict=True):
            rows = np.array([place[id][0] for id in one.ids[part][there].tolist()], dtype=np.int64)
            asking = np.nonzero(there)[0]
            out[part][there] = _dots(queries.vectors[part], asking, matrix, rows)
    return found


def _dots(
    queries: Float32Array, asking: Int64Array, matrix: Float32Array, rows: Int64Array
) -> Float32Array:
    products: Float32Array = np.einsum("ij,ij->i", queries[asking], matrix[rows], optimize=False)
    return products


def time_alone(
    index: VectorIndex, vectors: Float32Array, k: int, setting: Setting, repeats: int
) -> Float64Array:
    """Return the time of each query asked alone, in milliseconds.

    Parameters
    ----------
    index : VectorIndex
        The index.
    vectors : ndarray of float32, shape (q, dim)
        The queries.
    k : int
        Answers asked for.
    setting : Setting
        How to ask.
    repeats : int
        Rounds over all queries, after a few queries to warm up.

    Returns
    -------
    ndarray of float64, shape (repeats, q)
        Wall-clock times of `search_arrays` with one query.
    """
    singles = [vectors[i : i + 1] for i in range(len(vectors))]
    for query in singles[:_WARM_UP]:
        index.search_arrays(query, k, **setting.options)
    times = np.empty((repeats, len(singles)))
    for repeat in range(repeats):
        for i, query in enumerate(singles):
            start = time.perf_counter()
            index.search_arrays(query, k, **setting.options)
            times[repeat, i] = time.perf_counter() - start
    return times * 1000


def time_batches(
    index: VectorIndex, vectors: Float32Array, k: int, setting: Setting, repeats: int
) -> Float64Array:
    """Return the time of one call with all queries, in seconds.

    Parameters
    ----------
    index : VectorIndex
        The index.
    vectors : ndarray of float32, shape (q, dim)
        The queries.
    k : int
        Answers asked for.
    setting : Setting
        How to ask.
    repeats : int
        Calls; the caller has warmed up.

    Returns
    -------
    ndarray of float64, shape (repeats,)
        Wall-clock times of `search_arrays` with all queries.
    """
    times = np.empty(repeats)
    for repeat in range(repeats):
        start = time.perf_counter()
        index.search_arrays(vectors, k, **setting.options)
        times[repeat] = time.perf_counter() - start
    return times
