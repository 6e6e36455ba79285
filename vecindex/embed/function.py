"""Any function from texts to vectors as an embedder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from vecindex.embed.base import ProviderEmbedder, Role
from vecindex.errors import EmbedderError

PREFIX = "function:"


class FunctionEmbedder(ProviderEmbedder):
    """An embedder made of a function, or of an object with an `encode` method.

    Parameters
    ----------
    function : callable or object with `encode`
        Takes a list of str, returns an array_like of shape (n, dim). Called from any thread.
    name : str or None
        Stored with the index, after `"function:"`; None takes module and qualified name.
    query_function : callable or object with `encode`, or None
        The same for queries; None uses `function`.
    batch_size : int
        Most texts in one call of the function.

    Raises
    ------
    EmbedderError
        If a function can neither be called nor has an `encode` method.

    Notes
    -----
    Errors that the function raises go through unchanged. Its fingerprint holds what `function`
    returns for three fixed sentences; a changed `query_function` is not noticed.

    Examples
    --------
    >>> embedder = FunctionEmbedder(lambda texts: [[len(t), 1.0] for t in texts], name="lengths")
    >>> embedder.name, embedder.embed_queries(["four"]).tolist()
    ('function:lengths', [[4.0, 1.0]])
    """

    def __init__(
        self,
        function: Any,
        name: str | None = None,
        query_function: Any = None,
        *,
        batch_size: int = 256,
    ) -> None:
        own = _qualified_name(function) if name is None else name.removeprefix(PREFIX)
        super().__init__(PREFIX + own, batch_size=batch_size)
        self._documents = _callable(function)
        self._queries = self._documents if query_function is None else _callable(query_function)

    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return what the function makes of some texts; see `ProviderEmbedder`."""
        return (self._queries if role == "query" else self._documents)(texts)


def _callable(function: Any) -> Callable[[list[str]], Any]:
    encode = getattr(function, "encode", None)
    found: Any = encode if callable(encode) else function
    if isinstance(function, type | str) or not callable(found):
        raise EmbedderError(
            f"an embedder must be a function or an object with an encode method, not {function!r}"
        )
    checked: Callable[[list[str]], Any] = found
    return checked


def _qualified_name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
