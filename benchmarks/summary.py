"""Which setting is the fastest at a recall, and how two of them compare: pure functions of results.

Ratios are taken repeat by repeat: in one repeat both sides met the same machine. Below 1 the first
one is ahead. No interpolation: a setting meets a recall or it does not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

TARGETS = (0.95, 0.99, 0.999)
PEERS = {
    0.95: ("hnswlib", "usearch", "voyager", "scann"),
    0.99: ("hnswlib", "usearch", "voyager", "scann"),
    0.999: ("faiss-hnsw32",),
}
"""Whom vecindex must meet at which recall; a name covers all its settings of building."""


@dataclass(frozen=True)
class Ratio:
    """Ours divided by theirs: the median of the repeats, and the spread."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        """Return it as in the tables."""
        if self.least == self.most:
            return f"**{self.median:.2f}**"
        return f"**{self.median:.2f}** ({self.least:.2f} to {self.most:.2f})"


@dataclass(frozen=True)
class Pick:
    """One library at one setting."""

    library: str
    row: dict[str, Any]

    @property
    def p50_ms(self) -> float:
        """Median of the repeats' medians."""
        return statistics.median(self.row["p50_ms"])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the ratio of two sides of the same repeats; of unequally many, of their medians."""
    if len(ours) != len(theirs):
        ours, theirs = [statistics.median(ours)], [statistics.median(theirs)]
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def fastest(libraries: dict[str, Any], names: Iterable[str], target: float) -> Pick | None:
    """Return the fastest setting that reaches a recall among the libraries with these names."""
    good = [pick for pick in _picks(libraries, names) if pick.row["recall"] >= target]
    return min(good, key=lambda pick: pick.p50_ms) if good else None


def _picks(libraries: dict[str, Any], names: Iterable[str]) -> list[Pick]:
    """Return all settings of the libraries with these names."""
    wanted = tuple(names)
    return [
        Pick(library, row)
        for library, entry in libraries.items()
        if library.startswith(wanted)
        for row in entry["settings"]
    ]


def races(libraries: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the comparison with the best peer at each recall.

    Where no peer reaches it, that is the fastest of those that come nearest.
    """
    rows = []
    for target in TARGETS:
        ours = fastest(libraries, ["vecindex:"], target)
        recalls = [pick.row["recall"] for pick in _picks(libraries, PEERS[target])]
        theirs = fastest(libraries, PEERS[target], min(target, max(recalls, default=target)))
        compared = ratio(ours.row["p50_ms"], theirs.row["p50_ms"]) if ours and theirs else None
        rows.append({"target": target, "ours": ours, "theirs": theirs, "ratio": compared})
    return rows


def others(libraries: dict[str, Any]) -> dict[str, tuple[str, str, Ratio]]:
    """Return the ratios of building, memory and exact search that the run allows."""
    found: dict[str, tuple[str, str, Ratio]] = {}
    auto = libraries.get("vecindex:auto")
    hnswlib = libraries.get("hnswlib-16")
    hnsw = libraries.get("faiss-hnsw32")
    if auto and hnswlib:
        alone = [auto["parts_s"]["optimize"]]  # of the first build, as all parts
        found["build time of the structure, choice and calibration included"] = (
            "vecindex:auto",
            "hnswlib-16",
            ratio(alone, hnswlib["build_s"][:1]),
        )
        found["build time with the durable load before"] = (
            "vecindex:auto",
            "hnswlib-16",
            ratio(auto["build_s"], hnswlib["build_s"]),
        )
    if auto and hnsw:
        sizes = [[float(one["size_bytes"]["structure"])] for one in (auto, hnsw)]
        found["bytes of the structure"] = ("vecindex:auto", "faiss-hnsw32", ratio(*sizes))
        sizes = [[float(one["size_bytes"]["index"])] for one in (auto, hnsw)]
        found["bytes with the vectors"] = ("vecindex:auto", "faiss-hnsw32", ratio(*sizes))
    exact = [
        row
        for entry in [libraries.get("vecindex:flat"), auto]
        if entry
        for row in entry["settings"]
        if row["setting"].get("exact")
    ]
    if exact and "faiss-flat" in libraries:
        scan = libraries["faiss-flat"]["settings"][0]
        found["exact search"] = (
            "vecindex",
            "faiss-flat",
            ratio(exact[0]["p50_ms"], scan["p50_ms"]),
        )
    return found


def unfiltered(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a store's searches without a filter that were measured."""
    return [row for row in entry["searches"] if row["below"] is None and "p50_ms" in row]


def same_recall(ours: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, for each search of a store, our fastest one that finds as much, and the ratio."""
    rows = []
    for row in unfiltered(theirs):
        good = [one for one in unfiltered(ours) if one["recall"] >= row["recall"]]
        best = min(good, key=lambda one: statistics.median(one["p50_ms"]), default=None)
        compared = ratio(best["p50_ms"], row["p50_ms"]) if best else None
        rows.append({"theirs": row, "ours": best, "ratio": compared})
    return rows


def same_filter(ours: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, for each filtered search of a store, our default with the same filter, and the ratio."""
    default = {
        row["below"]: row
        for row in reversed(ours["searches"])
        if row["below"] is not None and "p50_ms" in row
    }
    return [
        {
            "theirs": row,
            "ours": default[row["below"]],
            "ratio": ratio(default[row["below"]]["p50_ms"], row["p50_ms"]),
        }
        for row in theirs["searches"]
        if row["below"] in default and "p50_ms" in row
    ]
