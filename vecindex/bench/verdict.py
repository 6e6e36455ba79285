"""Whether a report is good enough: against a least recall, and against an earlier report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vecindex.bench.report import INDEX, BenchReport, BenchRow, ConditionRow
from vecindex.errors import InputError

_K = 10
_SIGMAS = 2.0  # standard errors beyond which a difference is not noise
_ROUNDING = 1e-9
_MACHINE = ("cpu", "cores")

AnyRow = BenchRow | ConditionRow


def shortfall(report: BenchReport, least: float) -> str | None:
    """Return what is wrong if the default's recall@10 is below `least`, None if it is not.

    Parameters
    ----------
    report : BenchReport
        Of an index: its own default counts. Of vectors: the best of the structures' defaults.
    least : float
        Recall.

    Returns
    -------
    str or None
        One sentence.

    Raises
    ------
    InputError
        If nothing was measured at k = 10 or below.
    """
    defaults = report.default(_K)
    if not defaults:
        raise InputError(f"no recall@{_K} was measured, which is what is held against {least:g}")
    if INDEX in defaults:
        row, whose = defaults[INDEX], "the index's calibrated default"
    else:
        row = max(defaults.values(), key=lambda one: one.recall)
        whose = f"the best calibrated default, that of {row.structure},"
    if row.recall >= least:
        return None
    return (
        f"recall is too low: {whose} has recall@{row.k} {row.recall:.4f} "
        f"(± {row.recall_error:.4f}) over {report.facts['queries']} queries, below the "
        f"{least:g} asked for"
    )


@dataclass(frozen=True)
class Comparison:
    """What became of an earlier report's rows.

    Parameters
    ----------
    compared : int
        Rows that both reports have.
    regressions : tuple of str
        A sentence for each row that became worse.
    notes : tuple of str
        What a reader should know.
    """

    compared: int
    regressions: tuple[str, ...]
    notes: tuple[str, ...]


def compare(report: BenchReport, baseline: BenchReport, tolerance: float = 1.25) -> Comparison:
    """Return which rows became worse than they were in an earlier report.

    Parameters
    ----------
    report : BenchReport
        The new one.
    baseline : BenchReport
        The earlier one, on the same data with the same queries.
    tolerance : float
        The median time of one query may be so many times what it was.

    Returns
    -------
    Comparison
        Rows are compared with those of the same structure, setting and k.

    Raises
    ------
    InputError
        If data or queries differ, or no row is in both.

    Notes
    -----
    A lower recall counts if the difference is more than two standard errors of it and one
    answer: the same data can give another graph.
    """
    _same_data(report.facts, baseline.facts)
    old, new = _named(baseline), _named(report)
    both = [name for name in new if name in old]
    if not both:
        raise InputError("the baseline has no row in common with this report: other structures")
    queries = report.facts["queries"]
    worse = [
        text
        for name in both
        for text in _regressions(name, new[name], old[name], queries, tolerance)
    ]
    notes = []
    if missing := len(old) - len(both):
        notes.append(f"rows of the baseline that were not measured this time: {missing}")
    machines = [
        [facts["machine"].get(name) for name in _MACHINE]
        for facts in (report.facts, baseline.facts)
    ]
    if machines[0] != machines[1]:
        notes.append(
            "the baseline was measured on another machine: times compare the machines, too"
        )
    return Comparison(len(both), tuple(worse), tuple(notes))


def _same_data(new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    for name, what in (
        ("dim", "dimension"),
        ("rows", "number of rows"),
        ("sha256", "hash of the rows"),
        ("queries_sha256", "hash of the queries"),
    ):
        if new.get(name) != old.get(name):
            raise InputError(
                f"the baseline was measured on other data: {what} {old.get(name)}, now "
                f"{new.get(name)}; give the same data, seed and sample, or a new baseline"
            )


def _named(report: BenchReport) -> dict[str, AnyRow]:
    rows: list[AnyRow] = [*report.rows, *report.conditions]
    return {f"{row.structure}, {row.name}, k={row.k}": row for row in rows}


def _regressions(name: str, new: AnyRow, old: AnyRow, queries: int, tolerance: float) -> list[str]:
    found = []
    answers = new.queries * new.expected if isinstance(new, ConditionRow) else queries * new.k
    noise = _SIGMAS * math.hypot(new.recall_error, old.recall_error) + 1 / answers + _ROUNDING
    if old.recall - new.recall > noise:
        found.append(
            f"{name}: recall {new.recall:.4f}, was {old.recall:.4f} (noise up to {noise:.4f})"
        )
    ratio = new.p50_ms / old.p50_ms
    if ratio > tolerance:
        found.append(
            f"{name}: p50 {new.p50_ms:.3f} ms, was {old.p50_ms:.3f} ms "
            f"({ratio:.2f} times, tolerance {tolerance:g})"
        )
    return found
