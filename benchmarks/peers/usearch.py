"""usearch: its own defaults, and float32 with more links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from usearch.index import Index

from benchmarks.peers.base import EF, SAVED, Ask, Peer, Setting, saved_whole
from benchmarks.truth import K
from vecindex.arrays import Float32Array


class UsearchPeer(Peer):
    """`usearch.index.Index` with inner products."""

    packages = ("usearch",)

    def __init__(self, dtype: str | None, connectivity: int | None = None) -> None:
        self.options = {"metric": "ip", "dtype": dtype, "connectivity": connectivity}
        self.note = (
            "metric 'ip', its defaults (bf16 where the processor has it, 16 links, expansion_add 128)"
            if dtype is None
            else f"metric 'ip', {dtype}, connectivity {connectivity}, expansion_add 128"
        )
        self.index: Any = None

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Build with all cores, its default."""
        self.index = Index(ndim=rows.shape[1], **self.options)
        self.index.add(np.arange(len(rows)), rows)
        return {}

    def settings(self) -> list[Setting]:
        """The ladder of expansion_search."""
        return [{"expansion_search": ef} for ef in EF]

    def searcher(self, setting: Setting) -> Ask:
        """Walk on one thread."""
        self.index.expansion_search = setting["expansion_search"]
        index = self.index
        return lambda query: index.search(query[0], K, threads=1).keys

    def save(self, folder: Path) -> dict[str, int]:
        """One file."""
        self.index.save(str(folder / SAVED))
        return saved_whole(folder)

    def load(self, folder: Path, dim: int) -> None:
        """As a view of the file."""
        self.index = Index.restore(str(folder / SAVED), view=True)
