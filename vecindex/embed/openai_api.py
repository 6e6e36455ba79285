"""Embedding models behind OpenAI's API, or a server that speaks like it."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np

from vecindex.embed import names
from vecindex.embed.hosted import HostedEmbedder, is_model_name, shown_url, usable_token
from vecindex.embed.libraries import library
from vecindex.embed.refusals import Refusal, asked_wait_s, may_succeed_later, unreadable
from vecindex.errors import EmbedderError
from vecindex.forks import new_lock

logger = logging.getLogger(__name__)

PREFIX = "openai:"

# Limits as in the API's reference; of the 8,192 tokens one is left as a margin, because the
# text of a cut may come out one token longer when the API reads it.
_MOST_TEXTS = 2048
_MOST_TOKENS = 8191
_TOKENS_PER_REQUEST = 300_000
_LONGEST_TOKEN = 128  # characters, in cl100k_base


class OpenAIEmbedder(HostedEmbedder):
    """An embedder behind the `openai` client.

    Parameters
    ----------
    model : str
        As in `"text-embedding-3-small"`.
    dimensions : int or None
        Dimension of the embeddings, for models that can shorten them; None takes the model's.
    api_key : str or None
        None takes the environment variable `OPENAI_API_KEY`. Never stored, logged or shown.
    base_url : str or None
        A server that speaks like OpenAI's, as in `"http://127.0.0.1:8000/v1"`; None takes the
        environment variable `OPENAI_BASE_URL`, else OpenAI's own.
    batch_size : int
        Most texts in one request, at most 2,048.
    concurrency : int
        Most requests at a time.
    timeout_s : float
        Seconds after which a request without an answer is given up.
    patience_s : float
        Most seconds to wait for a rate limit or an overloaded server.

    Raises
    ------
    EmbedderError
        If a name, an address or a number cannot be used.

    Notes
    -----
    OpenAI's API refuses texts above 8,192 tokens: for the models that tiktoken knows, longer
    texts are cut to 8,191 tokens, as a local model does, and counted in `truncated`. Only texts
    of more bytes than that are counted in tokens. tiktoken fetches its table of tokens from the
    network once; where it cannot, texts are cut to 8,191 bytes of UTF-8, which are at most as
    many tokens, and a warning is logged. Other models get texts as they are.

    An index keeps the address of `base_url`, but never asks it again unless it is passed again.
    An address must have no user, password or query.
    """

    extra = "openai"
    request_size = _TOKENS_PER_REQUEST

    def __init__(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        batch_size: int = 512,
        concurrency: int = 4,
        timeout_s: float = 60.0,
        patience_s: float = 300.0,
    ) -> None:
        self._model = model.removeprefix(PREFIX)
        if not is_model_name(self._model):
            raise EmbedderError(
                f"{model!r} names no model; expected as in 'text-embedding-3-small'"
            )
        if dimensions is not None and dimensions < 1:
            raise EmbedderError(f"dimensions must be at least 1, not {dimensions}")
        if batch_size > _MOST_TEXTS:
            raise EmbedderError(
                f"batch_size must be at most {_MOST_TEXTS}, the API's limit, not {batch_size}"
            )
        place = f"@{shown_url(base_url)}" if base_url else ""
        super().__init__(
            names.write("openai", self._model + place, dimensions=dimensions),
            batch_size=batch_size,
            concurrency=concurrency,
            timeout_s=timeout_s,
            patience_s=patience_s,
        )
        self._dimensions = dimensions
        self._token = api_key
        self._base_url = base_url
        self._openai: Any = None
        self._client: Any = None
        self._tokens: _Tokens | None = None

    def load(self) -> None:
        """Make the client; see `ProviderEmbedder`."""
        self._openai = library("openai", "openai", self.extra)
        self._token = self._token or os.environ.get("OPENAI_API_KEY")
        if not self._token:
            raise EmbedderError(
                f"{self._name} needs a key: set the environment variable OPENAI_API_KEY or pass "
                "api_key= (any text, for a server that asks for none)"
            )
        self._token = usable_token(self._token, self._name)
        if self._base_url is None and (address := os.environ.get("OPENAI_BASE_URL")):
            shown_url(address)  # refuses one with secrets
        self._client = self._openai.OpenAI(
            api_key=self._token,
            base_url=self._base_url,
            timeout=self._timeout_s,
            max_retries=0,  # waiting is ours: one way for all APIs, and one that can be stopped
        )
        self._tokens = _Tokens.of(self._model, self.extra)

    def size(self, text: str) -> int:
        """Return a bound of a text's tokens: a token is at least a byte of UTF-8."""
        size = len(text.encode())
        return size if self._tokens is None else min(size, _MOST_TOKENS)

    def count_cut(self, texts: list[str]) -> int:
        """Return how many texts are longer than the model reads."""
        tokens = self._tokens
        return 0 if tokens is None else sum(tokens.cut(text) is not text for text in texts)

    def request(self, texts: list[str]) -> Any:
        """Return the embeddings of some texts from one request; see `HostedEmbedder`."""
        if self._tokens is not None:
            texts = [self._tokens.cut(text) for text in texts]
        options = {"dimensions": self._dimensions} if self._dimensions else {}
        answer = self._client.embeddings.create(model=self._model, input=texts, **options)
        numbered = sorted(answer.data, key=lambda item: item.index)
        if [item.index for item in numbered] != list(range(len(numbered))):
            raise ValueError("its embeddings are not numbered from 0 on, one for each text")
        return np.array([item.embedding for item in numbered], dtype=np.float32)

    def refusal(self, error: Exception) -> Refusal:
        """Return what an error of the client means; see `HostedEmbedder`."""
        if isinstance(error, self._openai.APIStatusError):
            return _answered(error)
        if isinstance(error, self._openai.APITimeoutError):
            return Refusal(f"no answer within {self._timeout_s:g} s", again=True)
        if isinstance(error, self._openai.APIConnectionError):
            return Refusal(f"no answer ({error.__cause__ or error})", again=True)
        return unreadable(error)


