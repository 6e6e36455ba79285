"""Models behind an API: several requests at a time, waits where waiting helps, tokens kept."""

from __future__ import annotations

import logging
import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from vecindex.embed.base import ProviderEmbedder, Role
from vecindex.embed.refusals import Refusal, RefusedError, retrying
from vecindex.errors import EmbedderError

logger = logging.getLogger(__name__)

_LONGEST_REASON = 300  # characters: some servers answer with a whole web page

_SHORTEST_SECRET = 8  # characters: less is a word that a server without tokens was given

_MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.:/-]*", re.ASCII)

_stopped: ContextVar[threading.Event] = ContextVar("_stopped", default=threading.Event())  # noqa: B039


class HostedEmbedder(ProviderEmbedder):
    """An embedder that asks a server; a provider writes the request and reads its errors.

    Parameters
    ----------
    name : str
        Under which the embedder is stored, as in `"openai:text-embedding-3-small"`.
    batch_size : int
        Most texts in one request.
    concurrency : int
        Most requests at a time.
    timeout_s : float
        Seconds after which a request without an answer is given up.
    patience_s : float
        Most seconds to wait between the tries of one request, in all.

    Raises
    ------
    EmbedderError
        If a parameter is out of range.

    Notes
    -----
    A rate limit (429), a model that is still loading (503) and an overloaded gateway (502, 504)
    are waited for: as long as the server asks, else exponentially longer with jitter. A request
    without an answer is tried four times. Other errors are raised at once, and then requests
    that wait are not sent again. Waiting is logged under `vecindex.embed.hosted`.
    """

    extra: str
    """Name of the optional dependencies that bring the client."""

    request_size = 1_000_000
    """Most that the sizes of the texts in one request may sum up to, if there are several."""

    def __init__(
        self,
        name: str,
        *,
        batch_size: int,
        concurrency: int,
        timeout_s: float,
        patience_s: float,
    ) -> None:
        super().__init__(name, batch_size=batch_size)
        if concurrency < 1:
            raise EmbedderError(f"concurrency must be at least 1, not {concurrency}")
        if not timeout_s > 0 or not patience_s >= 0:
            raise EmbedderError(
                "timeout_s must be above 0 and patience_s not below 0 seconds, not "
                f"{timeout_s} and {patience_s}"
            )
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._token: str | None = None

    @abstractmethod
    def request(self, texts: list[str]) -> Any:
        """Return the embeddings of some texts from one request.

        Parameters
        ----------
        texts : list of str
            At least one, none of them empty.

        Returns
        -------
        array_like of shape (n, dim)
            Not checked.

        Raises
        ------
        Exception
            Whatever the client raises: `refusal` reads it.
        """

    @abstractmethod
    def refusal(self, error: Exception) -> Refusal:
        """Return what an error of the client means.

        Parameters
        ----------
        error : Exception
            Raised by `request`.

        Returns
        -------
        Refusal
            Its reason may hold the token: it is taken out before anyone sees it.
        """

    def size(self, text: str) -> int:
        """Return what a text counts towards `request_size`: here its bytes in UTF-8."""
        return len(text.encode())

    def groups(self, texts: list[str]) -> Iterator[Sequence[int]]:
        """Yield the positions of all texts, those of one request together."""
        for position, text in enumerate(texts):
            if not text:
                raise EmbedderError(
                    f"{self._name} cannot embed an empty text, as at position {position}: the API "
                    "refuses it. Leave the row out, or store it with a vector of your own"
                )
        first, total = 0, 0
        for position, text in enumerate(texts):
            size = self.size(text)
            full = position - first == self._batch_size or total + size > self.request_size
            if full and position > first:
                yield range(first, position)
                first, total = position, 0
            total += size
        yield range(first, len(texts))

    def answers(
        self, role: Role, texts: list[str]
    ) -> Generator[tuple[Sequence[int], Any], None, None]:
        """Yield positions and embeddings of the requests as they are answered."""
        stopped = threading.Event()
        running: set[Future[tuple[Sequence[int], Any]]] = set()

        def ask(positions: Sequence[int]) -> tuple[Sequence[int], Any]:
            """Return a group's positions and embeddings; runs in a thread of its own."""
            _stopped.set(stopped)
            return positions, self._asked(role, texts, positions)

        try:
            for positions in self.groups(texts):
                if len(running) == self._concurrency:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
                running.add(_started(ask, positions))
            for future in as_completed(running):
                yield future.result()
        finally:
            stopped.set()  # after an error or Ctrl-C nothing more is sent

    def vectors(self, role: Role, texts: list[str]) -> Any:
        """Return the embeddings of one group of texts; see `ProviderEmbedder`."""
        tries = retrying(
            self._patience_s, pause=_pause, before_wait=self._log_wait, extra=self.extra
        )
        try:
            return tries(self._try, texts)
        except RefusedError as refused:
            refusal = refused.refusal
        message = f"{self._name} failed: {refusal}"
        if refusal.again:
            waited_s = tries.statistics.get("idle_for", 0)
            asked = f"; the server asks for {refusal.wait_s:.0f} s" if refusal.wait_s else ""
            message += f" (waited {waited_s:.0f} s of at most {self._patience_s:.0f} s{asked})"
        raise EmbedderError(message + refusal.advice)

    def _try(self, texts: list[str]) -> Any:
        """Ask once; what it raises has not the client's error behind it, which holds the token."""
        try:
            return self.request(texts)
        except Exception as error:
            refusal = self.refusal(error)
        raise RefusedError(replace(refusal, reason=self._cleaned(refusal.reason)))

    def _log_wait(self, refusal: Refusal, wait_s: float, waited_s: float) -> None:
        logger.log(
            logging.WARNING if refusal.status == 503 else logging.INFO,
            "%s: %s; asking again in %.0f s (waiting %.0f of at most %.0f s)",
            *(self._name, refusal, wait_s, waited_s, self._patience_s),
        )

    def _cleaned(self, reason: str) -> str:
        """Return a server's words on one line of a fair length, without the token."""
        line = " ".join(reason.split())
        if self._token and len(self._token) >= _SHORTEST_SECRET:
            line = line.replace(self._token, "***")
        return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + " ..."


