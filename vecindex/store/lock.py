"""The writer's lock: one writer at a time, known by process and host."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from typing import Any

from vecindex.errors import IndexLockedError
from vecindex.store.files import Directory, storage_errors

NAME = "LOCK"


class WriterLock:
    """Holds the lock of an index directory until `release`, or until the process ends.

    Parameters
    ----------
    directory : Directory
        The index directory.

    Raises
    ------
    IndexLockedError
        If another writer holds it.
    """

    def __init__(self, directory: Directory) -> None:
        path = directory.path / NAME
        with storage_errors(f"cannot open {path} for writing"):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(self._fd)
            os.close(self._fd)
            raise IndexLockedError(
                f"{directory.path} is being written by {holder}. One writer at a time: close that "
                'one, or open with mode="r"'
            ) from error
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        # Only for the message of the next one who asks, so neither atomic nor synced.
        with storage_errors(f"cannot write {path}"):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, owner, 0)

    def release(self) -> None:
        """Give the lock up; harmless when that was done."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _holder(fd: int) -> str:
    try:
        owner: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
