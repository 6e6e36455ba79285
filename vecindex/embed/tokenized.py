"""What the providers with a tokenizer have in common: windows, passages, batches of one length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from vecindex.embed import chunks
from vecindex.embed.base import ProviderEmbedder
from vecindex.embed.window import Window

_SLAB = 4096  # texts sorted by length together: texts of one length waste no padding


class TokenizedEmbedder(ProviderEmbedder):
    """An embedder that knows which part of a text its model reads.

    Parameters
    ----------
    name : str
        Under which the embedder is stored.
    batch_size : int
        Texts in one pass through the model.
    """

    @abstractmethod
    def window(self) -> Window | None:
        """Return the window of documents, None if it is not known; `load` was called before."""

    def count_cut(self, texts: list[str]) -> int:
        """Return how many of some documents are longer than the model reads."""
        window = self.window()
        return window.count_cut(texts) if window else 0

    def passages(self, text: str, size: int | None, overlap: int) -> list[str]:
        """Return a text as overlapping passages of at most `size` of the model's tokens.

        Parameters
        ----------
        text : str
            Any length, also empty.
        size : int or None
            Most tokens of a passage, special tokens and prompt not counted; None takes as many
            as the model reads. Where the tokenizer does not tell its tokens' places, words.
        overlap : int
            Most tokens that a passage has in common with the one before.

        Returns
        -------
        list of str
            At least one; verbatim slices of the text, in their order, of which the model reads
            the whole. They begin and end between words, except in words longer than `size`.

        Raises
        ------
        EmbedderError
            If `size` is below 1 or more than the model reads, or `overlap` is not from 0 to
            `size - 1`.
        """
        self._load_once()
        window = self.window()
        if window is None:
            return chunks.words(text, size, overlap, self.name)
        return window.passages(text, size, overlap, self.name)

    def _longest_first(self, texts: list[str], size: int) -> Iterator[Sequence[int]]:
        """Yield the positions of all texts, `size` at a time, the longest of each slab first."""
        for start in range(0, len(texts), _SLAB):
            slab = range(start, min(start + _SLAB, len(texts)))
            ordered = sorted(slab, key=lambda position: -len(texts[position]))
            for first in range(0, len(ordered), size):
                yield ordered[first : first + size]
