"""The writer's lock: one at a time, gone with its process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vecindex.errors import IndexLockedError
from vecindex.store.files import Directory
from vecindex.store.lock import WriterLock

OPEN_FILES = Path("/proc/self/fd")
HOLD = """
import sys
from pathlib import Path
from vecindex.store.files import Directory
from vecindex.store.lock import WriterLock
lock = WriterLock(Directory(Path(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(directory: Directory) -> None:
    first = WriterLock(directory)
    with pytest.raises(IndexLockedError, match=f"process {os.getpid()} on {socket.gethostname()}"):
        WriterLock(directory)
    first.release()
    first.release()
    second = WriterLock(directory)
    with pytest.raises(IndexLockedError):
        WriterLock(directory)
    second.release()


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="no /proc")
def test_refused_ones_keep_nothing_open(directory: Directory) -> None:
    lock = WriterLock(directory)
    assert _open_files_in(directory) == 1
    for _ in range(20):
        with pytest.raises(IndexLockedError):
            WriterLock(directory)
    assert _open_files_in(directory) == 1
    lock.release()
    assert _open_files_in(directory) == 0


def _open_files_in(directory: Directory) -> int:
    # Not all files of the process: what other tests leave is closed at any time.
    count = 0
    for file in OPEN_FILES.iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            count += directory.path in file.readlink().parents
    return count


def test_the_file_says_who_holds_it(directory: Directory) -> None:
    (directory.path / "LOCK").write_text("x" * 500)
    lock = WriterLock(directory)
    owner = json.loads(directory.read("LOCK"))
    assert owner == {"pid": os.getpid(), "host": socket.gethostname()}
    lock.release()


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"[]", b"{}", b'{"pid": 1}', b"5"])
def test_a_holder_that_cannot_be_read_is_another_process(
    directory: Directory, garbage: bytes
) -> None:
    lock = WriterLock(directory)
    (directory.path / "LOCK").write_bytes(garbage)
    with pytest.raises(IndexLockedError, match="another process"):
        WriterLock(directory)
    lock.release()


def test_a_killed_process_holds_nothing(directory: Directory) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(IndexLockedError, match=f"process {process.pid} on "):
        WriterLock(directory)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()
    WriterLock(directory).release()
