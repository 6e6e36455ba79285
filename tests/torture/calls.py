"""Stands between vecindex and the operating system: every call that touches a file passes here."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

CHANGES = (
    "write", "pwrite", "ftruncate", "truncate", "fsync", "fdatasync", "replace", "rename",
    "link", "symlink", "unlink", "remove", "mkdir", "rmdir",
)  # fmt: skip
"""Calls of `os` that change what is on the disk, or wait for it; beside them is `open`."""

_READS = ("open", "close", "stat", "fstat", "listdir", "scandir", "pread", "lseek")


class Calls:
    """Passes calls on; a subclass looks at them, changes them or refuses them."""

    def __init__(self) -> None:
        self._real = {name: getattr(os, name) for name in (*CHANGES, *_READS)}
        self._real["mmap"] = mmap.mmap

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Carry out one call."""
        return self._real[name](*arguments, **options)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Take the place of the operating system's calls."""
        with ExitStack() as stack:
            for name in self._real:
                owner = mmap if name == "mmap" else os
                stack.enter_context(patch.object(owner, name, self._passing(name)))
            yield

    def _passing(self, name: str) -> Any:
        return lambda *arguments, **options: self.call(name, *arguments, **options)


def changes(name: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether such a call may change the disk."""
    if name == "open":
        return bool(arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    return name in CHANGES
