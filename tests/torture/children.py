"""Forked processes that say what they do, and are killed: by others, or by themselves at a call."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from vecindex.store.columns import load_arrow

from .calls import Calls, changes

Say = Callable[[str], object]

_HANGS_S = 300


class Child:
    """A fork of this process that does some work.

    Parameters
    ----------
    work : callable
        Is called with a function that says a line to the parent. The child ends when it returns.
    """

    def __init__(self, work: Callable[[Say], object]) -> None:
        load_arrow()  # once here instead of in each child
        self._pipe, writing = os.pipe()
        self._said = b""
        sys.stderr.flush()
        self.process = os.fork()
        if self.process:
            os.close(writing)
            return
        status = 1
        try:
            os.close(self._pipe)
            write = os.write  # the real one: the work may be done with another in its place
            work(lambda line: write(writing, line.encode() + b"\n"))
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def hear(self, line: str) -> None:
        """Wait until the child has said this line, or is gone."""
        while f"{line}\n".encode() not in self._said and self._read():
            pass

    def kill(self) -> list[str]:
        """Kill the child; return all that it said."""
        os.kill(self.process, signal.SIGKILL)
        lines, status = self.end()
        assert status == -signal.SIGKILL, f"the child ended by itself, with {status}"
        return lines

    def end(self) -> tuple[list[str], int]:
        """Wait for the child's end; return all that it said, and its code as of `subprocess`."""
        while self._read():
            pass
        os.close(self._pipe)
        _, status = os.waitpid(self.process, 0)
        return self._said.decode().splitlines(), os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        if not select.select([self._pipe], [], [], _HANGS_S)[0]:
            os.kill(self.process, signal.SIGKILL)
            raise AssertionError(
                f"a child has said nothing for {_HANGS_S} s: {self._said[-500:]!r}"
            )
        more = os.read(self._pipe, 1 << 16)
        self._said += more
        return bool(more)


class KillAt(Calls):
    """Kills this process at its n-th call that changes the disk, counted from 0.

    Parameters
    ----------
    number : int
        Which call; it is not carried out.
    half : bool
        Let a call that writes write half of it first.
    say : callable
        Is told the call's name before.
    """

    def __init__(self, number: int, say: Say, *, half: bool = False) -> None:
        super().__init__()
        self._left, self._half, self._say = number, half, say

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Carry out one call, or end."""
        if changes(name, arguments):
            if not self._left:
                self._say(name)
                if self._half and name == "write":
                    self._real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
        return super().call(name, *arguments, **options)
