"""A library that is wrong on purpose: if its recall looks good, the harness is broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.peers.base import SAVED, Ask, Peer, Setting
from benchmarks.truth import K
from vecindex.arrays import Float32Array


class WrongPeer(Peer):
    """Finds every second one of the ten nearest, and the farthest rows instead of the others."""

    packages = ("numpy",)
    note = "half of its answers are wrong"

    def build(self, rows: Float32Array, folder: Path) -> dict[str, float]:
        """Keep the rows."""
        self.rows = np.array(rows)
        return {}

    def settings(self) -> list[Setting]:
        """`lie` repeats one right row instead."""
        return [{}, {"lie": True}]

    def searcher(self, setting: Setting) -> Ask:
        """Search exactly, then spoil it."""

        def ask(query: Float32Array) -> list[int]:
            order = np.argsort(-(self.rows @ query[0]))
            if setting:
                return [int(order[0])] * K
            return [*order[:K:2].tolist(), *order[-K // 2 :].tolist()]

        return ask

    def save(self, folder: Path) -> dict[str, int]:
        """The rows."""
        with (folder / SAVED).open("wb") as file:
            np.save(file, self.rows)
        return {"index": 1, "structure": 1}

    def load(self, folder: Path, dim: int) -> None:
        """The rows."""
        self.rows = np.load(folder / SAVED)
