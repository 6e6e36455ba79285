"""Search without an index, for those who come from sentence-transformers."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecindex.ann import search_flat
from vecindex.arrays import Float32Array, unit_rows
from vecindex.errors import DimensionError, InputError


def semantic_search(
    query_embeddings: Any, corpus_embeddings: Any, top_k: int = 10
) -> list[list[dict[str, int | float]]]:
    """Return the nearest rows of a corpus for each query, by cosine and exactly.

    Parameters
    ----------
    query_embeddings : array_like or tensor of shape (q, dim), or (dim,) for one query
        Numbers of any kind: NumPy arrays, torch tensors on any device, lists of these.
    corpus_embeddings : array_like or tensor of shape (n, dim)
        Likewise.
    top_k : int
        At least 1; all rows come back when there are fewer.

    Returns
    -------
    list of list of dict
        A list for each query, of `{"corpus_id": row number, "score": cosine}`, best first; equal
        scores stand in the order of the corpus.

    Raises
    ------
    InputError
        If `top_k` cannot be used.
    DimensionError, VectorValueError
        If shapes do not fit, or a row is not finite or all zeros.

    Notes
    -----
    Takes the place of `sentence_transformers.util.semantic_search` and gives what it gives. Holds
    a unit copy of the corpus in float32; for more than one call, or a corpus that is to stay, make
    a `VectorIndex`.

    References
    ----------
    https://sbert.net/docs/package_reference/util.html

    Examples
    --------
    >>> semantic_search([1.0, 0.0], [[0.0, 2.0], [3.0, 0.0]], top_k=1)
    [[{'corpus_id': 1, 'score': 1.0}]]
    """
    if isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1:
        raise InputError(f"top_k must be an int >= 1, not {reprlib.repr(top_k)}")
    asked = _array(query_embeddings, "query_embeddings")
    corpus = _array(corpus_embeddings, "corpus_embeddings")
    if asked.ndim == 1 and asked.size:
        asked = asked[None]
    if not len(asked) or not len(corpus):
        return [[] for _ in range(len(asked))]
    rows = unit_rows(corpus, what="corpus_embeddings")
    scores, numbers = search_flat(rows, _queries(asked, rows.shape[1]), int(top_k))
    return [
        [{"corpus_id": row, "score": score} for row, score in zip(*found, strict=True)]
        for found in zip(numbers.tolist(), scores.tolist(), strict=True)
    ]


def _queries(asked: Any, dim: int) -> Float32Array:
    rows = unit_rows(asked, what="query_embeddings")
    if rows.shape[1] != dim:
        raise DimensionError(
            f"query_embeddings have dimension {rows.shape[1]}, but corpus_embeddings have {dim}"
        )
    return rows


def _array(values: Any, what: str) -> NDArray[Any]:
    """Return an array of what may be a tensor on another device, or a list of those."""
    try:
        if isinstance(values, list | tuple) and values and hasattr(values[0], "detach"):
            array = np.stack([_numbers(value) for value in values])
        else:
            array = np.asarray(_numbers(values))
    except ValueError as error:  # of several lengths
        raise DimensionError(f"{what} must have rows of one dimension: {error}") from error
    if not array.ndim:
        raise DimensionError(f"{what} must have shape (n, dim), not one {type(values).__name__}")
    return array


def _numbers(values: Any) -> Any:
    return values.detach().cpu().float().numpy() if hasattr(values, "detach") else values
