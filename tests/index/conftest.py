"""Small indexes, and what tells whether anything of one has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecindex import VectorIndex


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.vx"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def create(path: Path) -> Iterator[Callable[..., VectorIndex]]:
    """Create an index at `path`, by default without upkeep in the background; closed afterwards."""
    made = []

    def make(**options: Any) -> VectorIndex:
        made.append(VectorIndex.create(path, **{"maintenance": "manual"} | options))
        return made[-1]

    yield make
    for index in made:
        index.close()


@pytest.fixture
def reopen(path: Path) -> Iterator[Callable[..., VectorIndex]]:
    """Open the index at `path`; closed afterwards."""
    made = []

    def make(mode: Any = "r", **options: Any) -> VectorIndex:
        made.append(VectorIndex.open(path, mode, **{"maintenance": "manual"} | options))
        return made[-1]

    yield make
    for index in made:
        index.close()


def stored_bytes(path: Path) -> dict[str, bytes]:
    """Return all files of a directory; what LOCK says of its holder is no part of the data."""
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}


@pytest.fixture(name="stored_bytes")
def _stored_bytes() -> Callable[[Path], dict[str, bytes]]:
    return stored_bytes
