"""From what a user writes, or an index has stored, to an embedder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vecindex.embed.function import FunctionEmbedder
from vecindex.embed.loading import is_sentence_transformer
from vecindex.embed.local import SentenceTransformerEmbedder
from vecindex.embed.protocol import Embedder, is_embedder
from vecindex.embed.weights import PREFIX, is_hub_name, on_disk
from vecindex.errors import EmbedderError

PROVIDERS: dict[str, Callable[[str], Embedder]] = {
    "st": SentenceTransformerEmbedder,
}
"""What stands before the colon of an embedder's name. Every provider takes the name after it."""


def resolve(embedder: Any) -> Embedder | None:
    """Return the embedder that a user means.

    Parameters
    ----------
    embedder : str, callable, object with `encode`, Embedder or None
        A model's name or directory, with or without `"st:"`; a function from a list of str to
        an array_like of shape (n, dim); a sentence-transformers model; an embedder.

    Returns
    -------
    Embedder or None
        None for None. Nothing is loaded yet.

    Raises
    ------
    EmbedderError
        If it is none of these, or names a provider that is not known.
    """
    if embedder is None:
        return None
    if isinstance(embedder, str):
        return _from_name(embedder)
    if is_embedder(embedder):
        return embedder
    if is_sentence_transformer(embedder):
        return SentenceTransformerEmbedder(embedder)
    if isinstance(embedder, type) or not (callable(embedder) or hasattr(embedder, "encode")):
        raise EmbedderError(
            "embedder must be a model's name, a function from a list of str to an array of shape "
            f"(n, dim), or an object with an encode method, not {embedder!r}"
        )
    return FunctionEmbedder(embedder)


def from_manifest(name: str) -> Embedder | None:
    """Return the embedder that a stored name can be restored to by itself.

    Parameters
    ----------
    name : str
        The name in a stored fingerprint.

    Returns
    -------
    Embedder or None
        None for functions and directories: the user must pass those again. Nothing is loaded.

    Notes
    -----
    A stored name can come from anywhere, so it never leads to code or weights on this disk by a
    path: only a name on the Hub is restored, and `check_same` must then hold.
    """
    provider, _, model = name.partition(":")
    if provider + ":" == PREFIX and is_hub_name(model):
        return PROVIDERS[provider](model)
    return None


def _from_name(name: str) -> Embedder:
    provider, colon, model = name.partition(":")
    if not name.strip() or (colon and not model.strip()):
        raise EmbedderError(f"embedder {name!r} names no model")
    if not colon or on_disk(name):
        return SentenceTransformerEmbedder(name)
    if provider not in PROVIDERS:
        known = ", ".join(f"'{known}:'" for known in PROVIDERS)
        raise EmbedderError(
            f"unknown provider {provider + ':'!r} in embedder {name!r}; known: {known} "
            "(sentence-transformers, also without a prefix). Pass a function for any other"
        )
    return PROVIDERS[provider](model)
