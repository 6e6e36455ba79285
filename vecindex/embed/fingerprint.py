"""Who made the embeddings: a name, the prompts, and the vectors of three canary sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import EmbedderError, EmbedderMismatchError

CANARIES: tuple[str, str, str] = (
    "The ferry to the island leaves at dawn, unless the wind turns during the night.",
    "Order #4827-B: 3 x $19.99 + 7.5% tax = $64.47 (paid 2021-03-14) <ok@example.org>",
    "東京の天気は晴れです。Где находится библиотека? مرحبا بالعالم",
)
"""Sentences whose embeddings tell models apart. Part of the stored format: never change them."""

MIN_COSINE = 0.999
"""Lowest cosine of two embeddings of a canary that still counts as the same model: other
devices, batch sizes and half precision stay above it, other models far below."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What identifies the model behind an index's embeddings.

    Parameters
    ----------
    name : str
        The embedder's name, as in `"st:sentence-transformers/all-MiniLM-L6-v2"`.
    revision : str or None
        Version of the weights where it is known; informative, never compared.
    dim : int
        Dimension of the embeddings.
    prompts : dict of str to str
        What is put before a text, under `"query"` and `"document"`; empty ones may be absent.
    canaries : ndarray of float32, shape (3, dim)
        Embeddings of `CANARIES` as documents, or of what the provider has in their place; not
        normalized.
    """

    name: str
    revision: str | None
    dim: int
    prompts: dict[str, str]
    canaries: Float32Array

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict that msgpack can write; the canaries as little-endian float32."""
        return {
            "name": self.name,
            "revision": self.revision,
            "dim": self.dim,
            "prompts": dict(self.prompts),
            "canaries": self.canaries.astype("<f4").tobytes(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fingerprint:
        """Return the fingerprint that `to_dict` wrote.

        Parameters
        ----------
        data : mapping
            Keys that are not known are ignored.

        Returns
        -------
        Fingerprint
            Equal in every field.

        Raises
        ------
        EmbedderError
            If a field is missing or has another type or size.
        """
        try:
            name, revision, dim = data["name"], data["revision"], data["dim"]
            prompts, raw = data["prompts"], data["canaries"]
            rows = np.frombuffer(raw, dtype="<f4").reshape(len(CANARIES), dim)
            typed = all(isinstance(text, str) for text in (name, *prompts, *prompts.values()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EmbedderError(
                f"the stored embedder fingerprint cannot be read: {error}"
            ) from error
        if not typed or not isinstance(revision, str | None):
            raise EmbedderError("the stored embedder fingerprint cannot be read: not all text")
        return cls(name, revision, dim, dict(prompts), rows.astype(np.float32))


def take(
    name: str,
    embed: Callable[[list[str]], Float32Array],
    *,
    revision: str | None = None,
    prompts: Mapping[str, str] | None = None,
) -> Fingerprint:
    """Return the fingerprint of a model by embedding the canaries with it.

    Parameters
    ----------
    name : str
        The embedder's name.
    embed : callable
        From a list of texts to an array of float32 of shape (n, dim), as documents.
    revision : str or None
        Version of the weights where it is known.
    prompts : mapping or None
        What is put before a text, under `"query"` and `"document"`.

    Returns
    -------
    Fingerprint
        With canaries of its own, not shared with the embedder.
    """
    try:
        canaries = embed(list(CANARIES))
    except Exception as error:
        error.add_note(
            f"while vecindex embedded its {len(CANARIES)} fixed sentences to learn which model "
            f"{name!r} is: an embedder must accept any text"
        )
        raise
    kept = {role: text for role, text in (prompts or {}).items() if text}
    return Fingerprint(name, revision, canaries.shape[1], kept, canaries.copy())


def check_same(stored: Fingerprint, given: Fingerprint) -> None:
    """Return nothing if both fingerprints are of one model; names and revisions may differ.

    Parameters
    ----------
    stored : Fingerprint
        Of the embedder whose embeddings the index holds.
    given : Fingerprint
        Of the embedder at hand.

    Raises
    ------
    EmbedderMismatchError
        If the dimension or a prompt differs, or a canary's cosine is below `MIN_COSINE`.
    """
    reasons = _dim_reasons(stored, given) or _canary_reasons(stored, given)
    reasons += _prompt_reasons(stored, given)
    if reasons:
        raise EmbedderMismatchError(
            f"the index holds embeddings of {_title(stored)}, but the embedder given is "
            f"{_title(given)}: {'; '.join(reasons)}. Open the index with the embedder that it was "
            "made with, or build a new index with this one"
        )


def lowest_cosine(a: Float32Array, b: Float32Array) -> float:
    """Return the lowest cosine of the rows of two arrays, 0 for a row without a direction.

    Parameters
    ----------
    a : ndarray of float32, shape (n, dim)
        Any length per row.
    b : ndarray of float32, shape (n, dim)
        Any length per row.

    Returns
    -------
    float
        In [-1, 1].
    """
    left, right = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    products = np.einsum("ij,ij->i", left, right)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return float(cosines.min())


def _title(fingerprint: Fingerprint) -> str:
    revision = f", revision {fingerprint.revision}" if fingerprint.revision else ""
    return f"{fingerprint.name!r} (dimension {fingerprint.dim}{revision})"


def _dim_reasons(stored: Fingerprint, given: Fingerprint) -> list[str]:
    if stored.dim == given.dim:
        return []
    return [f"the dimensions differ ({stored.dim} stored, {given.dim} given)"]


def _canary_reasons(stored: Fingerprint, given: Fingerprint) -> list[str]:
    cosine = lowest_cosine(stored.canaries, given.canaries)
    if cosine >= MIN_COSINE:
        return []
    return [
        f"they embed the same sentence differently (lowest cosine {cosine:.4f}, at least "
        f"{MIN_COSINE} expected)"
    ]


def _prompt_reasons(stored: Fingerprint, given: Fingerprint) -> list[str]:
    roles = sorted({*stored.prompts, *given.prompts})
    pairs = [(role, stored.prompts.get(role, ""), given.prompts.get(role, "")) for role in roles]
    return [
        f"the {role} prompt differs ({old!r} stored, {new!r} given)"
        for role, old, new in pairs
        if old != new
    ]
