"""Word vectors as an embedder: a text is the mean of its known words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.embed.base import ProviderEmbedder, Role, UnusableTextError
from vecindex.embed.checks import excerpt
from vecindex.embed.word_files import WordTable, read_words
from vecindex.errors import EmbedderError

PROVIDER = "words"

_WORD = re.compile(r"\w+")
_MOST_UNKNOWN = 100_000  # distinct words that are counted; the rarest half goes when it is full


class WordVectors(ProviderEmbedder):
    """An embedder made of a file of word vectors, read when it is first used.

    Parameters
    ----------
    path : str or Path
        A GloVe or fastText `.vec` file, or a word2vec file in text or binary form; may be
        gzipped. The content decides, not the name.

    Raises
    ------
    EmbedderError
        If there is no file at the path.

    Notes
    -----
    A text's words are its runs of letters, digits and underscores (`\\w+`). A word is looked up as
    it stands, then in lower case; the others do not count. An index keeps the file's path by name
    only: give the embedder again when it is opened. Safe to use from several threads.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".txt") as file:
    ...     _ = file.write(b"cat 1 0\\ndog 0 1\\n")
    ...     _ = file.seek(0)
    ...     words = WordVectors(file.name)
    ...     words.embed_documents(["A cat, a Dog"]).tolist(), words.unknown
    ([[0.5, 0.5]], {'A': 1, 'a': 1})
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(str(path).removeprefix(PROVIDER + ":")).expanduser()
        if not given.is_file():
            raise EmbedderError(f"there is no file of word vectors at {str(path)!r}")
        self._path = given.resolve()
        super().__init__(f"{PROVIDER}:{self._path}", batch_size=1024)
        self._table = WordTable({}, np.empty((0, 0), dtype=np.float32))
        self._unknown: Counter[str] = Counter()

    @property
    def words(self) -> list[str]:
        """All words of the file, in its order; reads it."""
        self._load_once()
        return list(self._table.rows)

    @property
    def unknown(self) -> dict[str, int]:
        """Words without a vector and how often they came so far, the most frequent first."""
        with self._lock:
            return dict(self._unknown.most_common())

    def vector(self, word: str) -> Float32Array:
        """Return the vector of a word, for arithmetic with words.

        Parameters
        ----------
        word : str
            Looked up as it stands, then in lower case.

        Returns
        -------
        ndarray of float32, shape (dim,)
            A copy, not normalized.

        Raises
        ------
        EmbedderError
            If the word has no vector, or the file is damaged.
        """
        self._load_once()
        row = self._row(word)
        if row is None:
            raise EmbedderError(f"{self._name} has no vector of the word {word!r}")
        found: Float32Array = self._table.vectors[row].copy()
        return found

    def load(self) -> None:
        """Read the file; see `ProviderEmbedder`."""
        self._table = read_words(self._path)

    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return the mean of each text's known words; see `ProviderEmbedder`."""
        means = np.empty((len(texts), self._table.vectors.shape[1]), dtype=np.float32)
        for at, text in enumerate(texts):
            found = _WORD.findall(text)
            rows = [self._row(word) for word in found]
            known = [row for row in rows if row is not None]
            if len(known) < len(found):
                self._count([w for w, row in zip(found, rows, strict=True) if row is None])
            if not known:
                raise UnusableTextError(self._no_word(text, found), at)
            means[at] = self._table.vectors[known].mean(axis=0)
        return means

    def canaries(self, texts: list[str]) -> Float32Array:
        """Return the first, the middle and the last vector of the file that are not zero."""
        rows = np.flatnonzero(self._table.vectors.any(axis=1))
        if not len(rows):
            raise EmbedderError(f"{self._name} holds only vectors of zeros")
        return self._table.vectors[rows[[0, len(rows) // 2, -1]]]

    def _row(self, word: str) -> int | None:
        row = self._table.rows.get(word)
        return self._table.rows.get(word.lower()) if row is None else row

    def _count(self, words: list[str]) -> None:
        with self._lock:
            self._unknown.update(words)
            if len(self._unknown) > _MOST_UNKNOWN:
                self._unknown = Counter(dict(self._unknown.most_common(_MOST_UNKNOWN // 2)))

    def _no_word(self, text: str, found: list[str]) -> str:
        refused = f"{self._name} cannot embed {excerpt(text)}"
        if not found:
            return f"{refused}: it has no word"
        listed = ", ".join(repr(word) for word in found[:10])
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        return f"{refused}: none of its words is known: {listed}{more}"
