"""The writer's lock: one writer at a time, known by process and host."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from typing import Any

from vecindex.errors import IndexLockedError
from vecindex.store.files import Directory, write_note

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
        self._fd = directory.lock_file(NAME)
        try:
            self._take(directory)
        except BaseException:
            self.release()
            raise

    def _take(self, directory: Directory) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(self._fd)
            raise IndexLockedError(
                f"{directory.path} is being written by {holder}. One writer at a time: close that "
                'one, or open with mode="r"'
            ) from error
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        # Only for the message of the next one who asks: who wants to make room on a full disk
        # must get in.
        write_note(self._fd, owner)

    def release(self) -> None:
        """Give the lock up; harmless when that was done."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _holder(fd: int) -> str:
    try:
        owner: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
