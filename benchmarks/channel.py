"""A library in a process of its own that answers one command at a time.

The parent starts `python -m <module>` with any interpreter and asks; the child answers with JSON, a
line each. Whatever a library prints goes to a log file instead of between the answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "LANCE_CPU_THREADS",
        "TOKIO_WORKER_THREADS",
    ),
    "1",
)
"""Environment of a process that only answers queries: whoever listens to these uses one thread."""
_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GRPC_VERBOSITY": "ERROR",
}


class ChildError(Exception):
    """What went wrong in a child, as one line."""


class Child:
    """The parent's end: starts the process, asks, ends it."""

    def __init__(
        self,
        module: str,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # lives as long as the child
        self._process = subprocess.Popen(
            [os.path.abspath(python), "-m", module],  # noqa: PTH100  # resolves no symbolic links
            cwd=ROOT,
            env={**os.environ, **_QUIET, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return the child's answer; only now does the child work."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps([command, arguments]), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise ChildError(f"the process is gone: {self._last_words()}") from None
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(f"the process ended during {command!r}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End the process; a second call does nothing."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _last_words(self) -> str:
        code = self._process.wait(60)
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return f"exit code {code}; {lines[-1] if lines else 'it wrote nothing'}"


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer commands until the parent closes its end; the child's `main`."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            answer = {"value": handlers[command](**arguments)}
        except Exception as error:
            answer = {"error": one_line(error)}
        print(json.dumps(answer), file=channel, flush=True)


def one_line(error: BaseException) -> str:
    """Return an error's class and first line, without the machine's paths."""
    words = (str(error).strip().splitlines() or [""])[0][:300].split()
    shown = " ".join("<path>" if word.strip("'\"(").startswith("/") else word for word in words)
    return f"{type(error).__name__}: {shown}"
