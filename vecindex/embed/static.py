"""Static models of model2vec: a vector for each token, and their mean for a text."""

from __future__ import annotations

from typing import Any

from vecindex.embed import names
from vecindex.embed.base import Role
from vecindex.embed.libraries import library
from vecindex.embed.loading import reading
from vecindex.embed.tokenized import TokenizedEmbedder
from vecindex.embed.weights import find_weights
from vecindex.embed.window import Window
from vecindex.errors import EmbedderError

PROVIDER = "static"


class StaticEmbedder(TokenizedEmbedder):
    """An embedder made of a static model, loaded when it is first used.

    Parameters
    ----------
    model : str
        A name on the Hugging Face Hub, as in `"minishlab/potion-base-8M"`, or a directory.
    truncate_dim : int or None
        Take this many leading dimensions, for models made for that; None takes all.
    batch_size : int
        Texts in one call of the model.

    Raises
    ------
    EmbedderError
        If `model` is neither a directory nor a possible name on the Hub, or another parameter
        cannot be used.

    Notes
    -----
    Safe to use from several threads. Hundreds of times as fast as a transformer; a text of which
    the model knows no token has an embedding of zeros, which an index refuses.
    """

    def __init__(
        self, model: str, *, truncate_dim: int | None = None, batch_size: int = 1024
    ) -> None:
        if truncate_dim is not None and truncate_dim < 1:
            raise EmbedderError(f"truncate_dim must be at least 1, not {truncate_dim}")
        self._weights = find_weights(model.removeprefix(PROVIDER + ":"))
        name = names.write(PROVIDER, self._weights.model, truncate_dim=truncate_dim)
        super().__init__(name, batch_size=batch_size)
        self._truncate_dim = truncate_dim
        self._model: Any = None
        self._window: Window | None = None

    def load(self) -> None:
        """Load the model; see `ProviderEmbedder`."""
        model2vec = library("model2vec", "model2vec", PROVIDER)
        with reading(self._weights, self._name):
            self._model = model2vec.StaticModel.from_pretrained(
                self._weights.location, dimensionality=self._truncate_dim, force_download=False
            )
        most = self._model.max_length
        characters = most and most * self._model.median_token_length  # what `encode` cuts first
        self._window = Window(self._model.tokenizer, most, characters=characters)

    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return the model's output for some texts; see `ProviderEmbedder`."""
        return self._model.encode(texts, use_multiprocessing=False)

    def window(self) -> Window | None:
        """Return what the model reads of a document; see `TokenizedEmbedder`."""
        return self._window
