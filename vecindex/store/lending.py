"""Long work in Python lends the interpreter to searches at once instead of every 5 ms.

A search gives the interpreter up while FAISS works, and wants it back some times a millisecond.
From a thread that packs records or writes a segment it would get it back after Python's switch
interval of 5 ms, each time. While vecindex does such work the interval is shorter. It is the
process's; it says nothing unless several threads want to run Python at the same moment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vecindex.forks import new_lock

_INTERVAL_S = 1e-4

_lock = new_lock()
_working = 0
_before_s = 0.0


@contextmanager
def lending() -> Iterator[None]:
    """Lend the interpreter sooner, for a `with` block; blocks may overlap and nest."""
    global _working, _before_s  # noqa: PLW0603
    with _lock:
        _working += 1
        if _working == 1:
            _before_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_before_s, _INTERVAL_S))
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if not _working:
                sys.setswitchinterval(_before_s)


def _after_fork() -> None:
    # Who was at work does not exist in the child.
    global _working  # noqa: PLW0603
    if _working:
        _working = 0
        sys.setswitchinterval(_before_s)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
