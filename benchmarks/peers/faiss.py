"""FAISS called directly: the exact scan, and the graph that users build first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss

from benchmarks.peers.base import EF, SAVED, Ask, Peer, Setting, saved_whole
from benchmarks.truth import K
from vecindex.arrays import Float32Array


class _Faiss(Peer):
    packages = ("faiss-cpu",)
    index: Any = None

    def save(self, folder: Path) -> dict[str, int]:
        """One file."""
        faiss.write_index(self.index, str(folder / SAVED))
        return saved_whole(folder)

    def load(self, folder: Path, dim: int) -> None:
        """Into memory, its default."""
        self.index = faiss.read_index(str(folder / SAVED))

    def _searcher(self, params: Any) -> Ask:
        faiss.omp_set_num_threads(1)
        index = self.index
        return lambda query: index.search(query, K, params=params)[1][0]


class FaissFlat(_Faiss):
    """`IndexFlatIP`: every row, every time."""

    note = "IndexFlatIP"

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Copy the rows."""
        self.index = faiss.IndexFlatIP(rows.shape[1])
        self.index.add(rows)
        return {}

    def settings(self) -> list[Setting]:
        """There is only one."""
        return [{}]

    def searcher(self, setting: Setting) -> Ask:
        """Scan on one thread."""
        return self._searcher(None)


class FaissHnsw(_Faiss):
    """`IndexHNSWFlat`, inner product."""

    def __init__(self, m: int) -> None:
        self.m = m
        self.note = f"IndexHNSWFlat, M={m}, efConstruction=100"

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Build on all cores; efConstruction 100 instead of FAISS's 40, which costs it recall."""
        self.index = faiss.IndexHNSWFlat(rows.shape[1], self.m, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 100
        self.index.add(rows)
        return {}

    def settings(self) -> list[Setting]:
        """The ladder of efSearch."""
        return [{"efSearch": ef} for ef in EF]

    def searcher(self, setting: Setting) -> Ask:
        """Walk on one thread."""
        return self._searcher(faiss.SearchParametersHNSW(**setting))
