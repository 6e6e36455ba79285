"""An embedder that counts what its model costs, and remembers what it was asked last."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vecindex.arrays import Float32Array
from vecindex.embed import Embedder, Fingerprint, Progress
from vecindex.embed.chunks import passages
from vecindex.embed.protocol import count_cut, truncated

_POSITION = re.compile(r"\bpositions? (\d+)")


class MeteredEmbedder:
    """An embedder as before, whose time is measured.

    Parameters
    ----------
    embedder : Embedder
        Whose name, fingerprint and vectors these are.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._asked: Sequence[str] = ()
        self._cut_before = self._cut
        self.seconds = 0.0
        """Time in the model so far, its loading included."""
        self.texts = 0
        """Texts embedded so far."""

    @property
    def name(self) -> str:
        """The embedder's own name."""
        return self._embedder.name

    @property
    def dim(self) -> int:
        """Dimension of the embeddings; may load the model."""
        with self._measured():
            return self._embedder.dim

    @property
    def truncated(self) -> int:
        """Documents measured so far of which the model read the beginning only, if it tells."""
        return self._cut - self._cut_before

    @property
    def _cut(self) -> int:
        return truncated(self._embedder)

    def count_cut(self, texts: list[str]) -> int:
        """Return how many of some documents are longer than the model reads, if it tells."""
        with self._measured():
            return count_cut(self._embedder, texts)

    def fingerprint(self) -> Fingerprint:
        """Return what identifies the model; may load it."""
        with self._measured():
            return self._embedder.fingerprint()

    def embed_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> Float32Array:
        """Return the model's output for texts that are stored; see `Embedder`."""
        self._asked = texts
        with self._measured():
            rows = self._embedder.embed_documents(texts, progress=progress)
        self.texts += len(texts)
        return rows

    def embed_queries(self, texts: Sequence[str]) -> Float32Array:
        """Return the model's output for texts that are searched for; see `Embedder`."""
        with self._measured():
            return self._embedder.embed_queries(texts)

    def passages(self, text: str, size: int | None, overlap: int) -> list[str]:
        """Return a text as passages, cut as the embedder does it; may load its model."""
        with self._measured():
            return passages(self._embedder, text, size, overlap)

    def blamed(self, error: BaseException) -> str | None:
        """Return the first text that an error of the last call names by its position, if any."""
        for words in (str(error), *getattr(error, "__notes__", ())):
            found = _POSITION.search(words)
            if found and int(found[1]) < len(self._asked):
                return self._asked[int(found[1])]
        return None

    @contextmanager
    def _measured(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