class _Tokens:
    """Cuts texts to what OpenAI's models read."""

    def __init__(self, library: Any, encoding_name: str) -> None:
        self._library = library
        self._encoding_name = encoding_name
        self._encoding: Any = None
        self._is_tried = False
        self._lock = new_lock()

    @classmethod
    def of(cls, model: str, extra: str) -> _Tokens | None:
        """Return the tokens of a model, None if tiktoken does not know it."""
        tiktoken = library("tiktoken", "tiktoken", extra)
        try:
            return cls(tiktoken, tiktoken.encoding_name_for_model(model))
        except KeyError:
            return None

    def cut(self, text: str) -> str:
        """Return the beginning of a text that the model reads, the same object if it is all."""
        raw = text.encode()
        if len(raw) <= _MOST_TOKENS:
            return text
        encoding = self._loaded()
        if encoding is None:
            return raw[:_MOST_TOKENS].decode(errors="ignore")
        longest = text[: (_MOST_TOKENS + 1) * _LONGEST_TOKEN]
        tokens = encoding.encode_ordinary(longest)
        if len(tokens) <= _MOST_TOKENS:
            return text
        beginning: str = encoding.decode(tokens[:_MOST_TOKENS], errors="ignore")
        return beginning

    def _loaded(self) -> Any:
        """Return the encoding, None if its table is not on this machine nor to be had."""
        with self._lock:
            if not self._is_tried:
                self._is_tried = True
                try:
                    self._encoding = self._library.get_encoding(self._encoding_name)
                except Exception as error:  # no network, no room on the disk, a proxy's page
                    logger.warning(
                        "tiktoken cannot load %s (%s): texts above %d bytes are cut there",
                        *(self._encoding_name, type(error).__name__, _MOST_TOKENS),
                    )
            return self._encoding


def _answered(error: Any) -> Refusal:
    status = error.status_code
    headers = error.response.headers
    # OpenAI's reference says to try again after a 500; used-up credit comes as a 429.
    again = may_succeed_later(status) or status == 500
    again = again and error.code != "insufficient_quota"
    wait_s = asked_wait_s(headers)
    return Refusal(_reason(error.body) or error.response.reason_phrase, status, again, wait_s)


def _reason(body: Any) -> str:
    """Return what a server says is wrong: OpenAI under `message`, others in their own ways."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body or "")
