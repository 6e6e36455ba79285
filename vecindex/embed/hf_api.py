"""Embedding models behind the Hugging Face inference API, or a server that speaks like it."""

from __future__ import annotations

from typing import Any

from vecindex.embed.hosted import HostedEmbedder, is_model_name, shown_url, usable_token
from vecindex.embed.libraries import library
from vecindex.embed.refusals import Refusal, asked_wait_s, may_succeed_later, unreadable
from vecindex.errors import EmbedderError

PREFIX = "hf:"
_POLL_S = 10.0  # a loading model's `estimated_time` is a guess: look at least this often


class HuggingFaceEmbedder(HostedEmbedder):
    """An embedder behind `huggingface_hub.InferenceClient.feature_extraction`.

    Parameters
    ----------
    model : str
        A name on the Hub, asked at Hugging Face's own inference provider; or the URL of a
        text-embeddings-inference server or of an inference endpoint.
    token : str or None
        None takes, for a name on the Hub, `HF_TOKEN` or the login of `hf auth login`. To a URL
        only a token that is given here is sent. Never stored, logged or shown.
    batch_size : int
        Most texts in one request; such servers refuse more than 32 unless told otherwise.
    concurrency : int
        Most requests at a time.
    timeout_s : float
        Seconds after which a request without an answer is given up.
    patience_s : float
        Most seconds to wait for a model that is loading, or for a rate limit.

    Raises
    ------
    EmbedderError
        If `model` is neither, or a number is out of range.

    Notes
    -----
    The server cuts texts that are longer than the model reads, and does not say so: `truncated`
    stays 0. Models that answer with a vector for each token are refused, because the server
    pads and adds tokens in ways that the answer does not tell. A URL is stored, but never asked
    again unless it is passed again; it must have no user, password or query.
    """

    extra = "hf"

    def __init__(
        self,
        model: str,
        *,
        token: str | None = None,
        batch_size: int = 32,
        concurrency: int = 4,
        timeout_s: float = 60.0,
        patience_s: float = 300.0,
    ) -> None:
        self._model = model.removeprefix(PREFIX)
        self._is_url = "://" in self._model
        if not self._is_url and not is_model_name(self._model):
            raise EmbedderError(
                f"{model!r} names no model: expected a name as on the Hugging Face Hub "
                "('organization/model') or the URL of a server"
            )
        super().__init__(
            PREFIX + (shown_url(self._model) if self._is_url else self._model),
            batch_size=batch_size,
            concurrency=concurrency,
            timeout_s=timeout_s,
            patience_s=patience_s,
        )
        self._token = token
        self._client: Any = None
        self._hub: Any = None
        self._http: Any = None

    def load(self) -> None:
        """Make the client; see `ProviderEmbedder`."""
        self._hub = library("huggingface_hub", "huggingface_hub", self.extra)
        self._http = library("httpx2", "huggingface_hub 2", self.extra)
        if self._token is None and not self._is_url:
            self._token = self._hub.get_token()
            if self._token is None:
                raise EmbedderError(
                    f"{self._name} needs a token: set the environment variable HF_TOKEN, run "
                    "`hf auth login`, or pass token="
                )
        if self._token is not None:
            self._token = usable_token(self._token, self._name)
        self._client = self._hub.InferenceClient(
            self._model,
            provider="hf-inference",
            token=self._token,
            timeout=self._timeout_s,
            # Without this the client would send the login for the Hub to any server.
            headers=None if self._token else {"authorization": None},
        )

    def request(self, texts: list[str]) -> Any:
        """Return the embeddings of some texts from one request; see `HostedEmbedder`."""
        rows = self._client.feature_extraction(texts, truncate=True)
        if rows.ndim > 2:
            raise ValueError(
                "it returns a vector for each token, not for each text. Choose a "
                "sentence-embedding model, or pool a local model"
            )
        return rows

    def refusal(self, error: Exception) -> Refusal:
        """Return what an error of the client means; see `HostedEmbedder`."""
        if isinstance(error, self._hub.errors.HfHubHTTPError):
            return _answered(error)
        if isinstance(error, self._hub.errors.InferenceTimeoutError | self._http.TimeoutException):
            return Refusal(f"no answer within {self._timeout_s:g} s", again=True)
        if isinstance(error, self._http.TransportError):
            return Refusal(f"no answer ({error})", again=True)
        return unreadable(error)


def _answered(error: Any) -> Refusal:
    response = error.response
    status = response.status_code
    wait_s = asked_wait_s(response.headers)
    if wait_s is None:
        wait_s = _estimated_s(response)
    reason = error.server_message or response.reason_phrase
    return Refusal(reason, status, may_succeed_later(status), wait_s)


def _estimated_s(response: Any) -> float | None:
    """Return how long to wait for a model that says it is loading."""
    try:
        return max(0.0, min(float(response.json()["estimated_time"]), _POLL_S))  # NaN is 0
    except (ValueError, KeyError, TypeError):
        return None
