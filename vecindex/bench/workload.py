"""What is asked of an index or of vectors, and how often: the choices of one measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vecindex.errors import InputError
from vecindex.spec import parse_spec

Progress = Callable[[str, int, int | None], None]

STRUCTURES = ("flat/pq4", "ivf/pq4", "hnsw/sq4", "hnsw")
"""The structures with their codes that are built when none are named."""


@dataclass(frozen=True)
class Workload:
    """How to measure.

    Parameters
    ----------
    k : tuple of int
        Neighbours asked for; values beyond the number of rows are cut to it.
    sample : int
        Queries to draw when none are given, and at most so many of a data set's.
    seed : int
        Of everything that is drawn.
    repeats : int
        Rounds of timing.
    structures : tuple of str
        Specs such as `"hnsw"`, each of which is built in a temporary index.
    filters : tuple of float
        Shares of the rows, in (0, 1], that filters keep.
    deleted : tuple of float
        Shares of the rows, in (0, 1), that are removed after building.
    tail : tuple of float
        Shares of the rows, in (0, 1), that are added after building.

    Raises
    ------
    InputError
        If a value is out of range, or a structure is unknown.
    """

    k: tuple[int, ...] = (1, 10, 100)
    sample: int = 500
    seed: int = 0
    repeats: int = 5
    structures: tuple[str, ...] = ()
    filters: tuple[float, ...] = ()
    deleted: tuple[float, ...] = ()
    tail: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if self.repeats < 1 or not self.k or min(self.k) < 1:
            raise InputError(
                f"k and repeats must be at least 1, not k={list(self.k)}, repeats={self.repeats}"
            )
        if self.sample < 1:
            raise InputError(f"sample must be at least 1, not {self.sample}")
        for spec in self.structures:
            parse_spec(spec)
        for name, least_out, shares in (
            ("filters", 1.0000001, self.filters),
            ("deleted", 1.0, self.deleted),
            ("tail", 1.0, self.tail),
        ):
            if bad := [share for share in shares if not 0 < share < least_out]:
                raise InputError(f"{name}: {percent(bad[0])} is not a share of the rows")

    @property
    def conditions(self) -> bool:
        """Whether filters, removed rows or new rows are measured, too."""
        return bool(self.filters or self.deleted or self.tail)

    @property
    def copies(self) -> bool:
        """Whether temporary indexes have to be built."""
        return bool(self.structures) or self.conditions


def percent(share: float) -> str:
    """Return a share as people write it, as in `0.1%`."""
    return f"{share * 100:.10g}%"


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares that a list of percentages names, as in `50%,10%,0.1%`.

    Parameters
    ----------
    text : str
        Numbers with a percent sign, comma separated.

    Returns
    -------
    tuple of float
        As fractions of one.

    Raises
    ------
    InputError
        If one of them is not a percentage above 0% and up to 100%.
    """
    return tuple(_share(part.strip()) for part in text.split(","))


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / 100 if text.endswith("%") else None
    except ValueError:
        share = None
    if share is None or not 0 < share <= 1:
        raise InputError(
            f"{text!r} is not a share of the rows: write percentages above 0% and up to 100%, "
            "as in 50%,10%,0.1%"
        )
    return share
