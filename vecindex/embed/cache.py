"""An embedder that remembers: each text goes through the model once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.embed.base import Role
from vecindex.embed.cache_file import CacheFile
from vecindex.embed.checks import embedding_rows, text_list
from vecindex.embed.chunks import passages
from vecindex.embed.fingerprint import Fingerprint
from vecindex.embed.protocol import Progress, count_cut, truncated
from vecindex.embed.resolve import resolve
from vecindex.errors import EmbedderError
from vecindex.forks import new_lock

_BLOCK = 4096  # texts embedded before they are kept: what a kill can lose


class CachedEmbedder:
    """An embedder whose vectors are kept on disk, for later runs and other indexes.

    Parameters
    ----------
    embedder : str, callable, object with `encode`, or Embedder
        As for `VectorIndex.create`.
    path : str or path
        A directory, shared by as many indexes, models, threads and processes of one machine as
        you like; made when it is first needed. An index's own directory will do, too.
    max_bytes : int
        When the cache holds more, the vectors not used for longest are removed. The file keeps
        the size that it had and fills up again.

    Raises
    ------
    EmbedderError
        If `embedder` is None or cannot be one.
    InputError
        If `path` is a file, or `max_bytes` is not positive.

    Notes
    -----
    Name and fingerprint are the model's own, so indexes do not notice. A vector is found again
    if the text is the same to the byte, its role (document or query), and the model: name,
    revision, dimension, prompts and canary vectors. The fingerprint needs the model, so that is
    loaded even if everything is in the cache. Texts are not stored, only their SHA-256.

    A cache that is damaged, full or read-only never stops the work: there is a `RuntimeWarning`,
    and texts are embedded as without it.

    Examples
    --------
    >>> embedder = CachedEmbedder(model, "~/.cache/embeddings")  # doctest: +SKIP
    >>> VectorIndex.create("faq.vx", embedder=embedder)  # doctest: +SKIP
    """

    def __init__(
        self, embedder: Any, path: str | os.PathLike[str], *, max_bytes: int = 4_000_000_000
    ) -> None:
        resolved = resolve(embedder)
        if resolved is None:
            raise EmbedderError("a cache needs an embedder whose vectors it keeps, not None")
        self._embedder = resolved
        self._file = CacheFile(Path(path).expanduser(), max_bytes)
        self._model: int | None = None
        self._hits = self._misses = self._found_cut = 0
        self._lock = new_lock()

    def __repr__(self) -> str:
        """Return the embedder and the cache's file."""
        return f"CachedEmbedder({self._embedder!r}, {str(self._file.path.parent)!r})"

    @property
    def name(self) -> str:
        """The embedder's own name."""
        return self._embedder.name

    @property
    def dim(self) -> int:
        """Dimension of the embeddings; may load the model."""
        return self._embedder.dim

    @property
    def hits(self) -> int:
        """Texts so far that did not go through the model: found, or twice in one call."""
        return self._hits

    @property
    def misses(self) -> int:
        """Texts so far that went through the model."""
        return self._misses

    @property
    def truncated(self) -> int:
        """Number of documents so far of which the model read the beginning only, found or not."""
        return truncated(self._embedder) + self._found_cut

    def fingerprint(self) -> Fingerprint:
        """Return what identifies the model, see `Embedder`; loads it."""
        return self._embedder.fingerprint()

    def embed_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> Float32Array:
        """Return the model's output for texts that are stored; see `Embedder`.

        Parameters
        ----------
        texts : sequence of str
            Equal ones are embedded once.
        progress : callable or None
            Called with (texts done so far, texts in all), those found in the cache first.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`.
        """
        return self._embed("document", texts, progress)

    def embed_queries(self, texts: Sequence[str]) -> Float32Array:
        """Return the model's output for texts that are searched for; see `Embedder`.

        Parameters
        ----------
        texts : sequence of str
            Equal ones are embedded once.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`.
        """
        return self._embed("query", texts, None)

    def passages(self, text: str, size: int | None, overlap: int) -> list[str]:
        """Return a text as passages, cut as the embedder does it; see `chunks.passages`."""
        return passages(self._embedder, text, size, overlap)

    def close(self) -> None:
        """Close the cache's file; it is opened again when it is needed."""
        self._file.close()

    def _embed(self, role: Role, texts: Sequence[str], progress: Progress | None) -> Float32Array:
        todo = text_list(texts, self.name)
        model, dim = self._model_number(), self.dim
        digests = [_digest(role, text) for text in todo]
        first: dict[bytes, int] = {}
        for position, digest in enumerate(digests):
            first.setdefault(digest, position)
        found = self._file.get(model, list(first), dim)
        missing = [digest for digest in first if digest not in found]
        asked = {first[digest] for digest in missing}
        again = [text for position, text in enumerate(todo) if position not in asked]
        cut = count_cut(self._embedder, again) if role == "document" else 0
        with self._lock:
            self._hits += len(again)
            self._misses += len(missing)
            self._found_cut += cut
        done = len(todo) - len(missing)
        if progress is not None and done:
            progress(done, len(todo))
        for start in range(0, len(missing), _BLOCK):
            block = missing[start : start + _BLOCK]
            positions = [first[digest] for digest in block]
            output = self._ask(
                role, [todo[position] for position in positions], _after(done, len(todo), progress)
            )
            rows = embedding_rows(output, positions, dim, self.name)
            self._file.put(model, block, rows)
            found.update(zip(block, rows, strict=True))
            done += len(block)
        result = np.empty((len(todo), dim), dtype=np.float32)
        for position, digest in enumerate(digests):
            result[position] = found[digest]
        return result

    def _ask(self, role: Role, texts: list[str], progress: Progress | None) -> Float32Array:
        if role == "query":
            return self._embedder.embed_queries(texts)
        return self._embedder.embed_documents(texts, progress=progress)

    def _model_number(self) -> int:
        with self._lock:
            if self._model is None:
                self._model = self._file.model(self.fingerprint())
            return self._model


def _after(done: int, total: int, progress: Progress | None) -> Progress | None:
    """Return a callback that counts a call's texts on from `done`."""
    return None if progress is None else lambda more, _: progress(done + more, total)


def _digest(role: Role, text: str) -> bytes:
    return hashlib.sha256(f"{role}\0{text}".encode()).digest()
