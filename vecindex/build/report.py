"""What a build did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class BuildReport:
    """What a build did to an index.

    Parameters
    ----------
    path : str
        The index.
    rows : int
        Rows that it has now.
    added : int
        Rows that are new.
    changed : int
        Rows with another text, vector or metadata than before.
    unchanged : int
        Rows that were there already; after a build that was stopped, those it had put in.
    removed : int
        Rows whose records are gone (with `prune`), or whose text has fewer passages now.
    skipped : int
        Records that could not be read (with `skip_bad`).
    embedded : int
        Texts that went through the model.
    truncated : int
        Texts put in of which the model reads the beginning only, if it tells.
    cache_hits : int or None
        Texts that did not go through the model, thanks to the cache; None without one.
    cache_misses : int or None
        Texts that did, and are in the cache now.
    seconds : float
        Time for everything.
    model_seconds : float
        Time in the model, its loading included.
    """

    path: str
    rows: int
    added: int
    changed: int
    unchanged: int
    removed: int
    skipped: int
    embedded: int
    truncated: int
    cache_hits: int | None
    cache_misses: int | None
    seconds: float
    model_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, as JSON holds them."""
        return asdict(self)
