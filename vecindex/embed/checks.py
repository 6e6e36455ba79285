"""What goes into a model must be texts; what comes out must be one finite row for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.errors import EmbedderError

_EXCERPT = 60  # characters of a text in a message


def text_list(texts: Iterable[str], name: str) -> list[str]:
    """Return the texts as a list, after checking that each is a `str`.

    Parameters
    ----------
    texts : iterable of str
        Not a single `str`.
    name : str
        The embedder, for messages.

    Returns
    -------
    list of str
        A new list.

    Raises
    ------
    EmbedderError
        If it is a single `str` or no iterable, or an item is not a `str` of valid Unicode: the
        message names its position.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise EmbedderError(f"{name} embeds a list of str, not one {type(texts).__name__}")
    found = list(texts)
    for position, text in enumerate(found):
        if not isinstance(text, str):
            raise EmbedderError(
                f"{name} embeds str: the text at position {position} is "
                f"{'None' if text is None else 'of type ' + type(text).__name__}"
            )
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise EmbedderError(
                    f"{name} cannot embed the text at position {position}: not valid Unicode"
                ) from error
    return found


def embedding_rows(
    output: Any, positions: Sequence[int], dim: int | None, name: str
) -> Float32Array:
    """Return a model's output as rows, after checking that there is a finite one for each text.

    Parameters
    ----------
    output : array_like of shape (n, dim)
        What the model returned.
    positions : sequence of int
        Where the n texts stand in the caller's list, for messages.
    dim : int or None
        The dimension seen before; None takes what comes.
    name : str
        The embedder, for messages.

    Returns
    -------
    ndarray of float32, shape (n, dim)
        Not normalized; may share memory with `output`.

    Raises
    ------
    EmbedderError
        If the shape, the count or the dimension is not as expected, or a value is not finite.
    """
    rows = _matrix(output, len(positions), name)
    if len(rows) != len(positions):
        raise EmbedderError(
            f"{name} was given {len(positions)} texts, but returned {len(rows)} embeddings"
        )
    if rows.shape[1] == 0 or (dim is not None and rows.shape[1] != dim):
        expected = "at least 1" if dim is None else f"{dim}, as before"
        raise EmbedderError(
            f"{name} returned embeddings of dimension {rows.shape[1]}; expected {expected}"
        )
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        more = f" and for {len(bad) - 1} more" if len(bad) > 1 else ""
        raise EmbedderError(
            f"{name} returned NaN or an infinity for the text at position "
            f"{positions[int(bad[0])]}{more}; embeddings must be finite in float32"
        )
    return rows


def excerpt(text: str) -> str:
    """Return a text as a message shows it: quoted, and only the beginning of a long one."""
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")


def _matrix(output: Any, count: int, name: str) -> Float32Array:
    expected = f"an array of numbers of shape ({count}, dim)"
    try:
        array = np.asarray(output)
    except Exception as error:  # ragged lists, tensors on a device: each has its own class
        raise EmbedderError(f"{name} must return {expected}: {error}") from error
    if array.dtype.kind not in "fiu":
        given = type(output).__name__ if array.dtype.kind == "O" else array.dtype
        raise EmbedderError(f"{name} must return {expected}, not {given}")
    if array.ndim != 2:
        raise EmbedderError(f"{name} must return {expected}, not of shape {array.shape}")
    with np.errstate(over="ignore"):  # an overflow to infinity is reported by position
        return array.astype(np.float32, copy=False)