def usable_token(token: str, name: str) -> str:
    """Return a token without blanks around it; an `EmbedderError` if no header can hold it."""
    bare = token.strip()
    if not bare or not bare.isascii() or not bare.isprintable() or " " in bare:
        raise EmbedderError(
            f"the token for {name} is not one: it must be ASCII letters, digits and signs, "
            "without a space or a line break"
        )
    return bare


class _StoppedError(Exception):
    """The call that a request belongs to is over; nobody sees this."""


def shown_url(url: str) -> str:
    """Return a server's URL as it is stored; an `EmbedderError` if it is none, or has secrets."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise EmbedderError("a server's URL must be one as in 'http://127.0.0.1:8080/v1'")
    if "@" in parts.netloc or parts.query:  # the clients log URLs, and a user replaces the token
        raise EmbedderError(
            f"the URL of the server {host} must have no user, password or query: give the token "
            "by itself"
        )
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path}"


def is_model_name(model: str) -> bool:
    """Return True for a model's plain name: no URL, and nothing that only looks like one."""
    return bool(_MODEL_NAME.fullmatch(model)) and "//" not in model


def _pause(seconds: float) -> None:
    if _stopped.get().wait(seconds):
        raise _StoppedError


def _started(
    work: Callable[[Sequence[int]], tuple[Sequence[int], Any]], positions: Sequence[int]
) -> Future[tuple[Sequence[int], Any]]:
    """Return the future of some work that has begun, in a thread that holds up no exit."""
    future: Future[tuple[Sequence[int], Any]] = Future()

    def run() -> None:
        try:
            future.set_result(work(positions))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="vecindex-embed", daemon=True).start()
    return future
