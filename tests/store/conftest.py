"""Directories and stores, closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sample_rows import DIM

from vecindex.store.files import Directory
from vecindex.store.manifest import Manifest
from vecindex.store.store import Store


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A directory that exists and is empty."""
    return Directory(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where no index is yet."""
    return tmp_path / "x.vx"


@pytest.fixture
def create(path: Path) -> Iterator[Callable[..., Store]]:
    """Create a store; closed afterwards."""
    made = []

    def make(*, sync: bool = True, dim: int | None = DIM) -> Store:
        manifest = Manifest(generation=0, dim=dim, spec={"kind": "flat"}, target_recall=0.95)
        made.append(Store.create(Directory(path), manifest, sync=sync))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def reopen(path: Path) -> Iterator[Callable[..., Store]]:
    """Open the store at `path`, or another; closed afterwards."""
    made = []

    def make(where: Path | None = None, *, writable: bool = False, sync: bool = True) -> Store:
        made.append(Store.open(Directory(where or path), writable=writable, sync=sync))
        return made[-1]

    yield make
    for store in made:
        store.close()
