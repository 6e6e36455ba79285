"""voyager: hnswlib's heir at Spotify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import voyager

from benchmarks.peers.base import EF, SAVED, Ask, Peer, Setting, saved_whole
from benchmarks.truth import K
from vecindex.arrays import Float32Array


class VoyagerPeer(Peer):
    """`voyager.Index` in cosine space, float32."""

    packages = ("voyager",)

    def __init__(self, m: int) -> None:
        self.m = m
        self.note = f"Space.Cosine, M={m}{' (its default)' if m == 12 else ''}, ef_construction=200"
        self.index: Any = None

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Build with all cores, its default."""
        self.index = voyager.Index(
            voyager.Space.Cosine,
            num_dimensions=rows.shape[1],
            M=self.m,
            ef_construction=200,
            random_seed=0,
            max_elements=len(rows),
        )
        self.index.add_items(rows, ids=list(range(len(rows))))
        return {}

    def settings(self) -> list[Setting]:
        """The ladder of query_ef."""
        return [{"query_ef": ef} for ef in EF]

    def searcher(self, setting: Setting) -> Ask:
        """Walk on one thread; a single vector is its fast way in."""
        index, ef = self.index, setting["query_ef"]
        return lambda query: index.query(query[0], k=K, query_ef=ef)[0]

    def save(self, folder: Path) -> dict[str, int]:
        """One file."""
        self.index.save(str(folder / SAVED))
        return saved_whole(folder)

    def load(self, folder: Path, dim: int) -> None:
        """Into memory."""
        self.index = voyager.Index.load(str(folder / SAVED))
