"""A few records, and an embedder that says what it was asked."""

from __future__ import annotations

import zlib

import numpy as np

from vecindex.embed import CANARIES, FunctionEmbedder

DIM = 8


class Model:
    """A function that gives each text a direction; a text with "broken" in it has none."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.asked: list[str] = []

    def __call__(self, texts):
        self.asked += texts
        rows = [np.random.default_rng([self.seed, zlib.crc32(t.encode())]) for t in texts]
        rows = np.array([rng.normal(size=DIM) for rng in rows])
        rows[["broken" in text for text in texts]] = np.nan
        return rows

    def embedder(self) -> FunctionEmbedder:
        return FunctionEmbedder(self, name="m")

    def taken(self) -> list[str]:
        """Return the texts since the last call, without the canaries."""
        taken, self.asked = self.asked, []
        return [text for text in taken if text not in CANARIES]


def records(count: int) -> list[dict]:
    """Return records `r0`, `r1` ... with a text and a year."""
    return [{"id": f"r{n}", "text": f"text {n}", "year": 2000 + n} for n in range(count)]
