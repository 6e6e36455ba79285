"""Loading a sentence-transformers model, and what the model itself tells."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vecindex.embed.base import Role
from vecindex.embed.weights import PREFIX, Weights, is_hub_name, on_disk, packaged_minilm
from vecindex.errors import EmbedderError, missing_extra


def is_sentence_transformer(candidate: object) -> bool:
    """Return True for a sentence-transformers model, without importing that library."""
    library = sys.modules.get("sentence_transformers")  # whoever has a model has imported it
    model_class = getattr(library, "SentenceTransformer", None)
    return isinstance(model_class, type) and isinstance(candidate, model_class)


def load_model(weights: Weights, device: str | None) -> Any:
    """Return the sentence-transformers model with these weights.

    Parameters
    ----------
    weights : Weights
        Where they are.
    device : str or None
        None leaves it to sentence-transformers.

    Returns
    -------
    SentenceTransformer
        Ready to encode; no code that comes with the model was run.

    Raises
    ------
    EmbedderError
        If the model is unknown or cannot be read.
    MissingExtraError
        If sentence-transformers is not installed.
    """
    library = _library()
    if weights.on_hub and on_disk(weights.location):  # the library would prefer it to the Hub
        raise EmbedderError(
            f"cannot load the embedding model {weights.name!r}: a file or directory of that name "
            f"is in the way; './{weights.location}' would load it from there"
        )
    try:
        with _quiet_loading(weights):
            return library.SentenceTransformer(
                weights.location,
                device=device,
                revision=weights.revision if weights.on_hub else None,
                trust_remote_code=False,
            )
    except Exception as error:
        advice = " (looked for on the Hugging Face Hub)" if weights.on_hub else ""
        raise EmbedderError(
            f"cannot load the embedding model {weights.name!r}{advice}: {reason(error)}"
        ) from error


def effective_prompts(model: Any, own: Mapping[str, str]) -> dict[Role, str]:
    """Return what is put before queries and documents.

    Parameters
    ----------
    model : SentenceTransformer
        Its `prompts` are used where `own` has none.
    own : mapping of str to str
        The user's own prompts, under `"query"` and `"document"`.

    Returns
    -------
    dict of str to str
        With the keys `"query"` and `"document"`, `""` for none.

    Notes
    -----
    The library's own `encode_document` stops at `"document"`, which every model has, if empty,
    and so never reaches a model's `"passage"` prompt. Here the first that is not empty is taken.
    """
    found = {name: text for name, text in model.prompts.items() if text}
    document = next(
        (found[name] for name in ("document", "passage", "corpus") if name in found), ""
    )
    return {
        "query": own.get("query", found.get("query", "")),
        "document": own.get("document", document),
    }


def name_of(model: Any) -> str:
    """Return a stored name for a model object: what it was loaded from, as far as it tells."""
    if not is_sentence_transformer(model):
        raise EmbedderError(f"expected a model's name or a SentenceTransformer, not {model!r}")
    origin = _config(model, "_name_or_path")
    packaged = packaged_minilm()
    if origin is None:
        return PREFIX + "(unnamed)"
    if packaged is not None and origin == packaged.location:
        return packaged.name
    return PREFIX + (origin if is_hub_name(origin) else str(Path(origin).resolve()))


def commit_of(model: Any) -> str | None:
    """Return the Hub commit of a model's weights, None if they are not from there."""
    return _config(model, "_commit_hash")


def reason(error: Exception) -> str:
    """Return what an error says on one line, its class if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def _library() -> Any:
    try:
        return importlib.import_module("sentence_transformers")
    except ModuleNotFoundError as error:
        if error.name != "sentence_transformers":
            raise
        raise missing_extra("sentence-transformers", "text") from error


@contextlib.contextmanager
def _quiet_loading(weights: Weights) -> Iterator[None]:
    """Hide the bar for reading weights; a download keeps its bar on a terminal."""
    bars = importlib.import_module("transformers.utils.logging")
    hide = bars.is_progress_bar_enabled() and not (weights.on_hub and sys.stderr.isatty())
    if hide:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            bars.enable_progress_bar()


def _config(model: Any, key: str) -> str | None:
    config = getattr(getattr(model, "transformers_model", None), "config", None)
    value = getattr(config, key, None)
    return value if isinstance(value, str) and value else None
