"""Loading models of sentence-transformers and transformers, and what such models tell."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vecindex.embed.base import Role
from vecindex.embed.libraries import library
from vecindex.embed.weights import Weights, is_hub_name, on_disk, packaged_minilm
from vecindex.errors import EmbedderError

Backend: TypeAlias = Literal["torch", "onnx", "openvino"]

_BACKEND_MODULES = {
    "onnx": ("optimum.onnxruntime", "optimum-onnx[onnxruntime]"),
    "openvino": ("optimum.intel.openvino", "optimum-intel[openvino]"),
}


def is_sentence_transformer(candidate: object) -> bool:
    """Return True for a sentence-transformers model, without importing that library."""
    imported = sys.modules.get("sentence_transformers")  # whoever has a model has imported it
    model_class = getattr(imported, "SentenceTransformer", None)
    return isinstance(model_class, type) and isinstance(candidate, model_class)


def load_model(weights: Weights, device: str | None, backend: Backend, name: str) -> Any:
    """Return the sentence-transformers model with these weights.

    Parameters
    ----------
    weights : Weights
        Where they are.
    device : str or None
        None leaves it to sentence-transformers.
    backend : {"torch", "onnx", "openvino"}
        What computes.
    name : str
        The embedder, for messages.

    Returns
    -------
    SentenceTransformer
        Ready to encode; no code that comes with the model was run.

    Raises
    ------
    EmbedderError
        If the model is unknown or cannot be read.
    MissingExtraError
        If sentence-transformers or the backend is not installed.
    """
    sentence_transformers = library("sentence_transformers", "sentence-transformers", "text")
    if backend in _BACKEND_MODULES:
        library(*_BACKEND_MODULES[backend], extra=backend)
    with reading(weights, name):
        return sentence_transformers.SentenceTransformer(
            weights.location,
            device=device,
            revision=weights.revision if weights.on_hub else None,
            trust_remote_code=False,
            backend=backend,
        )


@contextlib.contextmanager
def reading(weights: Weights, name: str) -> Iterator[None]:
    """Turn what fails while weights are read into an error that names the embedder.

    Parameters
    ----------
    weights : Weights
        What is read.
    name : str
        The embedder.

    Yields
    ------
    None
        While the bar for reading weights is hidden; a download keeps its bar on a terminal.

    Raises
    ------
    EmbedderError
        If reading fails, or something on this disk has the name that is meant for the Hub.
    """
    if weights.on_hub and on_disk(weights.location):  # the libraries would prefer it to the Hub
        raise EmbedderError(
            f"cannot load the embedding model {name!r}: a file or directory of that name is in "
            f"the way; './{weights.location}' would load it from there"
        )
    try:
        with _quiet(keep_bars=weights.on_hub and sys.stderr.isatty()):
            yield
    except Exception as error:
        advice = " (looked for on the Hugging Face Hub)" if weights.on_hub else ""
        raise EmbedderError(
            f"cannot load the embedding model {name!r}{advice}: {reason(error)}"
        ) from error


def checked_prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    """Return a user's own prompts, after checking that each is for a known role."""
    own = dict(prompts or {})
    for role, text in own.items():
        if role not in ("query", "document") or not isinstance(text, str):
            raise EmbedderError(
                f"prompts may hold a str under 'query' and 'document', not {role!r}: {text!r}"
            )
    return own


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


def origin_of(model: Any) -> str:
    """Return what a model object was loaded from, as far as it tells: a stored name."""
    if not is_sentence_transformer(model):
        raise EmbedderError(f"expected a model's name or a SentenceTransformer, not {model!r}")
    origin = _config(model, "_name_or_path")
    packaged = packaged_minilm()
    if origin is None:
        return "(unnamed)"
    if packaged is not None and origin == packaged.location:
        return packaged.model
    return origin if is_hub_name(origin) else str(Path(origin).resolve())


def commit_of(model: Any) -> str | None:
    """Return the Hub commit of a model's weights, None if they are not from there."""
    return _config(model, "_commit_hash")


def reason(error: Exception) -> str:
    """Return what an error says on one line, its class if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _quiet(*, keep_bars: bool) -> Iterator[None]:
    """Hide what transformers reports while it reads weights."""
    if "transformers" not in sys.modules:  # a static model needs no such library
        yield
        return
    reports = importlib.import_module("transformers.utils.logging")
    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled() and not keep_bars
    reports.set_verbosity_error()
    if bars:
        reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()


def _config(model: Any, key: str) -> str | None:
    config = getattr(getattr(model, "transformers_model", None), "config", None)
    value = getattr(config, key, None)
    return value if isinstance(value, str) and value else None
