"""hnswlib, compiled from its source on this machine, as pip does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from benchmarks.peers.base import EF, SAVED, Ask, Peer, Setting, saved_whole
from benchmarks.truth import K
from vecindex.arrays import Float32Array


class HnswlibPeer(Peer):
    """`hnswlib.Index` in the space of inner products: the rows are unit rows already."""

    packages = ("hnswlib",)

    def __init__(self, m: int) -> None:
        self.m = m
        self.note = f"space 'ip', M={m}, ef_construction=200 (its README's)"
        self.index: Any = None

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Build with all cores, its default."""
        self.index = hnswlib.Index(space="ip", dim=rows.shape[1])
        self.index.init_index(max_elements=len(rows), M=self.m, ef_construction=200, random_seed=0)
        self.index.add_items(rows, np.arange(len(rows)))
        return {}

    def settings(self) -> list[Setting]:
        """The ladder of ef."""
        return [{"ef": ef} for ef in EF]

    def searcher(self, setting: Setting) -> Ask:
        """Walk on one thread."""
        self.index.set_ef(setting["ef"])
        index = self.index
        return lambda query: index.knn_query(query, k=K, num_threads=1)[0][0]

    def save(self, folder: Path) -> dict[str, int]:
        """One file."""
        self.index.save_index(str(folder / SAVED))
        return saved_whole(folder)

    def load(self, folder: Path, dim: int) -> None:
        """Into memory."""
        self.index = hnswlib.Index(space="ip", dim=dim)
        self.index.load_index(str(folder / SAVED))
