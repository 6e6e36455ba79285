"""The writer's lock: one writer at a time, known by process and host."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from typing import Any

from vecindex.errors import IndexLockedError
from vecindex.store.files import Directory, write_note

NAME = "LOCK"
_PAUSE_S = 0.02  # between two tries


class WriterLock:
    """Holds the lock of an index directory until `release`, or until the process ends.

    Parameters
    ----------
    directory : Directory
        The index directory.
    timeout : float
        Seconds to wait for another writer; 0 does not wait.

    Raises
    ------
    IndexLockedError
        If another writer holds it, and still does after `timeout`.
    """

    def __init__(self, directory: Directory, timeout: float = 0.0) -> None:
        self._fd = directory.lock_file(NAME)
        try:
            self._take(directory, timeout)
        except BaseException:
            self.release()
            raise

    def _take(self, directory: Directory, timeout: float) -> None:
        end = time.monotonic() + timeout
        while True:  # a lock that blocks could not be told when to give up
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                left = end - time.monotonic()
                if left <= 0:
                    waited = f", also after {timeout:g} s" if timeout else ""
                    raise IndexLockedError(
                        f"{directory.path} is being written by {_holder(self._fd)}{waited}. One "
                        "writer at a time: close that one, wait for it (timeout), or open with "
                        'mode="r"'
                    ) from error
                time.sleep(min(_PAUSE_S, left))
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
