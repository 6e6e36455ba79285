"""Clustered data, rows mapped from a file as the store maps them, and built structures."""

from __future__ import annotations

import mmap
from functools import lru_cache

import numpy as np
import pytest
from ann_data import (
    CASES,
    DIM,
    ROWS,
    SPECS,
    Builder,
    Case,
    Loader,
    Mapper,
    clustered,
    read_mapped,
)

from vecindex.ann import Structure, build, compiled, load, write
from vecindex.arrays import HEADER_BYTES, Float32Array, MappedRows
from vecindex.spec import StructureSpec


@pytest.fixture(params=["compiled", "by FAISS"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score and scan with what was compiled, and as where nothing was."""
    if request.param != "compiled":
        monkeypatch.setattr(compiled, "scores", None)
    elif compiled.scores is None:
        pytest.skip("nothing was compiled")


@pytest.fixture(scope="session")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Mapper:
    """Write rows into a file and map it privately, as the store does."""
    folder = tmp_path_factory.mktemp("vectors")

    def make(rows: Float32Array) -> MappedRows:
        path = folder / f"{len(list(folder.iterdir()))}.f32"
        path.write_bytes(b"\xab" * HEADER_BYTES + rows.tobytes())
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        buffer = np.frombuffer(data, np.uint8)
        view = buffer[HEADER_BYTES:].view(np.float32).reshape(rows.shape)
        view.flags.writeable = False
        return MappedRows(view, buffer)

    return make


@pytest.fixture(scope="session")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Write a structure into a file and load it from there."""
    folder = tmp_path_factory.mktemp("structures")

    def make(structure: Structure, spec: StructureSpec, vectors: MappedRows) -> Structure:
        path = folder / f"{len(list(folder.iterdir()))}.faiss"
        with path.open("wb") as file:
            write(structure, file.write)
        return load(spec, read_mapped(path), vectors)

    return make


@pytest.fixture(scope="session")
def vectors(mapped: Mapper) -> MappedRows:
    """Give 6,000 clustered rows."""
    return mapped(clustered(6000, seed=1))


@pytest.fixture(scope="session")
def queries() -> Float32Array:
    """Give 100 queries from the same clusters, none of them a row."""
    return clustered(100, seed=2)


@pytest.fixture(scope="session")
def built(mapped: Mapper) -> Builder:
    """Build a structure by name and dimension when it is first asked for."""

    @lru_cache
    def rows(dim: int) -> MappedRows:
        return mapped(clustered(ROWS, seed=1, dim=dim))

    @lru_cache
    def make(name: str, dim: int) -> Case:
        vectors, asked = rows(dim), clustered(100, seed=2, dim=dim)
        return Case(name, SPECS[name], vectors, asked, build(SPECS[name], vectors))

    return make


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest, built: Builder) -> Case:
    """Give each structure with each of its codes in turn, in several dimensions."""
    return built(*request.param)


@pytest.fixture(params=SPECS)
def plain(request: pytest.FixtureRequest, built: Builder) -> Case:
    """Give each structure with each of its codes in turn, in one dimension."""
    return built(request.param, DIM)
