"""The grammar of embedders' names: `provider:model#pooling?option=value&option=value`."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from vecindex.embed.weights import on_disk
from vecindex.errors import EmbedderError

DEFAULT_PROVIDER = "st"
"""The provider of a name without one, as in `"org/model"`."""

_PLAIN = " !$'()*+,-./:;<=>@[]^_`{|}~\""  # all that needs no escape in the value of an option


@dataclass(frozen=True)
class ModelName:
    """The parts of an embedder's name.

    Parameters
    ----------
    provider : str
        What stands before the colon.
    model : str
        A name on a hub, a path, or what else the provider takes.
    pooling : str or None
        What stands after `#`.
    options : dict of str to str
        What stands after `?`, unescaped.
    """

    provider: str
    model: str
    pooling: str | None = None
    options: dict[str, str] = field(default_factory=dict)


def parse(name: str) -> ModelName:
    """Return the parts of a name as a user writes it, or as `write` wrote it.

    Parameters
    ----------
    name : str
        As in `"org/model"`, `"transformers:org/model#cls"` or `"st:org/model?truncate_dim=256"`.
        In the value of an option `%26` stands for `&`, `%25` for `%`, as in a URL.

    Returns
    -------
    ModelName
        Neither provider, pooling nor options are checked for being known. A file or directory
        on this disk is a model as it stands, whatever signs its path has.

    Raises
    ------
    EmbedderError
        If a part is empty, or an option is not `key=value` or comes twice.
    """
    provider, colon, body = name.partition(":")
    if not colon or on_disk(name):
        provider, body = DEFAULT_PROVIDER, name
    if body and on_disk(body):
        return ModelName(provider, body)
    rest, asked, options = body.rpartition("?") if "?" in body else (body, "", "")
    model, hash_, pooling = rest.rpartition("#") if "#" in rest else (rest, "", "")
    if not model.strip():
        raise EmbedderError(f"embedder {name!r} names no model")
    if hash_ and not pooling:
        raise EmbedderError(f"embedder {name!r} names no pooling after '#'")
    return ModelName(provider, model, pooling or None, _options(options, name) if asked else {})


def write(
    provider: str, model: str, pooling: str | None = None, **options: str | int | None
) -> str:
    """Return the name that `parse` takes apart again.

    Parameters
    ----------
    provider : str
        What stands before the colon.
    model : str
        A name on a hub, a path, or what else the provider takes.
    pooling : str or None
        What stands after `#`.
    **options : str, int or None
        What stands after `?`; None is left out.

    Returns
    -------
    str
        As in `"st:org/model?truncate_dim=256"`.
    """
    given = [f"{key}={quote(str(v), safe=_PLAIN)}" for key, v in options.items() if v is not None]
    return (
        f"{provider}:{model}"
        + (f"#{pooling}" if pooling else "")
        + (f"?{'&'.join(given)}" if given else "")
    )


def _options(text: str, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split("&"):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise EmbedderError(
                f"embedder {name!r}: after '?' come options as in 'truncate_dim=256', not {part!r}"
            )
        if key in found:
            raise EmbedderError(f"embedder {name!r} gives the option {key!r} twice")
        found[key] = unquote(value)
    return found
