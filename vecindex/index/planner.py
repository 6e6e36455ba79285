"""Decide how to search: which way of finding is the cheapest by what the calibration measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from vecindex.ann import CALIBRATED_K, LiveMask, Structure, candidates_for, slots_for
from vecindex.errors import InputError, SpecError
from vecindex.filters import Filter
from vecindex.index.view import View
from vecindex.results import Calibration, Costs, Plan
from vecindex.spec import FlatParams, HnswParams, IvfParams, Params, params_from_dict

FILTERED = 2
"""Candidates that a scan of some rows scores, as a multiple of what a scan of all needs."""

_LEAST_SHARE = 0.1  # of the rows: a structure that must drop more candidates finds too few
_CANDIDATE_US = 0.1  # what ranking one candidate of a scan takes
_KEPT_ROUTES = 256
_SCANNED = {"all": "scanning the codes of all rows", "own": "scanning their codes"}


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
    dry : bool
        Only say how: nothing is made that only a search would need.
    """

    k: int
    where: Filter | None
    exact: bool
    recall: float
    params: Mapping[str, Any] | Params | None
    dry: bool = False


@dataclass(frozen=True)
class Route:
    """A plan together with what carries it out; views keep those that will not change.

    Parameters
    ----------
    plan : Plan
        What is done, for people.
    structure : Structure or None
        Finds candidates in the first part; None searches it exactly.
    params : Params or None
        The structure's parameters, as calibrated or as given.
    widens : bool
        Whether they grow when more than ten candidates are needed: not when the caller gave them.
    scan : {"all", "own"} or None
        A fast scan of codes instead of the structure's own search: of all rows, or of hardly more
        than those that may be returned (`View.scans`).
    scan_params : Params or None
        How many of its candidates to score: what promises the recall wanted in a scan of all rows.
    where : Filter or None
        Which rows may be returned. The rows themselves are the view's to keep or to find again.
    recall : float
        What is promised.
    """

    plan: Plan
    structure: Structure | None = None
    params: Params | None = None
    widens: bool = True
    scan: Literal["all", "own"] | None = None
    scan_params: Params | None = None
    where: Filter | None = None
    recall: float = 1.0


def known(
    view: View,
    k: int,
    where: Filter | None,
    recall: float,
    params: Mapping[str, Any] | Params | None,
) -> Route | None:
    """Return the route of a request that is not exact, if the view has kept it."""
    try:
        return view.routes.get(_key(k, where, recall, params))
    except TypeError:  # a value that no parameter can have
        return None


def choose(view: View, request: Request, on_damage: Callable[[str], object]) -> Route:
    """Return how to carry out a request on a view, and let the view keep it if it will not change.

    Ask `known` first.
    """
    total = view.state.live
    params = None
    if request.params is not None:
        if request.exact or request.where is not None:
            raise InputError("params go with neither exact=True nor where: those choose their own")
        params = _own_params(view, request.params)
    if not total:
        return Route(Plan("none", "the index is empty", 0, 0))
    searched = total
    if request.where is not None:
        rows = view.matching(request.where)
        searched = sum(map(len, rows))
        if not len(rows[0]) and not request.exact:
            return _exact(view, "filter", searched, request.where)
    if request.exact:
        return _exact(view, "asked for", searched, request.where)
    choice = _Choice(view, request, searched, params)
    route = choice.route(on_damage)
    if choice.final:
        if len(view.routes) >= _KEPT_ROUTES:
            view.routes.clear()
        view.routes[_key(request.k, request.where, request.recall, request.params)] = route
    return route


def _key(
    k: int, where: Filter | None, recall: float, params: Mapping[str, Any] | Params | None
) -> tuple[Hashable, ...]:
    """Return what a route depends on."""
    given: Hashable = params
    if isinstance(params, Mapping):  # 64, 64.0 and True are equal, but only one is a parameter
        given = tuple((name, type(value), value) for name, value in params.items())
    return recall, k, where, given


def _exact(
    view: View,
    reason: str,
    searched: int,
    where: Filter | None,
    costs: dict[str, float] | None = None,
) -> Route:
    plan = Plan("exact", reason, searched, view.state.live, costs_us=costs or {})
    return Route(plan, where=where)


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


