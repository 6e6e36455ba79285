"""Any function from texts to vectors as an embedder."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.embed.checks import embedding_rows, text_list
from vecindex.embed.fingerprint import Fingerprint, take
from vecindex.embed.protocol import Progress
from vecindex.errors import EmbedderError

PREFIX = "function:"


class FunctionEmbedder:
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
        self._documents = _callable(function)
        self._queries = self._documents if query_function is None else _callable(query_function)
        own = _qualified_name(function) if name is None else name.removeprefix(PREFIX)
        self._name = PREFIX + own
        if batch_size < 1:
            raise EmbedderError(f"batch_size must be at least 1, not {batch_size}")
        self._batch_size = batch_size
        self._dim: int | None = None
        self._fingerprint: Fingerprint | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Return the class and the name."""
        return f"FunctionEmbedder({self._name!r})"

    @property
    def name(self) -> str:
        """Name under which the embedder is stored, as in `"function:app.embed"`."""
        return self._name

    @property
    def dim(self) -> int:
        """Dimension of the embeddings; calls the function if it never was."""
        if self._dim is None:
            self.fingerprint()
        assert self._dim is not None
        return self._dim

    def embed_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> Float32Array:
        """Return what the function makes of texts that are stored.

        Parameters
        ----------
        texts : sequence of str
            May be empty.
        progress : callable or None
            Called after every batch with (texts embedded so far, texts in all).

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, not normalized.

        Raises
        ------
        EmbedderError
            If a text is not a `str`, or the function's output is not as promised.
        """
        return self._embed(self._documents, texts, progress)

    def embed_queries(self, texts: Sequence[str]) -> Float32Array:
        """Return what the query function makes of texts that are searched for.

        Parameters
        ----------
        texts : sequence of str
            May be empty.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, not normalized.

        Raises
        ------
        EmbedderError
            If a text is not a `str`, or the function's output is not as promised.
        """
        return self._embed(self._queries, texts, None)

    def fingerprint(self) -> Fingerprint:
        """Return what identifies the function; calls it once with three fixed sentences."""
        if self._fingerprint is None:
            self._fingerprint = take(self._name, self.embed_documents)
        return self._fingerprint

    def _embed(
        self, function: Callable[[list[str]], Any], texts: Sequence[str], progress: Progress | None
    ) -> Float32Array:
        todo = text_list(texts, self._name)
        if not todo:
            return np.empty((0, self.dim), dtype=np.float32)
        parts: list[Float32Array] = []
        for start in range(0, len(todo), self._batch_size):
            batch = todo[start : start + self._batch_size]
            parts.append(self._checked(function(batch), range(start, start + len(batch))))
            if progress is not None:
                progress(start + len(batch), len(todo))
        return np.concatenate(parts)

    def _checked(self, output: Any, positions: range) -> Float32Array:
        with self._lock:
            rows = embedding_rows(output, positions, self._dim, self._name)
            self._dim = rows.shape[1]
        return rows


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
