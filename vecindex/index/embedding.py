"""Texts to unit rows, by the index's own embedder and no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vecindex import embed
from vecindex.arrays import Float32Array
from vecindex.embed import Embedder, Fingerprint
from vecindex.embed.protocol import truncated
from vecindex.errors import EmbedderError
from vecindex.forks import new_lock
from vecindex.index.inputs import embedded_rows
from vecindex.index.rebase import Progress
from vecindex.store.store import Store


class TextEmbedder:
    """Embeds texts for a store, after comparing the embedder with the stored fingerprint.

    Parameters
    ----------
    store : Store
        Holds the fingerprint of the embedder whose embeddings it keeps.
    embedder : Embedder or None
        What the user gave; None restores a model that is known by name when it is first needed.
    """

    def __init__(self, store: Store, embedder: Embedder | None) -> None:
        self._store = store
        self._embedder = embedder
        self._given: Fingerprint | None = None
        self._checked: dict[str, Any] | None = None  # the stored one that it was compared with
        self._lock = new_lock()
        self._calls = 0  # of `documents` that are under way
        self._cut = self._cut_before = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What deserves attention: texts of which the model read the beginning only."""
        if not self._cut:
            return ()
        texts = "1 text was" if self._cut == 1 else f"{self._cut:,} texts were"
        name = self._any_embedder().name
        return (f"{texts} longer than {name} reads: only the beginning was embedded",)

    @property
    def unbound(self) -> bool:
        """Whether the user gave an embedder to an index that has none stored yet."""
        return self._embedder is not None and self._store.state.manifest.embedder is None

    def documents(self, texts: Sequence[str], progress: Progress | None) -> Float32Array:
        """Return unit rows of texts that are stored."""
        embedder = self._checked_embedder()
        report = None if progress is None else lambda done, n: progress("embed", done, n)
        with self._counting_cut(embedder):
            embeddings = embedder.embed_documents(texts, progress=report)
        return embedded_rows(embeddings, len(texts), self._dim, embedder.name)

    def queries(self, texts: Sequence[str]) -> Float32Array:
        """Return unit rows of texts that are searched for."""
        embedder = self._checked_embedder()
        return embedded_rows(embedder.embed_queries(texts), len(texts), self._dim, embedder.name)

    def fingerprint(self) -> Fingerprint:
        """Return the embedder's fingerprint, which is the stored one if there is one.

        Raises
        ------
        EmbedderError
            If there is no embedder.
        EmbedderMismatchError
            If the embedder is not the one whose embeddings are stored.
        """
        with self._lock:
            if self._given is None:
                self._given = self._any_embedder().fingerprint()
            stored = self._store.state.manifest.embedder
            if stored is not None and stored != self._checked:
                embed.check_same(Fingerprint.from_dict(stored), self._given)
                self._checked = stored
            return self._given

    @property
    def _dim(self) -> int | None:
        return self._store.state.manifest.dim

    @contextmanager
    def _counting_cut(self, embedder: Embedder) -> Iterator[None]:
        """Count what is cut while at least one thread is here: embedders count for all threads."""
        with self._lock:
            if not self._calls:
                self._cut_before = truncated(embedder)
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if not self._calls:
                    self._cut += truncated(embedder) - self._cut_before

    def _checked_embedder(self) -> Embedder:
        self.fingerprint()
        return self._any_embedder()

    def _any_embedder(self) -> Embedder:
        if self._embedder is not None:
            return self._embedder
        stored = self._store.state.manifest.embedder
        if stored is None:
            raise EmbedderError(
                "this index has no embedder: give vectors, or open it with embedder="
            )
        if not self._store.trusted:
            raise EmbedderError(
                f"this index was opened as untrusted, so the embedder that it names "
                f"({stored['name']!r}) is not restored: open it with embedder="
            )
        self._embedder = embed.from_manifest(stored["name"])
        if self._embedder is None:
            raise EmbedderError(
                f"this index was built with the embedder {stored['name']}, which cannot be "
                "restored by name: open it with embedder="
            )
        return self._embedder
