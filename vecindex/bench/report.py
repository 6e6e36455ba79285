"""What a measurement gives: rows of numbers with everything needed to read or repeat them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from vecindex.bench.metrics import METRICS
from vecindex.errors import InputError

FORMAT = 2
"""Version of the JSON document."""

INDEX = "this index"
"""The structure's label in the rows of an index that exists, whatever it is built with."""


@dataclass(frozen=True)
class BenchRow:
    """One setting of one structure at one k; `METRICS` says what the numbers are.

    Parameters
    ----------
    structure : str
        `"this index"`, or the spec of a temporary index, as in `"hnsw"`.
    name : str
        `"exact"`, `"default"` (as calibrated), or parameters with their values.
    k : int
        Neighbours asked for.
    plan : str
        How the index carried the search out.
    recall : float
        Share of the exact k found, ties counted.
    recall_error : float
        Standard error of `recall` over the queries.
    p50_ms, p95_ms, p99_ms : float
        Percentiles over the queries, each asked alone, in milliseconds.
    p50_spread_ms : float
        Largest less smallest median of the repeats, in milliseconds.
    batch_qps : float
        Queries per second when all are asked in one call.
    batch_spread_qps : float
        Largest less smallest of the repeats.
    build_s : float or None
        Seconds to build and calibrate the structure; None where it was there already.
    size_bytes, memory_bytes : int or None
        Bytes of the index on disk, and of the structure in memory.
    score_error : float
        Largest difference of a returned score from the recomputed cosine.
    """

    structure: str
    name: str
    k: int
    plan: str
    recall: float
    recall_error: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p50_spread_ms: float
    batch_qps: float
    batch_spread_qps: float
    build_s: float | None
    size_bytes: int | None
    memory_bytes: int | None
    score_error: float


@dataclass(frozen=True)
class ConditionRow:
    """A structure's default under a condition: a filter, removed rows, new rows.

    Parameters
    ----------
    structure : str
        As in `BenchRow`; always measured on a temporary copy.
    name : str
        The condition, as in `"filter 10%"`.
    k : int
        Neighbours asked for.
    queries : int
        Queries asked.
    plan : str
        How the index carried the search out.
    matches : int
        Rows that may be returned.
    expected : int
        Rows that every query must get: the lesser of k and `matches`.
    returned : int
        Allowed rows that the worst-off query got.
    recall : float
        Share of the exact `expected` found, ties counted.
    recall_error : float
        Standard error of `recall` over the queries.
    first_ms : float
        The first search under the condition, in milliseconds: a filter is evaluated then.
    p50_ms : float
        Median of one query alone afterwards, in milliseconds.
    plain_p50_ms : float
        The same without the condition.
    ratio : float
        Median over the repeats of the ratio of the two.
    ratio_spread : float
        Largest less smallest ratio of the repeats.
    """

    structure: str
    name: str
    k: int
    queries: int
    plan: str
    matches: int
    expected: int
    returned: int
    recall: float
    recall_error: float
    first_ms: float
    p50_ms: float
    plain_p50_ms: float
    ratio: float
    ratio_spread: float


Row = TypeVar("Row", BenchRow, ConditionRow)


@dataclass(frozen=True)
class BenchReport:
    """One measurement.

    Parameters
    ----------
    facts : dict
        The data (name, hash, rows, dimension), the index, the queries (number, hash, source), seed,
        repeats, the machine, the versions, threads and command.
    rows : tuple of BenchRow
        By structure and k.
    conditions : tuple of ConditionRow
        By structure.
    """

    facts: dict[str, Any] = field(repr=False)
    rows: tuple[BenchRow, ...]
    conditions: tuple[ConditionRow, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict that json can write, the metrics' units and directions included."""
        return {
            "format": FORMAT,
            "facts": self.facts,
            "metrics": [asdict(metric) for metric in METRICS],
            "rows": [asdict(row) for row in self.rows],
            "conditions": [asdict(row) for row in self.conditions],
        }

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "report") -> BenchReport:
        """Return the report that `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON.
        name : str
            How messages call it.

        Returns
        -------
        BenchReport
            Equal to the one that was written.

        Raises
        ------
        InputError
            If this is no such report, or one of another version.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}: not JSON: {error}") from error
        if not isinstance(data, dict) or not isinstance(data.get("facts"), dict):
            raise InputError(f"{name} is not a report of `vecindex bench --out`")
        if data.get("format") != FORMAT:
            raise InputError(
                f"{name} has report format {data.get('format')!r}, this version compares "
                f"format {FORMAT}: measure the baseline again"
            )
        rows = _rows(BenchRow, data.get("rows"), name)
        return cls(data["facts"], rows, _rows(ConditionRow, data.get("conditions"), name))

    def default(self, k: int = 10) -> dict[str, BenchRow]:
        """Return each structure's calibrated default at k, or at the largest k below that."""
        found = {}
        for row in sorted(self.rows, key=lambda row: row.k):
            if row.name == "default" and row.k <= k:
                found[row.structure] = row
        return found

    @property
    def structures(self) -> tuple[str, ...]:
        """The labels of the structures, in the order of the rows."""
        return tuple(dict.fromkeys(row.structure for row in self.rows))

    @property
    def ks(self) -> tuple[int, ...]:
        """The numbers of neighbours that were asked for, rising."""
        return tuple(sorted({row.k for row in self.rows}))


def _rows(kind: type[Row], entries: Any, name: str) -> tuple[Row, ...]:
    names = {one.name for one in fields(kind)}
    whole = isinstance(entries, list) and all(
        isinstance(entry, dict) and set(entry) == names for entry in entries
    )
    if not whole:
        raise InputError(f"{name} is not a whole report of `vecindex bench --out`")
    return tuple(kind(**entry) for entry in entries)
