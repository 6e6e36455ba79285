"""Life after a fork: locks that nobody holds, and what else a child must not take over.

Only the thread that forks exists in the child. A lock that another one held would stay locked
there for ever; so every lock of vecindex comes from here and is opened in a child. Whatever such
a lock guards must bear that the holder got no further.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from weakref import WeakMethod, WeakSet

T = TypeVar("T")

_locks: WeakSet[Any] = WeakSet()
_whole: Any = threading.RLock()
_calls: set[WeakMethod[Callable[[], object]]] = set()


def new_lock() -> threading.Lock:
    """Return a lock that is open in a forked child."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def new_rlock() -> Any:
    """Return a reentrant lock that is open in a forked child; of the type `threading.RLock()`."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


class lazily(Generic[T]):  # noqa: N801  # used like `property`
    """A property that is computed when it is first asked for, and kept.

    Parameters
    ----------
    compute : callable
        The method; threads that come at the same moment may call it twice.

    Notes
    -----
    `functools.cached_property` of Python 3.11 computes under one lock for all objects of a class:
    threads wait for each other, and a child of a fork may wait for ever.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn where to keep values."""
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        """Return the value for an object, which from then on has it as an attribute."""
        value: T = self._compute(instance)
        instance.__dict__[self._name] = value
        return value


def call_in_child(method: Callable[[], object]) -> None:
    """Have a bound method called in every forked child, as long as its object lives.

    Parameters
    ----------
    method : callable
        Runs alone, before the locks are opened: one that is locked was held at the fork.
    """
    _calls.add(WeakMethod(method, _calls.discard))


@contextmanager
def before_any_fork() -> Iterator[None]:
    """Let a fork wait until the end of a `with` block, such as a first import on a thread.

    A module that another thread was importing at the fork could never be imported in the child.
    """
    with _whole:
        yield


def _after_fork() -> None:
    _whole._at_fork_reinit()
    for reference in list(_calls):
        if (method := reference()) is not None:
            method()
    for lock in list(_locks):
        lock._at_fork_reinit()  # as the standard library does with its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_whole.acquire, after_in_parent=_whole.release, after_in_child=_after_fork
    )
