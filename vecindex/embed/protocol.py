"""What vecindex asks of an embedder: two methods, two facts and a fingerprint."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeGuard, runtime_checkable

from vecindex.arrays import Float32Array
from vecindex.embed.fingerprint import Fingerprint

Progress: TypeAlias = Callable[[int, int], object]
"""Called with (texts embedded so far, texts in all)."""


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors, always with the same model.

    Notes
    -----
    Implementations need not derive from this class. Ask `is_embedder(x)` rather than
    `isinstance(x, Embedder)`: Python 3.11's `isinstance` reads `dim`, which may load the model.
    """

    @property
    def name(self) -> str:
        """Name under which the embedder is stored, as in `"st:org/model"`."""
        ...

    @property
    def dim(self) -> int:
        """Dimension of the embeddings; may load the model."""
        ...

    def embed_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> Float32Array:
        """Return the model's output for texts that are stored.

        Parameters
        ----------
        texts : sequence of str
            May be empty.
        progress : callable or None
            Called with (texts embedded so far, texts in all).

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, not normalized.
        """
        ...

    def embed_queries(self, texts: Sequence[str]) -> Float32Array:
        """Return the model's output for texts that are searched for.

        Parameters
        ----------
        texts : sequence of str
            May be empty.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, not normalized.
        """
        ...

    def fingerprint(self) -> Fingerprint:
        """Return what identifies the model; may load it."""
        ...


_MEMBERS = ("name", "dim", "embed_documents", "embed_queries", "fingerprint")


def is_embedder(candidate: object) -> TypeGuard[Embedder]:
    """Return True if an object has the members of `Embedder`, without reading any of them."""
    if isinstance(candidate, type):
        return False
    missing = object()
    return all(inspect.getattr_static(candidate, name, missing) is not missing for name in _MEMBERS)


def truncated(embedder: Embedder) -> int:
    """Return how many documents an embedder has cut so far, 0 if it does not tell."""
    return int(getattr(embedder, "truncated", 0))


def count_cut(embedder: Embedder, texts: list[str]) -> int:
    """Return how many of some documents are longer than the model reads, 0 if it does not tell."""
    count = getattr(embedder, "count_cut", None)
    return 0 if count is None else int(count(texts))
