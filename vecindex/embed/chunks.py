"""Long texts as overlapping passages, each a verbatim slice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vecindex.errors import EmbedderError

_WORD = re.compile(r"\S{1,64}")  # a run without a space has an end too: not all scripts use them


@dataclass(frozen=True)
class Piece:
    """A token or a word: where it stands in the text, and whether a passage may well begin there.

    Parameters
    ----------
    start : int
        Position of its first character.
    end : int
        Position after its last character.
    begins_word : bool
        False inside a word.
    """

    start: int
    end: int
    begins_word: bool


def passages(embedder: Any, text: str, size: int | None, overlap: int) -> list[str]:
    """Return a text as overlapping passages of at most `size` tokens of the embedder's model.

    Parameters
    ----------
    embedder : Embedder
        Its own `passages` is asked; one that has none counts words, what white space separates.
    text : str
        Any length, also empty.
    size : int or None
        Most tokens, or words, of a passage; None takes what the model reads.
    overlap : int
        Most tokens, or words, that a passage has in common with the one before.

    Returns
    -------
    list of str
        At least one; verbatim slices in their order. A text of at most `size` is returned whole.

    Raises
    ------
    EmbedderError
        If `size` or `overlap` cannot be used, or `size` is None and the embedder does not tell how
        much its model reads.
    """
    own = getattr(embedder, "passages", None)
    if own is not None:
        found: list[str] = own(text, size, overlap)
        return found
    return words(text, size, overlap, embedder.name)


def words(text: str, size: int | None, overlap: int, name: str) -> list[str]:
    """Return a text as overlapping passages of at most `size` words.

    Parameters
    ----------
    text : str
        Any length.
    size : int or None
        Most words of a passage; None is an error.
    overlap : int
        Most words that a passage has in common with the one before.
    name : str
        The embedder, for messages.

    Returns
    -------
    list of str
        As `passages` returns it.

    Raises
    ------
    EmbedderError
        If `size` or `overlap` cannot be used.
    """
    if size is None:
        raise EmbedderError(
            f"{name} does not tell how much text its model reads: give the size of a passage, in "
            "words"
        )
    check_sizes(size, overlap)
    found = [Piece(match.start(), match.end(), True) for match in _WORD.finditer(text)]
    return cut(text, found, size, overlap)


def check_sizes(size: int, overlap: int) -> None:
    """Return nothing if passages of `size` can overlap by `overlap`.

    Parameters
    ----------
    size : int
        At least 1.
    overlap : int
        At least 0, less than `size`.

    Raises
    ------
    EmbedderError
        If not.
    """
    if size < 1:
        raise EmbedderError(f"a passage must hold at least 1 token or word, not {size}")
    if not 0 <= overlap < size:
        raise EmbedderError(
            f"passages of {size} can overlap by 0 to {size - 1} tokens or words, not by {overlap}"
        )


def cut(
    text: str,
    pieces: Sequence[Piece],
    size: int,
    overlap: int,
    fits: Callable[[str], bool] = lambda passage: True,
) -> list[str]:
    """Return a text as overlapping slices of at most `size` pieces.

    Parameters
    ----------
    text : str
        What the pieces are of.
    pieces : sequence of Piece
        In their order.
    size : int
        Most pieces of a passage.
    overlap : int
        Most pieces that a passage has in common with the one before.
    fits : callable
        Asked about each passage; False makes it shorter.

    Returns
    -------
    list of str
        At least one. Between two pieces every character but white space is in a passage. Words are
        only cut where one alone is longer than `size`.
    """
    if len(pieces) <= size and fits(text):
        return [text]
    found: list[str] = []
    first = reached = 0
    while reached < len(pieces):
        stop, passage = _longest(text, pieces, first, size, fits)
        if stop <= reached:  # what overlaps left no room for the next word
            stop, passage = _longest(text, pieces, reached, size, fits)
        found.append(passage)
        first, reached = _next_start(pieces, first, stop, overlap), stop
    return found


def _longest(
    text: str, pieces: Sequence[Piece], first: int, size: int, fits: Callable[[str], bool]
) -> tuple[int, str]:
    """Return where the longest passage from a piece on ends, and the passage."""
    begin = pieces[first].start if first else 0
    stop = min(first + size, len(pieces))
    while True:
        stop = _at_word(pieces, first, stop)
        end = pieces[stop].start if stop < len(pieces) else len(text)
        passage = text[begin:end].strip()
        if stop == first + 1 or fits(passage):
            return stop, passage
        stop -= 1


def _at_word(pieces: Sequence[Piece], first: int, stop: int) -> int:
    """Return the last place up to `stop` where a word begins, `stop` itself if there is none."""
    if stop == len(pieces):
        return stop
    return next((at for at in range(stop, first, -1) if pieces[at].begins_word), stop)


def _next_start(pieces: Sequence[Piece], first: int, stop: int, overlap: int) -> int:
    """Return where the next passage begins: at a word, unless the last one ended inside a word."""
    earliest = max(stop - overlap, first + 1)
    otherwise = earliest if stop < len(pieces) and not pieces[stop].begins_word else stop
    return next((at for at in range(earliest, stop) if pieces[at].begins_word), otherwise)
