"""What the harness asks of a library that searches vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import folder_bytes
from vecindex.arrays import Float32Array

Setting = dict[str, Any]
Ask = Callable[[Float32Array], Sequence[int]]

SAVED = "saved"
"""The name of the saved index, a file or a folder."""

EF = (10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
      448, 512, 640, 768, 1024)  # fmt: skip
"""Candidates kept while walking a graph, dense enough for every graph to be at its own best."""


def saved_whole(folder: Path) -> dict[str, int]:
    """Return what `Peer.save` returns where the rows are part of the one file."""
    size = folder_bytes(folder / SAVED)
    return {"index": size, "structure": size}


class Peer(ABC):
    """One library with the settings of its build."""

    packages: tuple[str, ...] = ()
    """Distributions whose versions are reported."""

    rising = True
    """Whether the settings' recall only rises, so that those after a perfect one say nothing."""

    note = ""
    """How it is built, for the reader of the tables."""

    @abstractmethod
    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Build an index of rows 0..n-1 with all cores; return the seconds of its parts, if any."""

    @abstractmethod
    def settings(self) -> list[Setting]:
        """Return the ladder of search settings, by rising cost."""

    @abstractmethod
    def searcher(self, setting: Setting) -> Ask:
        """Return the function that is timed: a query of shape (1, dim) in, row numbers out."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, int]:
        """Save the index as `saved`; return bytes: `index`, and `structure` without float32 rows."""

    @abstractmethod
    def load(self, folder: Path, dim: int) -> None:
        """Open what `save` wrote, in another process, as somebody would who wants to search it."""

    def describe(self, setting: Setting) -> str:
        """Return how such a search is carried out, if there is more to say than the setting."""
        return ""
