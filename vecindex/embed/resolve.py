"""From what a user writes, or an index has stored, to an embedder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vecindex.embed import names
from vecindex.embed.function import FunctionEmbedder
from vecindex.embed.hf_api import HuggingFaceEmbedder
from vecindex.embed.loading import is_sentence_transformer
from vecindex.embed.local import SentenceTransformerEmbedder
from vecindex.embed.openai_api import OpenAIEmbedder
from vecindex.embed.protocol import Embedder, is_embedder
from vecindex.embed.static import StaticEmbedder
from vecindex.embed.transformer import TransformersEmbedder
from vecindex.embed.weights import is_hub_name
from vecindex.embed.words import WordVectors
from vecindex.errors import EmbedderError


@dataclass(frozen=True)
class Provider:
    """How the embedders of one provider are made of their names.

    Parameters
    ----------
    make : callable
        Called with the model, as keywords with the options, and with `pooling` where one is given.
    options : dict of str to callable
        The options that a name may have; each callable makes a value of its text, or raises
        ValueError. Only what determines the vectors belongs here, never where they come from (an
        address, a path): a name that an index has stored restores all of them.
    takes_pooling : bool
        Whether a name may have a pooling.
    """

    make: Callable[..., Embedder]
    options: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    takes_pooling: bool = False


def _with_prompts(make: Callable[..., Embedder]) -> Callable[..., Embedder]:
    def made(model: str, **options: Any) -> Embedder:
        given = {role: options.pop(role + "_prompt", None) for role in ("query", "document")}
        prompts = {role: prompt for role, prompt in given.items() if prompt is not None}
        return make(model, prompts=prompts, **options)

    return made


def _revision(text: str) -> str:
    if not _REVISION.fullmatch(text):
        raise ValueError
    return text


_REVISION = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)*", re.ASCII)  # a branch, a tag or a commit
_PROMPTS = {"query_prompt": str, "document_prompt": str}

PROVIDERS: dict[str, Provider] = {
    "st": Provider(
        _with_prompts(SentenceTransformerEmbedder),
        {"truncate_dim": int, "backend": str, "revision": _revision, **_PROMPTS},
    ),
    "transformers": Provider(
        _with_prompts(TransformersEmbedder), {"revision": _revision, **_PROMPTS}, takes_pooling=True
    ),
    "static": Provider(StaticEmbedder, {"truncate_dim": int}),
    "words": Provider(WordVectors),
    "hf": Provider(HuggingFaceEmbedder),
    "openai": Provider(OpenAIEmbedder, {"dimensions": int}),
}
"""What stands before the colon of an embedder's name."""


def resolve(embedder: Any) -> Embedder | None:
    """Return the embedder that a user means.

    Parameters
    ----------
    embedder : str, callable, object with `encode`, Embedder or None
        A name as `vecindex.embed.names` describes it; a function from a list of str to an
        array_like of shape (n, dim); a sentence-transformers model; an embedder.

    Returns
    -------
    Embedder or None
        None for None. Nothing is loaded yet.

    Raises
    ------
    EmbedderError
        If it is none of these, or names a provider, a pooling or an option that is not known.
    """
    if embedder is None:
        return None
    if isinstance(embedder, str):
        return _made(names.parse(embedder), embedder)
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
        None for functions, files and directories, and for what this version does not know: the
        user must pass those again. Nothing is loaded.

    Notes
    -----
    A stored name can come from anywhere, so it never leads to code or weights on this disk by a
    path, nor to a server by its address: only a known provider's name of a model is restored, and
    `check_same` must then hold.
    """
    try:
        found = names.parse(name)
        if name.startswith(found.provider + ":") and is_hub_name(found.model):
            return _made(found, name)
    except EmbedderError:
        return None
    return None


def _made(found: names.ModelName, name: str) -> Embedder:
    provider = PROVIDERS.get(found.provider)
    if provider is None:
        known = ", ".join(f"'{known}:'" for known in PROVIDERS)
        raise EmbedderError(
            f"unknown provider {found.provider + ':'!r} in embedder {name!r}; known: {known} "
            f"({names.DEFAULT_PROVIDER}: is sentence-transformers, also without a prefix). Pass a "
            "function for any other"
        )
    values = {key: _value(provider, key, text, name) for key, text in found.options.items()}
    if found.pooling is None:
        return provider.make(found.model, **values)
    if not provider.takes_pooling:
        able = ", ".join(f"'{known}:'" for known, other in PROVIDERS.items() if other.takes_pooling)
        raise EmbedderError(
            f"embedder {name!r}: '{found.provider}:' takes no pooling; those that do: {able}"
        )
    return provider.make(found.model, pooling=found.pooling, **values)


def _value(provider: Provider, key: str, text: str, name: str) -> Any:
    read = provider.options.get(key)
    if read is None:
        known = ", ".join(provider.options) or "none"
        raise EmbedderError(f"embedder {name!r}: unknown option {key!r}; known: {known}")
    try:
        return read(text)
    except ValueError as error:
        raise EmbedderError(f"embedder {name!r}: {key} cannot be {text!r}") from error
