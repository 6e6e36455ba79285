"""Decide how to search, and do it: a structure, an exact scan, or both, merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vecindex.ann import Structure, candidates_for, score_rows, search_flat, search_rows, top_k
from vecindex.arrays import Float32Array, Int64Array
from vecindex.errors import InputError, SpecError
from vecindex.filters import Filter
from vecindex.index.view import View
from vecindex.results import Plan
from vecindex.spec import FlatParams, HnswParams, IvfParams, Params, params_from_dict

_WIDER = 4  # how many times more candidates the second try asks for


@dataclass(frozen=True)
class Request:
    """What one call of search asks for, the queries apart.

    Parameters
    ----------
    k : int
        Neighbours wanted.
    where : Filter or None
        Which rows may be returned.
    exact : bool
        Search exactly.
    recall : float
        The contract of this call.
    params : mapping, Params or None
        Parameters that override the calibration.
    """

    k: int
    where: Filter | None
    exact: bool
    recall: float
    params: Mapping[str, Any] | Params | None


@dataclass(frozen=True)
class Route:
    """A plan together with what carries it out; views keep those of plain searches.

    Parameters
    ----------
    plan : Plan
        What is done, for people.
    structure : Structure or None
        Searches the first part; None searches it exactly.
    params : Params or None
        The structure's parameters, as calibrated or as given.
    widens : bool
        Whether they grow when more than ten candidates are needed: not when the caller gave them.
    rows : list of ndarray of int64, or None
        The only rows of each part that may be returned.
    """

    plan: Plan
    structure: Structure | None = None
    params: Params | None = None
    widens: bool = True
    rows: list[Int64Array] | None = None


def choose(view: View, request: Request, on_damage: Callable[[str], object]) -> Route:
    """Return how to carry out a request on a view."""
    total = view.state.live
    params = None
    if request.params is not None:
        if request.exact or request.where is not None:
            raise InputError("params go with neither exact=True nor where: both search exactly")
        params = _own_params(view, request.params)
    if not total:
        return Route(Plan("none", "the index is empty", 0, 0))
    if request.where is not None:
        rows = view.matching(request.where)
        return Route(Plan("exact", "filter", sum(map(len, rows)), total), rows=rows)
    if request.exact:
        return Route(_exact(view, "asked for"))
    route = _by_structure(view, request, params, on_damage)
    if params is None:
        view.routes[request.recall, request.k] = route
    return route


def _by_structure(
    view: View, request: Request, params: Params | None, on_damage: Callable[[str], object]
) -> Route:
    recall, given = request.recall, params is not None
    entry = view.state.manifest.structure
    if entry is None:
        flat = view.state.manifest.spec["kind"] in ("flat", "auto")
        return Route(_exact(view, "flat" if flat else "no structure yet"))
    if params is None:
        point = view.point(recall)
        if point is None:
            return Route(_exact(view, f"no measured setting promises recall {recall:g}"))
        params = params_from_dict(entry.kind, point.params)
    structure = view.structure(on_damage)
    if structure is None:
        return Route(_exact(view, "the structure's file is damaged"))
    used = params
    if not given:
        used = structure.widen(params, candidates_for(request.k, view.live(0)))
    total, tail = view.state.live, view.state.total - structure.rows
    reason = "given params" if given else f"recall {recall:g}"
    plan = Plan(entry.kind, reason, total, total, asdict(used), tail)
    return Route(plan, structure, params, widens=not given)


def _exact(view: View, reason: str) -> Plan:
    return Plan("exact", reason, view.state.live, view.state.live)


def _own_params(view: View, params: Mapping[str, Any] | Params) -> Params:
    entry = view.state.manifest.structure
    kind = "flat" if entry is None else entry.kind
    if isinstance(params, FlatParams | HnswParams | IvfParams):
        if params.kind != kind:
            raise SpecError(f"these are parameters of {params.kind}, but the structure is {kind}")
        return params
    if not isinstance(params, Mapping):
        raise SpecError(f"params must be a dict or a params dataclass, not {params!r}")
    return params_from_dict(kind, params)


def search(view: View, queries: Float32Array, k: int, route: Route) -> tuple[Any, Any]:
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


def _search(
    view: View, queries: Float32Array, k: int, route: Route
) -> tuple[Float32Array, Int64Array]:
    if view.only_first and route.structure is not None:
        return _search_structure(view, queries, k, route)
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


def _search_part(
    view: View, number: int, queries: Float32Array, k: int, route: Route
) -> tuple[Float32Array, Int64Array]:
    part = view.parts[number]
    if route.rows is not None:
        part.check_rows(route.rows[number])
        scores, rows = search_rows(part.vectors, queries, k, route.rows[number])
    elif number == 0 and route.structure is not None:
        scores, rows = _search_structure(view, queries, k, route)
    else:
        part.check_rows()
        scores, rows = search_flat(part.vectors, queries, k, view.live(number))
    start = view.starts[number]
    return scores, rows + start if start else rows


def _search_structure(
    view: View, queries: Float32Array, k: int, route: Route
) -> tuple[Float32Array, Int64Array]:
    """Search the first part with its structure; what falls short is searched exactly."""
    part, live = view.parts[0], view.live(0)
    wanted = min(k, part.count if live is None else live.count)
    if not wanted or not len(queries):
        return search_flat(part.vectors, queries, wanted, live)
    candidates = candidates_for(wanted, live)
    scores, rows = _propose(view, queries, wanted, candidates, route)
    if rows.item(-1) < 0 or (len(rows) > 1 and rows[:, -1].min() < 0):  # pads: too few live ones
        short = rows[:, -1] < 0
        if (wider := _WIDER * candidates) < part.count:
            scores[short], rows[short] = _propose(view, queries[short], wanted, wider, route)
            short = rows[:, -1] < 0
        if short.any():
            part.check_rows()
            found = search_flat(part.vectors, queries[short], wanted, live)
            scores[short], rows[short] = found
    part.check_rows(rows.ravel())
    return scores, rows


def _propose(
    view: View, queries: Float32Array, k: int, candidates: int, route: Route
) -> tuple[Float32Array, Int64Array]:
    """Return the k best live ones of the structure's candidates, -1 where there are fewer."""
    structure, params, live = route.structure, route.params, view.live(0)
    assert structure is not None
    assert params is not None
    if route.widens:
        params = structure.widen(params, candidates)
    rows = structure.propose(queries, candidates, params)
    if live is not None:
        # The structure knows removed rows, too. Asking for more and dropping those keeps what
        # was measured; a selector inside FAISS would silently stop too early near many of them.
        rows = np.where(live.mask[rows] & (rows >= 0), rows, -1)
    return top_k(score_rows(view.parts[0].vectors, queries, rows), rows, k)
