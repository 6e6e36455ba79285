"""What goes into a store beside the vectors: ids, texts of about 90 bytes, metadata to filter by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 1000
"""Rows that are durable together."""

KEPT = (0.5, 0.1, 0.01, 0.001)
"""Shares of the rows that the filters `u < share` keep."""

_KINDS = ("note", "mail", "page", "chat")
_WORDS = (
    "index", "store", "query", "vector", "search", "filter", "record", "segment", "cache", "reader",
    "writer", "package", "library", "system", "network", "kernel", "driver", "module", "format",
    "archive", "window", "signal", "stream", "thread", "memory", "table",
)  # fmt: skip
_GRID = 1 << 20  # values of u are multiples of 1/2**20: the same as float32 and as float64


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows to add in one call, made from their numbers alone."""

    ids: list[str]
    texts: list[str]
    vectors: NDArray[np.float32]
    metadata: list[dict[str, Any]]


def batch(vectors: NDArray[np.float32], first: int, u: NDArray[np.float64]) -> Batch:
    """Return the batch that starts at a row."""
    numbers = range(first, min(first + BATCH, len(vectors)))
    return Batch(
        [f"row-{n}" for n in numbers],
        [text(n) for n in numbers],
        np.array(vectors[numbers.start : numbers.stop]),
        [{"n": n, "kind": _KINDS[n % 4], "u": float(u[n])} for n in numbers],
    )


def text(number: int) -> str:
    """Return the text of a row: its number and words that follow from it."""
    state, words = number + 1, []
    for _ in range(11):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        words.append(_WORDS[(state >> 33) % len(_WORDS)])
    return f"Text {number}: {' '.join(words)}"


def uniform(rows: int) -> NDArray[np.float64]:
    """Return the field `u` of all rows, uniform in [0, 1)."""
    return np.random.default_rng(1).integers(_GRID, size=rows) / _GRID


def number(record_id: str, found_text: str) -> int:
    """Return the row that an id names, -1 if the text beside it is another row's."""
    row = int(record_id.removeprefix("row-"))
    return row if found_text == text(row) else -1