@dataclass
class _Choice:
    """One decision: the ways that are open, with what each should cost."""

    view: View
    request: Request
    searched: int  # rows that may be returned
    given: Params | None
    final: bool = False  # whether the same request will be carried out like that again

    def route(self, on_damage: Callable[[str], object]) -> Route:
        """Return the cheapest way."""
        view, manifest = self.view, self.view.state.manifest
        if manifest.structure is None:
            flat = manifest.spec["kind"] in ("flat", "auto")
            return self._exactly("flat" if flat else "no structure yet")
        params = self.given or self._calibrated()
        if params is None:
            return self._exactly(f"no measured setting promises recall {self.request.recall:g}")
        structure = view.structure(on_damage)
        if structure is None:
            return self._exactly("the structure's file is damaged")
        allowed = view.live(0) if self.request.where is None else view.allowed(self.request.where)
        if self.given is None and self._covers(structure, params):
            return self._exactly(f"k={self.request.k:,} takes as many candidates as there are rows")
        route = Route(self._plan(structure, params, allowed), structure, params,
                      widens=self.given is None, scan_params=self._scan_params(structure),
                      where=self.request.where, recall=self.request.recall)  # fmt: skip
        if self.request.where is not None:
            return self._filtered(route, structure, params, allowed)
        self.final = True
        return route

    def _exactly(self, reason: str) -> Route:
        if self.request.where is not None:
            reason = f"filter; {reason}" if self.view.calibration else "filter"
        return _exact(self.view, reason, self.searched, self.request.where)

    def _covers(self, structure: Structure, params: Params) -> bool:
        """Return whether so large a k would have every row scored anyway."""
        slots = slots_for(structure.codes, params, self.request.k)
        return self.request.k > CALIBRATED_K and slots >= structure.rows

    def _calibrated(self) -> Params | None:
        point = self.view.point(self.request.recall)
        entry = self.view.state.manifest.structure
        if point is None or entry is None:
            return None
        return next(params for known, params in entry.settings if known is point)

    def _scan_params(self, structure: Structure) -> Params | None:
        """Return the cheapest measured parameters of a scan that promise the recall."""
        entry = self.view.state.manifest.structure
        if structure.scan is None or entry is None:
            return None
        for point, params in entry.settings:
            if point.bound >= self.request.recall and structure.scans(params):
                return params
        return None

    def _plan(self, structure: Structure, params: Params, allowed: LiveMask | None) -> Plan:
        view, request = self.view, self.request
        used = params
        if self.given is None:
            used = structure.widen(params, candidates_for(request.k, allowed))
        name = structure.kind
        if structure.codes != "float32":
            name += f"/{structure.codes}"
        reason = "given params" if self.given is not None else f"recall {request.recall:g}"
        if request.where is not None:
            reason = f"filter, {reason}"
        tail = view.state.total - structure.rows
        shown = {key: value for key, value in asdict(used).items() if value is not None}
        return Plan(name, reason, self.searched, view.state.live, shown, tail)

    def _filtered(
        self, route: Route, structure: Structure, params: Params, allowed: LiveMask | None
    ) -> Route:
        """Return the cheapest way to search the rows that a filter keeps."""
        calibration, where = self.view.calibration, self.request.where
        assert calibration is not None
        assert where is not None
        assert allowed is not None
        kept, costs = allowed.count, calibration.costs
        self.final = self.view.scans.used(where, note=not self.request.dry)
        ways = {"exact": costs.call_us + kept * costs.row_us}
        if kept >= _LEAST_SHARE * structure.rows:
            ways["structure"] = self._structure_us(calibration, structure, params, allowed)
        if structure.scan is not None and route.scan_params is not None:
            ways["all"] = self._scan_us(costs, structure, route.scan_params, structure.rows, kept)
            if self.final:
                ways["own"] = self._scan_us(costs, structure, route.scan_params, kept, kept)
        ways = {name: round(cost, 1) for name, cost in ways.items()}
        best = _cheapest(ways)
        if best == "exact":
            return _exact(self.view, "filter", self.searched, where, ways)
        if best == "structure":
            return replace(route, plan=replace(route.plan, costs_us=ways))
        plan = replace(
            route.plan,
            method=f"scan/{structure.codes}",
            reason=f"{route.plan.reason}, {_SCANNED[best]}",
            params={"rescore": route.scan_params and route.scan_params.rescore},
            costs_us=ways,
        )
        return replace(route, plan=plan, scan="all" if best == "all" else "own")

    def _structure_us(
        self, calibration: Calibration, structure: Structure, params: Params, allowed: LiveMask
    ) -> float:
        """Return what the structure should take, dropping what the filter does not keep."""
        k = self.request.k
        slots = slots_for(structure.codes, params, k)
        more = candidates_for(slots, allowed)
        growth = math.sqrt(structure.rows / allowed.count)
        point = self.view.point(self.request.recall)
        latency = 1e3 * (point.latency_ms if point else calibration.exact_ms)
        return latency * growth + (more - slots) * calibration.costs.row_us

    def _scan_us(
        self, costs: Costs, structure: Structure, params: Params, scanned: int, kept: int
    ) -> float:
        """Return what a scan of so many rows should take, of which so many may be returned."""
        slots = FILTERED * slots_for(structure.codes, params, self.request.k)
        asked = min(scanned, slots * scanned / max(1, kept))
        scored = min(slots, kept)
        per_row = costs.scan_row_us or 0.0
        return 2 * costs.call_us + scanned * per_row + scored * costs.row_us + asked * _CANDIDATE_US


def _cheapest(ways: dict[str, float]) -> str:
    return min(ways, key=ways.__getitem__)
