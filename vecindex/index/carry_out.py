"""Carry out a route: candidates from a structure or a scan, scored; what falls short, exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vecindex.ann import (
    CORES,
    Best,
    LiveMask,
    Scan,
    Wanted,
    candidates_for,
    in_pieces,
    merge,
    search_flat,
    search_rows,
    slots_for,
)
from vecindex.arrays import BoolArray, Float32Array, Int64Array
from vecindex.index.behind import Behind
from vecindex.index.planner import FILTERED, Route
from vecindex.index.view import View

_WIDER = 4  # how many times more candidates the second try asks for
_GROWTH = 8  # how many times more candidates each further round of a scan scores
_CANDIDATES = 4_000_000  # in memory at once, at about 24 bytes each
_PIECE = 64  # queries of a batch that are searched and scored before the next ones
_MOST_SLOTS = 65_536  # candidates of one scan; an exact search is as quick then
_SINGLY = 4  # queries that are not worth matrix products
_DIRECTLY = 1024  # rows without codes that are rather scored than searched
_THIN = 0.75  # fewer allowed ones than this share of what is usual: the neighbourhood is depleted

Found = tuple[Float32Array, Int64Array]


class _Job:
    """A route on a view, with the rows that may be returned."""

    __slots__ = ("allowed", "route", "rows", "view")

    def __init__(self, view: View, route: Route) -> None:
        self.view, self.route = view, route
        where = route.where
        self.rows = None if where is None else view.matching(where)
        """The only rows of each part that may be returned; None if all may."""
        self.allowed: LiveMask | None = None
        """The rows of the first part that may be returned; None if all may."""
        if route.structure is not None:
            self.allowed = view.live(0) if where is None else view.allowed(where)


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
    return _search(_Job(view, route), queries, min(k, route.plan.searched))


def _search(job: _Job, queries: Float32Array, k: int) -> Found:
    if job.view.only_first and job.route.structure is not None:
        return _search_first(job, queries, k)
    view, route = job.view, job.route
    together = None
    if job.rows is None and route.structure is not None and k:
        if route.scan_params is not None:
            together = view.together()
        at_once = _search_at_once(job, together, queries, k)
        if at_once is not None:
            return at_once
    if together is not None:
        scores, rows = _search_behind(route, view.behind, together, queries, k)
        found = [_search_first(job, queries, k), (scores, rows + view.starts[1])]
    else:
        found = [
            _search_part(job, number, queries, k)
            for number, part in enumerate(view.parts)
            if part.count and (job.rows is None or len(job.rows[number]))
        ]
    if not found or not k:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    return merge(found, k)


def _search_at_once(job: _Job, scan: Scan | None, queries: Float32Array, k: int) -> Found | None:
    """Search structure and rows behind it as one list of candidates, if that is enough.

    The usual case of a few queries, with as few calls as can be: beside a thread that adds, each
    may lose the interpreter to it. None if the rows behind need a closer look.
    """
    behind, start = job.view.behind, job.view.starts[1]
    covered = 0 if scan is None else scan.count
    if not 0 < len(queries) <= _SINGLY or behind.count - covered > _DIRECTLY:
        return None
    found, late = [_search_first(job, queries, k)], None
    if scan is not None:
        needed, count, live = _needed(job.route, k), covered, behind.live
        slots = needed
        if live is not None:
            count, slots = int(np.count_nonzero(live.mask[:covered])), FILTERED * needed
        asked = _asked(scan, slots, count)
        coded = behind.best(scan, queries, asked, k, live)
        if coded.counts[:, 1].min() < min(needed, count):
            return None
        late = np.where(coded.places >= asked // 2, coded.scores, -np.inf)
        found.append((coded.scores, np.where(coded.rows >= 0, coded.rows + start, -1)))
    if covered < behind.count:
        rest = np.arange(covered, behind.count)
        if behind.live is not None:
            rest = rest[behind.live.mask[covered:]]
        behind.check_rows(rest)  # a damaged one might be the best
        near = rest[None].repeat(len(queries), axis=0)
        found.append((behind.score(queries, near), near + start))
    scores, rows = merge(found, k)
    if rows.shape[1] < k or rows.min() < 0:
        return None
    if late is not None and (late >= scores[:, -1:]).sum(axis=1).max() > _late_hits(job.route, k):
        return None
    behind.check_rows(rows[rows >= start] - start)
    return scores, rows


def _search_part(job: _Job, number: int, queries: Float32Array, k: int) -> Found:
    view, part = job.view, job.view.parts[number]
    if number == 0 and job.route.structure is not None:
        scores, rows = _search_first(job, queries, k)
    elif job.rows is not None:
        view.check(number, job.route.where)
        scores, rows = search_rows(part.vectors, queries, k, job.rows[number])
    else:
        by_codes = job.route.structure is not None and job.route.scan_params is not None
        scan = view.codes(number) if by_codes else None
        scores, rows = _search_behind(job.route, view.only(number), scan, queries, k)
    start = view.starts[number]
    return scores, rows + start if start else rows


def _search_behind(
    route: Route, behind: Behind, scan: Scan | None, queries: Float32Array, k: int
) -> Found:
    """Search rows that the structure does not cover: by codes as far as there are, exactly."""
    covered = scan.count if scan else 0
    head = None if behind.live is None or not covered else behind.live.head(covered)
    wanted = min(k, covered if head is None else head.count)
    if scan is None or route.scan_params is None or not wanted:
        return behind.exact(queries, k)
    scores, rows, short = _scan(
        lambda some, slots: behind.best(scan, some, slots, wanted, head),
        head, queries, wanted, scan, _needed(route, wanted), _late_hits(route, wanted),
    )  # fmt: skip
    if short.any():
        scores[short], rows[short] = behind.exact(queries[short], wanted, 0, covered)
    behind.check_rows(rows.ravel())
    if covered == behind.count:
        return scores, rows
    return merge([(scores, rows), behind.exact(queries, k, covered)], k)


def _needed(route: Route, k: int) -> int:
    """Return how many candidates of a scan of codes must be scored for k rows."""
    assert route.structure is not None
    assert route.scan_params is not None
    return slots_for(route.structure.codes, route.scan_params, k)


def _late_hits(route: Route, k: int) -> int:
    """Return how many of k hits may be late ones in a scan that promises the route's recall."""
    return int(2 * (1 - route.recall) * k + 1e-9)


