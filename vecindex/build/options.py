"""What a build can be told besides its sources, and what must stay the same between two of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from vecindex.errors import CorruptIndexError, InputError
from vecindex.store.files import Directory

Progress: TypeAlias = Callable[[str, int, int | None], object]
"""Called with a stage's name, what is done and the total."""

NAME = "build.json"
"""The file beside an index's own that keeps what later builds of it must agree with."""


@dataclass(frozen=True)
class BuildOptions:
    """How `build` works.

    Parameters
    ----------
    batch_rows : int
        Records read, embedded and made durable at a time: what a kill can lose.
    chunk : int or None
        Split texts into passages of at most so many of the model's tokens (words, for an embedder
        without tokens). A record `id` becomes `id#0`, `id#1` ..., each with the record's metadata
        and its id under `"parent"`.
    overlap : int
        Tokens, or words, that a passage has in common with the one before.
    prune : bool
        Remove the rows of an existing index whose records are no longer in the sources.
    skip_bad : bool
        Leave out and count records that cannot be read, instead of stopping there.
    cache : str or path, or None
        A directory for an embedding cache, see `CachedEmbedder`; other builds may share it.
    split : str or None
        Which split of data sets that have several.

    Raises
    ------
    InputError
        If a number cannot be used.
    """

    batch_rows: int = 1000
    chunk: int | None = None
    overlap: int = 0
    prune: bool = False
    skip_bad: bool = False
    cache: str | os.PathLike[str] | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        least = {"batch_rows": 1, "overlap": 0} | ({} if self.chunk is None else {"chunk": 1})
        for name, limit in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < limit:
                raise InputError(f"{name} must be an int of at least {limit}, not {value!r}")
        if self.overlap >= (self.chunk or 1):
            above = "chunk, which is absent" if self.chunk is None else f"chunk, {self.chunk}"
            raise InputError(f"overlap must be less than {above}: {self.overlap}")


@dataclass(frozen=True)
class Settled:
    """What decides about ids: it is kept with the index, and must be the same in each build.

    Parameters
    ----------
    ids : str
        `"column"`, or `"position"` where sources have no column of ids.
    chunk : int or None
        As in `BuildOptions`.
    overlap : int
        As in `BuildOptions`.
    """

    ids: str
    chunk: int | None
    overlap: int

    def check(self, directory: Directory, rows: int) -> None:
        """Compare this with what is kept with an index of so many rows.

        Raises
        ------
        InputError
            If it differs; or if the index was not built from sources, and these would give it ids
            by position, which could be those of other rows.
        """
        stored = _stored(directory)
        if not rows or stored == vars(self):
            return
        if stored is not None:
            differing = [name for name, value in vars(self).items() if stored.get(name) != value]
            old = ", ".join(f"{name}={stored.get(name)}" for name in differing)
            new = ", ".join(f"{name}={getattr(self, name)}" for name in differing)
            raise InputError(
                f"{directory.path} was built with {old}, not with {new}: build with the same as "
                "before, or another index"
            )
        if self.ids == "position":
            raise InputError(
                f"{directory.path} was not made by a build, so ids by position could replace "
                "other rows: name the column of ids"
            )

    def keep(self, directory: Directory) -> None:
        """Keep this with an index."""
        if _stored(directory) != vars(self):
            directory.write(NAME, json.dumps(vars(self)).encode() + b"\n")


def _stored(directory: Directory) -> dict[str, Any] | None:
    try:
        found = json.loads(directory.read(NAME))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise CorruptIndexError(
            f"{directory.path / NAME} cannot be read: {error}. Remove it, and build with the same "
            "passages and ids as before"
        ) from error
    return found if isinstance(found, dict) else {}
