"""What all providers have in common: checks, batches, one loading, one fingerprint."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.embed.checks import embedding_rows, text_list
from vecindex.embed.fingerprint import Fingerprint, take
from vecindex.embed.protocol import Progress
from vecindex.errors import EmbedderError
from vecindex.forks import new_rlock

Role: TypeAlias = Literal["query", "document"]


class UnusableTextError(EmbedderError):
    """One text of a group cannot be embedded; who raises it says at which place of the group."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


class ProviderEmbedder(ABC):
    """An embedder of which a provider only writes how its model is asked.

    Parameters
    ----------
    name : str
        Under which the embedder is stored, as in `"st:org/model"`.
    batch_size : int
        Texts in one call of `vectors`, unless `groups` says otherwise.

    Notes
    -----
    Safe to use from several threads: `load` runs once, on one of them; `vectors` may run on
    several at once.
    """

    def __init__(self, name: str, *, batch_size: int) -> None:
        if batch_size < 1:
            raise EmbedderError(f"batch_size must be at least 1, not {batch_size}")
        self._name = name
        self._batch_size = batch_size
        self._dim: int | None = None
        self._fingerprint: Fingerprint | None = None
        self._ready = False
        self._truncated = 0
        self._lock = new_rlock()

    @abstractmethod
    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return what the model makes of one group of texts.

        Parameters
        ----------
        role : {"query", "document"}
            What the texts are.
        texts : list of str
            At least one.

        Returns
        -------
        array_like of shape (n, dim)
            Checked by the caller for shape, count, dimension and finite values.

        Raises
        ------
        EmbedderError
            If the model fails; the message names what failed and why. An `UnusableTextError` gets
            the position of its text added.
        """

    def load(self) -> None:  # noqa: B027  # not every provider has something to load
        """Make ready what `vectors` needs; called once, before its first call."""

    def groups(self, texts: list[str]) -> Iterator[Sequence[int]]:
        """Yield the positions of all texts, those of one call of `vectors` together."""
        for start in range(0, len(texts), self._batch_size):
            yield range(start, min(start + self._batch_size, len(texts)))

    def answers(
        self, role: Role, texts: list[str]
    ) -> Generator[tuple[Sequence[int], Any], None, None]:
        """Yield the positions of each group and what `vectors` returned for it, in any order."""
        for positions in self.groups(texts):
            yield positions, self._asked(role, texts, positions)

    def count_cut(self, texts: list[str]) -> int:
        """Return how many of some documents are longer than the model reads."""
        return 0

    def canaries(self, texts: list[str]) -> Float32Array:
        """Return the embeddings of three fixed texts; what embeds no such texts takes others."""
        return self._embed("document", texts, None)

    def revision(self) -> str | None:
        """Return the version of the weights where it is known; `load` was called before."""
        return None

    def prompts(self) -> Mapping[str, str]:
        """Return what is put before texts, by role; `load` was called before."""
        return {}

    def __repr__(self) -> str:
        """Return the class and the name."""
        return f"{type(self).__name__}({self._name!r})"

    @property
    def name(self) -> str:
        """Name under which the embedder is stored, as in `"st:org/model"`."""
        return self._name

    @property
    def dim(self) -> int:
        """Dimension of the embeddings; loads the model and may embed a text to learn it."""
        if self._dim is None:
            self.fingerprint()
        assert self._dim is not None
        return self._dim

    @property
    def truncated(self) -> int:
        """Number of documents so far of which the model read the beginning only."""
        return self._truncated

    def embed_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> Float32Array:
        """Return the model's output for texts that are stored.

        Parameters
        ----------
        texts : sequence of str
            May be empty, and so may be each text.
        progress : callable or None
            Called after every group of texts with (texts embedded so far, texts in all).

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, normalized only if the model does so.

        Raises
        ------
        EmbedderError
            If a text is not a `str`, the model cannot be loaded or fails, or its output is not
            one finite row for each text, of the dimension that it had before.
        MissingExtraError
            If the provider's package is not installed.
        """
        todo = text_list(texts, self._name)
        result = self._embed("document", todo, progress)
        if cut := self.count_cut(todo):
            with self._lock:
                self._truncated += cut
        return result

    def embed_queries(self, texts: Sequence[str]) -> Float32Array:
        """Return the model's output for texts that are searched for.

        Parameters
        ----------
        texts : sequence of str
            May be empty, and so may be each text.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to `texts[i]`; finite, normalized only if the model does so.

        Raises
        ------
        EmbedderError
            As `embed_documents` does.
        MissingExtraError
            If the provider's package is not installed.
        """
        return self._embed("query", text_list(texts, self._name), None)

    def fingerprint(self) -> Fingerprint:
        """Return what identifies the model; loads it and embeds three fixed sentences."""
        with self._lock:
            if self._fingerprint is None:
                self._load_once()
                self._fingerprint = take(
                    self._name,
                    lambda texts: directed(self.canaries(texts)),
                    revision=self.revision(),
                    prompts=self.prompts(),
                )
                self._dim = self._fingerprint.dim
            return self._fingerprint

    def _load_once(self) -> None:
        if not self._ready:
            with self._lock:
                if not self._ready:
                    self.load()
                    self._ready = True

    def _embed(self, role: Role, texts: list[str], progress: Progress | None) -> Float32Array:
        self._load_once()
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        result: Float32Array | None = None
        done = 0
        with contextlib.closing(self.answers(role, texts)) as answers:
            for positions, output in answers:
                with self._lock:
                    rows = embedding_rows(output, positions, self._dim, self._name)
                    self._dim = rows.shape[1]
                if result is None:
                    result = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
                result[positions] = rows
                done += len(positions)
                if progress is not None:
                    progress(done, len(texts))
        assert result is not None
        return result

    def _asked(self, role: Role, texts: list[str], positions: Sequence[int]) -> Any:
        """Return `vectors` of a group; its errors name where the group stands in the call."""
        try:
            return self.vectors(role, [texts[position] for position in positions])
        except EmbedderError as error:
            first, last = min(positions), max(positions)
            if isinstance(error, UnusableTextError):
                first = last = positions[error.place]
            place = f"the text at position {first}"
            if last > first:
                place = f"{len(positions)} texts at positions {first} to {last}"
            error.add_note(f"while {self._name} embedded {place}")
            raise


def directed(rows: Float32Array) -> Float32Array:
    """Return rows with ones for zeros: who knows no word of a canary still equals itself."""
    return np.where(rows.any(axis=1, keepdims=True), rows, np.float32(1))