def _search_first(job: _Job, queries: Float32Array, k: int) -> Found:
    """Search the first part with its structure or a scan; what falls short is searched again."""
    part, allowed, route = job.view.parts[0], job.allowed, job.route
    wanted = min(k, part.count if allowed is None else allowed.count)
    if not wanted or not len(queries):
        return search_flat(part.vectors, queries, wanted, allowed)
    short: BoolArray | None
    if route.scan is not None:
        scan = _scan_of(job, own=route.scan == "own")
        late_hits = _late_hits(route, wanted)
        scores, rows, short = _scan_first(job, queries, wanted, scan, late_hits)
    else:
        scores, rows, short = _propose(job, queries, wanted, 1)
    if short is not None and short.any():
        scores[short], rows[short] = _again(job, queries[short], wanted)
    part.check_rows(rows.ravel())
    return scores, rows


def _again(job: _Job, queries: Float32Array, k: int) -> Found:
    """Search again where too few candidates were allowed: by a scan of those, wider, exactly."""
    route, structure, part = job.route, job.route.structure, job.view.parts[0]
    assert structure is not None
    short: BoolArray | None
    scores = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    if structure.scan is not None and route.scan is None and route.scan_params is not None:
        scores, rows, short = _scan_first(job, queries, k, _scan_of(job, own=True), 0)
    elif structure.scan is None:
        scores, rows, short = _propose(job, queries, k, _WIDER)
    else:
        short = np.ones(len(queries), np.bool_)
    if short is not None and short.any():
        part.check_rows()
        scores[short], rows[short] = search_flat(part.vectors, queries[short], k, job.allowed)
    return scores, rows


