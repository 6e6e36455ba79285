"""What an API answers instead of embeddings, and when to ask it again."""

from __future__ import annotations

import contextlib
import email.utils
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vecindex.embed.libraries import library

_AGAIN = frozenset({429, 502, 503, 504})  # too much asked, or nobody there to answer just now
_TRIES_UNANSWERED = 4  # a server that never answers is more likely a wrong address
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0

_ADVICE = {
    401: "check the token and the model's name",
    403: "check what the token may do",
    404: "check the model's name and the address",
    413: "give shorter texts, or a smaller batch_size",
    429: "ask less often, or raise the limits of the account",
}


@dataclass(frozen=True)
class Refusal:
    """What an API answered instead of embeddings.

    Parameters
    ----------
    reason : str
        In the API's words.
    status : int or None
        The HTTP status; None without an answer.
    again : bool
        True if the same request may succeed later.
    wait_s : float or None
        Seconds after which the API asks to be called again.
    """

    reason: str
    status: int | None = None
    again: bool = False
    wait_s: float | None = None

    def __str__(self) -> str:
        """Return status and reason."""
        return f"status {self.status}, {self.reason}" if self.status else self.reason

    @property
    def advice(self) -> str:
        """A sentence on what the user can do, empty if there is no telling."""
        if self.status is None:
            return ". Please check the address and the network" if self.again else ""
        return f". Please {_ADVICE[self.status]}" if self.status in _ADVICE else ""


class RefusedError(Exception):
    """A request was refused; never leaves this package."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def may_succeed_later(status: int) -> bool:
    """Return True if the same request may succeed after an answer with this HTTP status."""
    return status in _AGAIN


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, a number or a date; else None."""
    value = headers.get("retry-after")
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def unreadable(error: Exception) -> Refusal:
    """Return what is wrong with an answer that the client, or numpy, could not read."""
    if isinstance(error, json.JSONDecodeError):
        return Refusal(f"the answer is not JSON ({error})")
    if isinstance(error, AttributeError | TypeError):
        return Refusal(f"the answer is not a list of embeddings ({error})")
    if "inhomogeneous shape" in str(error):  # numpy's words
        return Refusal(
            "the embeddings in its answer differ in length. Does it return a vector for each "
            "token, not for each text? Then choose a sentence-embedding model"
        )
    return Refusal(str(error) or type(error).__name__)


def retrying(
    patience_s: float,
    *,
    pause: Callable[[float], None],
    before_wait: Callable[[Refusal, float, float], None],
    extra: str,
) -> Any:
    """Return what calls a function until it is not refused, or asking again is of no use.

    Parameters
    ----------
    patience_s : float
        Most seconds to wait in all.
    pause : callable
        Called with the seconds to wait.
    before_wait : callable
        Called with the refusal, the seconds to wait next, and those to have waited by then.
    extra : str
        The extra of vecindex that brings tenacity.

    Returns
    -------
    tenacity.Retrying
        Raises the function's last error; counts the seconds waited under `"idle_for"`.
    """

    def is_enough(state: Any) -> bool:
        """Return True if the next wait would be one too many."""
        refusal: Refusal = state.outcome.exception().refusal
        if refusal.status is None:
            return bool(state.attempt_number >= _TRIES_UNANSWERED)
        return bool(state.idle_for + state.upcoming_sleep > patience_s)

    tenacity = library("tenacity", "tenacity", extra)
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_worth_a_wait),
        wait=_wait_s,
        stop=is_enough,
        before_sleep=lambda state: before_wait(
            state.outcome.exception().refusal, state.upcoming_sleep, state.idle_for
        ),
        sleep=pause,
        reraise=True,
    )


def _is_worth_a_wait(error: BaseException) -> bool:
    return isinstance(error, RefusedError) and error.refusal.again


def _wait_s(state: Any) -> float:
    asked_s = state.outcome.exception().refusal.wait_s
    if asked_s is not None:
        return max(float(asked_s), _FIRST_WAIT_S) + random.uniform(0, 1)
    doubled = _FIRST_WAIT_S * 2.0 ** min(state.attempt_number - 1, 10)
    return float(min(doubled, _LONGEST_WAIT_S) * random.uniform(1, 1.5))
