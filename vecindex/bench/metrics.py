"""What is measured: one table of metrics, recall that counts ties, and how times are summed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vecindex.arrays import BoolArray, Float32Array

Ids = NDArray[Any]
Float64Array = NDArray[np.float64]

TIE = 1e-6
"""A row that scores this close to the k-th true score is as good an answer as that row."""


@dataclass(frozen=True)
class Metric:
    """One column of a report.

    Parameters
    ----------
    name : str
        The field of `BenchRow`.
    label : str
        The column's heading.
    unit : str
        Empty for a share.
    better : str
        `"higher"` or `"lower"`.
    form : str
        Format of the numbers in tables.
    what : str
        What the number is.
    scale : float
        What a number is multiplied with before it is shown in `unit`.
    brief : bool
        Whether it is shown where there is little room, as on a terminal.
    """

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower"]
    form: str
    what: str
    scale: float = 1.0
    brief: bool = True

    def text(self, number: float | None) -> str:
        """Return a number as tables show it, a dash where there is none."""
        return "-" if number is None else format(number * self.scale, self.form)

    @property
    def heading(self) -> str:
        """The label with unit and direction, as in `p50 (ms, lower is better)`."""
        unit = f"{self.unit}, " if self.unit else ""
        return f"{self.label} ({unit}{self.better} is better)"


METRICS = (
    Metric("recall", "recall@k", "", "higher", ".4f", "share of the exact k found, ties counted"),
    Metric(
        "recall_error", "recall ±", "", "lower", ".4f", "standard error over queries", brief=False
    ),
    Metric("p50_ms", "p50", "ms", "lower", ".3f", "median over queries asked one at a time"),
    Metric("p95_ms", "p95", "ms", "lower", ".3f", "95th percentile of the same times"),
    Metric("p99_ms", "p99", "ms", "lower", ".3f", "99th percentile of the same times"),
    Metric(
        "p50_spread_ms", "p50 spread", "ms", "lower", ".3f", "range of the repeats' medians",
        brief=False,
    ),
    Metric("batch_qps", "batch", "queries/s", "higher", ",.0f", "all queries in one call, median"),
    Metric(
        "batch_spread_qps", "batch spread", "queries/s", "lower", ",.0f", "range of the repeats",
        brief=False,
    ),
    Metric("build_s", "build", "s", "lower", ",.1f", "optimize: structure and calibration"),
    Metric("size_bytes", "disk", "MB", "lower", ",.1f", "the index directory", 1e-6),
    Metric("memory_bytes", "memory", "MB", "lower", ",.1f", "the structure in memory", 1e-6),
    Metric(
        "score_error", "score error", "", "lower", ".1e", "largest error of a returned score",
        brief=False,
    ),
)  # fmt: skip
"""Every number of a report, in the order of its columns."""


def recalls(ids: Ids, scores: Float32Array, kth: Float32Array, k: int) -> Float64Array:
    """Return the share of the exact k that each query found, ties counted.

    Parameters
    ----------
    ids : ndarray of int64 or object, shape (q, k')
        The answers; fewer than k are that many found at most.
    scores : ndarray of float32, shape (q, k')
        Their recomputed cosines, NaN where there is no answer, or one that may not be there.
    kth : ndarray of float32, shape (q,)
        The k-th best exact cosine of each query.
    k : int
        Answers that should be there.

    Returns
    -------
    ndarray of float64, shape (q,)
        In [0, 1].

    Notes
    -----
    Any row that scores at least the k-th exact score, less `TIE`, counts: which of several equal
    rows is returned does not matter. An id that an answer repeats counts once.
    """
    good: BoolArray = (scores >= kth[:, None] - TIE) & _first_occurrences(ids)
    shares: Float64Array = good.sum(axis=1) / k
    return shares


def recall_summary(shares: Float64Array) -> dict[str, float]:
    """Return the mean recall of the queries, and its standard error.

    Parameters
    ----------
    shares : ndarray of float64, shape (q,)
        The recall of each query.

    Returns
    -------
    dict of str to float
        `recall` and `recall_error`; the error of a single query is unknown and given as 0.
    """
    error = shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else 0.0
    return {"recall": float(shares.mean()), "recall_error": float(error)}


def _first_occurrences(ids: Ids) -> BoolArray:
    first = np.zeros(ids.shape, dtype=np.bool_)
    for row, answer in enumerate(ids.tolist()):
        seen: set[Any] = set()
        for column, one in enumerate(answer):
            first[row, column] = one not in seen
            seen.add(one)
    return first


def latency_summary(times_ms: Float64Array) -> dict[str, float]:
    """Return percentiles over the queries, and how far the repeats' medians lie apart.

    Parameters
    ----------
    times_ms : ndarray of float64, shape (repeats, q)
        The time of each query in each repeat, in milliseconds.

    Returns
    -------
    dict of str to float
        `p50_ms`, `p95_ms`, `p99_ms` and `p50_spread_ms`.

    Notes
    -----
    A query's time is the median of its repeats: what else the machine did now and then is left
    out, what makes a query slow every time stays in.
    """
    p50, p95, p99 = np.percentile(np.median(times_ms, axis=0), (50, 95, 99))
    spread = np.ptp(np.median(times_ms, axis=1))
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "p50_spread_ms": float(spread),
    }


def throughput_summary(seconds: Float64Array, queries: int) -> dict[str, float]:
    """Return the queries per second of the repeats: their median and how far they lie apart.

    Parameters
    ----------
    seconds : ndarray of float64, shape (repeats,)
        The time of one call with all queries.
    queries : int
        Their number.

    Returns
    -------
    dict of str to float
        `batch_qps` and `batch_spread_qps`.
    """
    rates = queries / seconds
    return {"batch_qps": float(np.median(rates)), "batch_spread_qps": float(np.ptp(rates))}