def _propose(
    job: _Job, queries: Float32Array, k: int, times: int
) -> tuple[Float32Array, Int64Array, BoolArray | None]:
    """Return the k best allowed ones of the structure's candidates, and where there are too few."""
    structure, params, allowed = job.route.structure, job.route.params, job.allowed
    assert structure is not None
    assert params is not None
    if job.route.widens:
        params = structure.widen(params, times * candidates_for(k, allowed))
    slots = times * candidates_for(slots_for(structure.codes, params, k), allowed)
    slots = min(slots, structure.rows * (1 + structure.repeats))
    if (most := max(1, min(_PIECE, _together(slots) // CORES))) < len(queries):
        # What a walk has just read, its scoring then finds in the processor's caches.
        return _joined(
            in_pieces(
                lambda part: _propose(job, queries[part], k, times), len(queries), None, most=most
            )
        )
    best = structure.best(Wanted(job.view.parts[0].vectors, queries, slots, k, allowed), params)
    thin = None
    if allowed is not None:
        # The structure knows the other rows, too. Asking for more and dropping those keeps what
        # was measured; a selector inside FAISS would silently stop too early near many of them.
        # So many more are asked for that those left should suffice. Where they are far fewer than
        # their share of all rows, the query's neighbours are mostly not allowed: those that are
        # lie further out than the structure was measured for.
        named, kept = best.counts.T
        thin = kept < _THIN * allowed.count / len(allowed) * named
    return _padded(best.scores, best.rows, k, thin)


def _scan_of(job: _Job, *, own: bool) -> Scan:
    """Return the scan of all codes, or that of hardly more than the allowed ones."""
    assert job.route.structure is not None
    scan, allowed, where = job.route.structure.scan, job.allowed, job.route.where
    assert scan is not None
    if not own or allowed is None:
        return scan
    return job.view.scans.get(where, allowed) or job.view.scans.make(where, scan, allowed)


def _scan_first(
    job: _Job, queries: Float32Array, k: int, scan: Scan, late_hits: int
) -> tuple[Float32Array, Int64Array, BoolArray]:
    """Return `_scan` of the first part."""
    matrix, allowed = job.view.parts[0].vectors, job.allowed
    return _scan(
        lambda some, slots: scan.best(Wanted(matrix, some, slots, k, allowed, places=True)),
        allowed, queries, k, scan, _needed(job.route, k), late_hits,
    )  # fmt: skip


def _scan(
    best: Callable[[Float32Array, int], Best],
    allowed: LiveMask | None,
    queries: Float32Array,
    k: int,
    scan: Scan,
    needed: int,
    late_hits: int,
) -> tuple[Float32Array, Int64Array, BoolArray]:
    """Return the k best allowed ones of a scan's candidates, and where there may be better ones.

    How many candidates must be scored depends on how densely rows lie around the k-th one, which
    is not what was measured if only some rows are allowed. So the answer tells: if more than
    `late_hits` of it come from the worse half of the candidates, more are scored.
    """
    scores = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    left = np.arange(len(queries))
    count, slots = scan.count, needed
    if allowed is not None:
        count, slots = allowed.count, FILTERED * needed
    most = max(slots, min(_MOST_SLOTS, scan.count // 4))
    while True:
        asked = _asked(scan, slots, count)
        good = np.zeros(len(left), np.bool_)
        step = _together(asked)
        for start in range(0, len(left), step):
            some = left[start : start + step]
            found = best(queries[some], asked)
            scores[some], rows[some], _ = _padded(found.scores, found.rows, k, None)
            late, kept = (found.places >= asked // 2).sum(axis=1), found.counts[:, 1]
            enough = (late <= late_hits) & (kept >= min(needed, count))
            good[start : start + step] = enough | (kept == count)
        left = left[~good]
        if not len(left) or slots >= most:
            break
        slots = min(most, _GROWTH * slots)
    short = np.zeros(len(queries), np.bool_)
    short[left] = True
    return scores, rows, short


def _asked(scan: Scan, slots: int, count: int) -> int:
    """Return how many candidates so many of a scan's rows take to name `slots` of them."""
    asked = slots if scan.count == count else 8 + slots * scan.count // max(1, count)
    return min(asked, scan.count)


def _together(slots: int) -> int:
    """Return how many queries may hold their candidates in memory at once."""
    return max(1, _CANDIDATES // max(1, slots))


def _joined(
    found: list[tuple[Float32Array, Int64Array, BoolArray | None]],
) -> tuple[Float32Array, Int64Array, BoolArray | None]:
    """Return the answers of slices of queries as one."""
    scores, rows, shorts = zip(*found, strict=True)
    short = [
        np.zeros(len(s), np.bool_) if b is None else b for s, b in zip(scores, shorts, strict=True)
    ]
    return np.concatenate(scores), np.concatenate(rows), np.concatenate(short)


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
