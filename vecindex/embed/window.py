"""How much of a text a model reads: what it cuts off, and passages that it reads whole."""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Sequence
from typing import Any

from vecindex.embed.chunks import Piece, check_sizes, cut
from vecindex.errors import EmbedderError

_UNLIMITED = 1_000_000  # tokenizers without a limit say 1e30 or infinity


class Window:
    """The tokens of a text, counted as the model counts them.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Copied, so that counting in one thread never meets truncating in another.
    limit : float or None
        Most tokens that the model reads, with special tokens and prompt; None for any number.
    special : int
        Special tokens that the model puts around a text.
    prompt : str
        What is put before a text.
    characters : int or None
        Most characters that the model reads, where it counts these too.
    """

    def __init__(
        self,
        tokenizer: Any,
        limit: float | None,
        *,
        special: int = 0,
        prompt: str = "",
        characters: int | None = None,
    ) -> None:
        self._tokenizer = importlib.import_module("tokenizers").Tokenizer.from_str(
            tokenizer.to_str()
        )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prompt = prompt
        self._characters = characters
        self._most = None
        if limit is not None and limit < _UNLIMITED:
            self._most = int(limit) - special

    def count_cut(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than the model reads.

        Parameters
        ----------
        texts : sequence of str
            Without the prompt.

        Returns
        -------
        int
            Only texts of more bytes than the model reads tokens are tokenized.
        """
        if self._most is None:
            return 0
        most = self._most
        long = [text for text in (self._prompt + t for t in texts) if _most_tokens(text) > most]
        tokens = self._encoded(long)
        return sum(
            len(found) > most or self._too_many_characters(text)
            for text, found in zip(long, tokens, strict=True)
        )

    def passages(self, text: str, size: int | None, overlap: int, name: str) -> list[str]:
        """Return a text as overlapping passages of at most `size` tokens.

        Parameters
        ----------
        text : str
            Any length, without the prompt.
        size : int or None
            None takes what the model reads beside special tokens and prompt.
        overlap : int
            Most tokens that a passage has in common with the one before.
        name : str
            The embedder, for messages.

        Returns
        -------
        list of str
            At least one; verbatim slices, none of which the model cuts.

        Raises
        ------
        EmbedderError
            If `size` or `overlap` cannot be used.
        """
        room = None if self._most is None else self._most - self._count(self._prompt)
        if size is None:
            if room is None:
                return [text]
            size = room
        elif room is not None and size > room:
            raise EmbedderError(
                f"{name} reads at most {room} tokens of a text: passages of {size} would be cut"
            )
        check_sizes(size, overlap)

        def fits(passage: str) -> bool:
            """Return True if the model reads all of a passage, and `size` holds it."""
            if self._too_many_characters(passage) or self._count(passage) > size:
                return False
            if self._most is None or not self._prompt:
                return True  # `size` is at most what the model reads
            return self._count(self._prompt + passage) <= self._most

        if _most_tokens(text) <= size and fits(text):
            return [text]
        return cut(text, self._pieces(text), size, overlap, fits)

    def _too_many_characters(self, text: str) -> bool:
        return self._characters is not None and len(text) > self._characters

    def _encoded(self, texts: list[str]) -> list[Any]:
        encoded: list[Any] = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return encoded

    def _count(self, text: str) -> int:
        return len(self._encoded([text])[0])

    def _pieces(self, text: str) -> list[Piece]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        found: list[Piece] = []
        reached, last_word = -1, None
        for (start, end), word in zip(encoding.offsets, encoding.word_ids, strict=True):
            if start > reached:  # several tokens of one character are one piece
                found.append(Piece(start, end, word != last_word and _parts(text, start)))
                reached, last_word = start, word
        return found


def window_of(tokenizer: Any, limit: float | None, prompt: str) -> Window | None:
    """Return the window of a model with a tokenizer of transformers.

    Parameters
    ----------
    tokenizer : object
        What the model has as its tokenizer.
    limit : float or None
        Most tokens that the model reads, special tokens and prompt included.
    prompt : str
        What is put before a text.

    Returns
    -------
    Window or None
        None if the tokenizer does not tell where its tokens stand.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        special = tokenizer.num_special_tokens_to_add(pair=False)
        return Window(backend, limit, special=special, prompt=prompt)
    return None


def _parts(text: str, start: int) -> bool:
    """Return True where words part: at white space, and anywhere in scripts that may have none."""
    around = text[max(start - 1, 0) : start + 1]
    return start == 0 or not around.isascii() or around != around.strip()


def _most_tokens(text: str) -> int:
    """Return more tokens than a text can have: a token is at least a byte of some form of it."""
    size = len(text)
    if not text.isascii():  # some models first take compatible characters apart, which can be many
        size = max(len(text.encode()), len(unicodedata.normalize("NFKD", text).encode()))
    return size + 1  # some put a mark before the text
