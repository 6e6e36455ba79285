"""Carry out a route: candidates from a structure or a scan, scored; what falls short, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vecindex.ann import (
    LiveMask,
    Scan,
    candidates_for,
    drop_repeats,
    score_rows,
    search_flat,
    search_rows,
    slots_for,
    top_k,
)
from vecindex.arrays import BoolArray, Float32Array, Int64Array
from vecindex.index.planner import FILTERED, Route
from vecindex.index.view import View

_WIDER = 4  # how many times more candidates the second try asks for
_GROWTH = 8  # how many times more candidates each further round of a scan scores
_MOST_SLOTS = 65_536  # candidates of one scan; an exact search is as quick then
_THIN = 0.75  # fewer allowed ones than this share of what is usual: the neighbourhood is depleted

Found = tuple[Float32Array, Int64Array]


def search(view: View, queries: Float32Array, k: int, route: Route) -> Found:
    """Return scores and index-wide row numbers, both of shape (q, min(k, matching rows)).

    Parameters
    ----------
    view : View
        What to search.
    queries : ndarray of float32, shape (q, dim)
        Unit rows.
    k : int
        Neighbours wanted, at least 1.
    route : Route
        How.

    Returns
    -------
    scores : ndarray of float32, shape (q, k')
        Cosines, best first.
    rows : ndarray of int64, shape (q, k')
        Row numbers; ties by row number, which is insertion order.
    """
    scores, rows = _search(view, queries, min(k, route.plan.searched), route)
    # The other end, at 1, is held by `score_rows`; here no pads are left that must stay -inf.
    return np.maximum(scores, -1, out=scores), rows


def _search(view: View, queries: Float32Array, k: int, route: Route) -> Found:
    if view.only_first and route.structure is not None:
        return _search_first(view, queries, k, route)
    found = [
        _search_part(view, number, queries, k, route)
        for number, part in enumerate(view.parts)
        if part.count and (route.rows is None or len(route.rows[number]))
    ]
    if not found or not k:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    if len(found) == 1:
        return found[0]
    scores = np.concatenate([part[0] for part in found], axis=1)
    rows = np.concatenate([part[1] for part in found], axis=1)
    return top_k(scores, rows, k)


def _search_part(view: View, number: int, queries: Float32Array, k: int, route: Route) -> Found:
    part = view.parts[number]
    if number == 0 and route.structure is not None:
        scores, rows = _search_first(view, queries, k, route)
    elif route.rows is not None:
        part.check_rows(route.rows[number])
        scores, rows = search_rows(part.vectors, queries, k, route.rows[number])
    else:
        part.check_rows()
        scores, rows = search_flat(part.vectors, queries, k, view.live(number))
    start = view.starts[number]
    return scores, rows + start if start else rows


def _search_first(view: View, queries: Float32Array, k: int, route: Route) -> Found:
    """Search the first part with its structure or a scan; what falls short is searched again."""
    part, allowed = view.parts[0], route.allowed
    wanted = min(k, part.count if allowed is None else allowed.count)
    if not wanted or not len(queries):
        return search_flat(part.vectors, queries, wanted, allowed)
    if route.scan is not None:
        late_hits = int(2 * (1 - route.recall) * wanted + 1e-9)
        scores, rows, short = _scan(view, queries, wanted, route, _scan_of(view, route), late_hits)
    else:
        scores, rows, short = _propose(view, queries, wanted, route, 1)
    if short is not None and short.any():
        scores[short], rows[short] = _again(view, queries[short], wanted, route)
    part.check_rows(rows.ravel())
    return scores, rows


def _again(view: View, queries: Float32Array, k: int, route: Route) -> Found:
    """Search again where too few candidates were allowed: by a scan of those, wider, exactly."""
    structure, part = route.structure, view.parts[0]
    assert structure is not None
    short: BoolArray | None = np.ones(len(queries), np.bool_)
    scores = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    if structure.scan is not None and route.scan is None and route.scan_params is not None:
        scan = _scan_of(view, replace(route, scan="own"))
        scores, rows, short = _scan(view, queries, k, route, scan, 0)
    elif structure.scan is None:
        scores, rows, short = _propose(view, queries, k, route, _WIDER)
    if short is not None and short.any():
        part.check_rows()
        scores[short], rows[short] = search_flat(part.vectors, queries[short], k, route.allowed)
    return scores, rows


def _propose(
    view: View, queries: Float32Array, k: int, route: Route, times: int
) -> tuple[Float32Array, Int64Array, BoolArray | None]:
    """Return the k best allowed ones of the structure's candidates, and where there are too few."""
    structure, params, allowed = route.structure, route.params, route.allowed
    assert structure is not None
    assert params is not None
    if route.widens:
        params = structure.widen(params, times * candidates_for(k, allowed))
    slots = times * candidates_for(slots_for(structure.codes, params, k), allowed)
    rows = structure.find(queries, min(slots, structure.rows * (1 + structure.repeats)), params)
    if structure.repeats and not structure.scans(params):
        rows = drop_repeats(rows)
    thin = None
    if allowed is not None:
        # The structure knows the other rows, too. Asking for more and dropping those keeps what
        # was measured; a selector inside FAISS would silently stop too early near many of them.
        rows, thin = _drop(rows, allowed)
    scores, rows = top_k(score_rows(view.parts[0].vectors, queries, rows), rows, k)
    return _padded(scores, rows, k, thin)


def _drop(rows: Int64Array, allowed: LiveMask) -> tuple[Int64Array, BoolArray]:
    """Return the candidates that are allowed, -1 for others, and where they are suspiciously few.

    So many more candidates are asked for that the allowed ones should suffice. Where they are far
    fewer than their share of all rows, the query's neighbours are mostly not allowed: those that
    are lie further out than the structure was measured for.
    """
    named = rows >= 0
    kept = np.where(allowed.mask[rows] & named, rows, -1)
    usual = _THIN * allowed.count / len(allowed)
    return kept, (kept >= 0).sum(axis=1) < usual * named.sum(axis=1)


def _scan_of(view: View, route: Route) -> Scan:
    """Return the scan of a route, made if need be."""
    assert route.structure is not None
    scan, allowed = route.structure.scan, route.allowed
    assert scan is not None
    if route.scan == "all" or allowed is None:
        return scan
    return view.scans.get(route.where, allowed) or view.scans.make(route.where, scan, allowed)


def _scan(
    view: View, queries: Float32Array, k: int, route: Route, scan: Scan, late_hits: int
) -> tuple[Float32Array, Int64Array, BoolArray | None]:
    """Return the k best allowed ones of a scan's candidates, and where there may be better ones.

    How many candidates must be scored depends on how densely rows lie around the k-th one, which
    is not what was measured if only some rows are allowed. So the answer tells: if more than
    `late_hits` of it come from the worse half of the candidates, more are scored.
    """
    structure, params, allowed = route.structure, route.scan_params, route.allowed
    assert structure is not None
    assert params is not None
    matrix, needed = view.parts[0].vectors, slots_for(structure.codes, params, k)
    if allowed is None:
        rows = scan.find(queries, needed)
        return _padded(*top_k(score_rows(matrix, queries, rows), rows, k), k, None)
    scores = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    left, slots = np.arange(len(queries)), FILTERED * needed
    most = max(slots, min(_MOST_SLOTS, scan.count // 4))
    while True:
        asked = slots if scan.count == allowed.count else 8 + slots * scan.count // allowed.count
        found = scan.find(queries[left], asked)
        found = np.where(allowed.mask[found], found, -1)
        scored = score_rows(matrix, queries[left], found)
        best = _padded(*top_k(scored, found, k), k, None)
        scores[left], rows[left] = best[:2]
        late = (scored[:, found.shape[1] // 2 :] >= scores[left, -1:]).sum(axis=1)
        kept = (found >= 0).sum(axis=1)
        good = (late <= late_hits) & (kept >= min(needed, allowed.count))
        left = left[~(good | (kept == allowed.count))]
        if not len(left) or slots >= most:
            break
        slots = min(most, _GROWTH * slots)
    short = np.zeros(len(queries), np.bool_)
    short[left] = True
    return scores, rows, short


def _padded(
    scores: Float32Array, rows: Int64Array, k: int, short: BoolArray | None
) -> tuple[Float32Array, Int64Array, BoolArray | None]:
    """Return k columns, and where they are not all filled, besides where `short` says so."""
    if (missing := k - rows.shape[1]) > 0:
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
    if rows.item(-1) >= 0 and (len(rows) == 1 or rows[:, -1].min() >= 0):
        return scores, rows, short
    empty = rows[:, -1] < 0
    return scores, rows, empty if short is None else short | empty
