"""Several processes, each with a copy of a sentence-transformers model on a device of its own."""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_MOMENT_S = 0.01  # in which what this process has put into a queue can be taken out again
_PATIENCE_S = 5.0  # for the batches that are under way; after it the processes are killed


class Pool:
    """The library's processes, started when first used and stopped after anything went wrong.

    Parameters
    ----------
    devices : sequence of str
        One process each, as in `["cuda:0", "cuda:1"]`.

    Notes
    -----
    A call at a time: the library's queues do not tell whose answers they hold. For the same reason
    a call that fails or is interrupted ends the processes; the next call starts new ones.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = list(devices)
        self._lock = threading.Lock()
        self._running: Any = None
        self._stop: Callable[[], object] | None = None

    def encode(
        self, model: Any, encode: Callable[..., Any], texts: list[str], **options: Any
    ) -> Any:
        """Return what a method of the model returns, computed by all processes.

        Parameters
        ----------
        model : SentenceTransformer
            Copied into each process at the first call.
        encode : callable
            Its method.
        texts : list of str
            Shared out in batches of `options["batch_size"]`.
        **options : object
            Go to `encode`.

        Returns
        -------
        ndarray of shape (n, dim)
            In the order of the texts.
        """
        with self._lock:
            if self._running is None:
                self._start(model)
            try:
                return encode(
                    texts, pool=self._running, chunk_size=options["batch_size"], **options
                )
            except BaseException:
                self._end()
                raise

    def close(self) -> None:
        """Stop the processes, after a call that is under way; happens at exit by itself."""
        with self._lock:
            self._end()

    def _start(self, model: Any) -> None:
        with _interrupts_ignored():  # by the processes, for good: they are stopped from here
            self._running = model.start_multi_process_pool(self._devices)
        self._stop = weakref.finalize(self, _stop, model, self._running)

    def _end(self) -> None:
        stop, self._stop, self._running = self._stop, None, None
        if stop is not None:
            stop()


class _Leave:
    """What makes the process exit that takes it from a queue."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ()


def _stop(model: Any, running: Any) -> None:
    """End the processes, by their own exit if they come to it: what is killed leaks semaphores."""
    try:
        with contextlib.suppress(queue.Empty):
            while True:
                running["input"].get(timeout=_MOMENT_S)
        for _ in running["processes"]:
            running["input"].put(_Leave())
        until = time.monotonic() + _PATIENCE_S
        for process in running["processes"]:
            process.join(max(until - time.monotonic(), 0))
    finally:  # at once if Ctrl-C comes again
        model.stop_multi_process_pool(running)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C; only the main thread can do so."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
