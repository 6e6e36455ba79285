"""What the harness asks of a store; imports nothing that one of them brings, to time their imports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stores_data import Batch

K = 10
Vector = NDArray[np.float32]
Answer = tuple[list[str], list[str]]
Ask = Callable[[Vector], Answer]


@dataclass(frozen=True)
class Setting:
    """One way to search.

    Parameters
    ----------
    name : str
        For the tables.
    values : dict
        What the adapter reads.
    filtered : bool
        Whether it is measured with filters, too.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    filtered: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


class Store(ABC):
    """One store with its settings."""

    packages: tuple[str, ...] = ()
    """Distributions whose versions are reported."""

    note = ""
    """How it is built and searched, for the reader of the tables."""

    durability = ""
    """What is on stable storage after each batch of the load."""

    queries = 600
    filtered_queries = 200

    @abstractmethod
    def create(self, folder: Path, dim: int) -> None:
        """Make an empty store in an empty folder."""

    @abstractmethod
    def add(self, batch: Batch) -> None:
        """Add rows."""

    def sync(self) -> None:  # noqa: B027  # many need no more than `add`
        """Bring what was added to stable storage, where `add` does not."""

    def build(self) -> None:  # noqa: B027  # some have nothing to build
        """Make the index that is advised for searching, after the load, and save all."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Open what was closed, in another process, for searching."""

    @abstractmethod
    def close(self) -> None:
        """Release it."""

    @abstractmethod
    def settings(self) -> list[Setting]:
        """Return the ladder; the first one is what its documentation advises."""

    @abstractmethod
    def searcher(self, setting: Setting, below: float | None) -> Ask:
        """Return the function that is timed: a vector in, ids and texts of the k nearest out.

        With `below`, only of rows whose field `u` is less than it.
        """
