"""File operations: every byte that vecindex writes goes through this module.

Tests replace `Directory` with a twin that records, tears or refuses writes.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import shutil
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vecindex.arrays import Int64Array, UInt8Array
from vecindex.checksum import crc32
from vecindex.errors import CorruptIndexError, StorageFailedError, StorageFullError

Buffer: TypeAlias = bytes | bytearray | memoryview

BLOCK_BYTES = 256 * 1024
"""Every file has one CRC-32 per block of this size, kept in the manifest."""

_PENDING_BYTES = 1 << 20  # small writes are gathered up to this size
_COPIED_BYTES = 8 << 20  # at once
_FEW = 64
_NAME = re.compile(r"[a-z]+-[0-9]+\.[a-z0-9]+\Z")
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` of a write into a `StorageFullError` or a `StorageFailedError`."""
    try:
        yield
    except (StorageFullError, StorageFailedError):
        raise
    except OSError as error:
        kind = StorageFullError if error.errno in _FULL else StorageFailedError
        reason = error.strerror or str(error)
        raise kind(error.errno, f"{what}: {reason}") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an `OSError` that says nothing about the file itself into a `StorageFailedError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _SCARCE:
            raise
        raise StorageFailedError(error.errno, f"cannot read {path}: {error.strerror}") from error


def check_name(name: str) -> None:
    """Raise `CorruptIndexError` if the manifest's name of a file could leave the directory."""
    if not _NAME.match(name):
        raise CorruptIndexError(f"MANIFEST names an impossible file: {name!r}")


@dataclass(frozen=True)
class FileEntry:
    """What the manifest knows of an immutable file.

    Parameters
    ----------
    name : str
        The file's name within the directory.
    size : int
        Bytes.
    crcs : bytes
        Little-endian CRC-32 values, one per block of `BLOCK_BYTES`.
    """

    name: str
    size: int
    crcs: bytes

    def __post_init__(self) -> None:
        """Refuse a name that could leave the directory."""
        check_name(self.name)

    def to_list(self) -> list[Any]:
        """Return what the manifest stores."""
        return [self.name, self.size, self.crcs]


class FileWriter:
    """Writes one new file from start to end and checksums it on the way.

    Parameters
    ----------
    directory : Directory
        Where.
    name : str
        The file's name; it must not exist.
    """

    def __init__(self, directory: Directory, name: str) -> None:
        self.name = name
        self.size = 0
        self._appender = directory.create(name)
        self._pending: list[Buffer] = []
        self._pending_bytes = 0
        self._crcs: list[int] = []
        self._crc = 0
        self._in_block = 0

    def write(self, data: Buffer) -> None:
        """Append `data`, which must not change until `finish`."""
        size = memoryview(data).nbytes
        self._pending.append(data)
        self._pending_bytes += size
        self.size += size
        if self._pending_bytes >= _PENDING_BYTES:
            self._flush()

    def finish(self) -> FileEntry:
        """Put everything on stable storage and return the file's entry."""
        self._flush()
        if self._in_block:
            self._crcs.append(self._crc)
        self._appender.sync()
        self._appender.close()
        return FileEntry(self.name, self.size, np.array(self._crcs, dtype="<u4").tobytes())

    def abandon(self) -> None:
        """Close the file without promising anything about it."""
        self._appender.close()

    def _flush(self) -> None:
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._checksum(memoryview(data).cast("B"))
        self._appender.append([data])
        self._pending = []
        self._pending_bytes = 0

    def _checksum(self, view: memoryview) -> None:
        start = 0
        while start < len(view):
            stop = min(len(view), start + BLOCK_BYTES - self._in_block)
            self._crc = crc32(view[start:stop], self._crc)
            self._in_block += stop - start
            start = stop
            if self._in_block == BLOCK_BYTES:
                self._crcs.append(self._crc)
                self._crc = self._in_block = 0


def write_file(
    directory: Directory, name: str, fields: bytes, chunks: Iterable[Buffer]
) -> FileEntry:
    """Write a file of a checksummed header of 64 bytes and chunks, and return its entry."""
    writer = FileWriter(directory, name)
    try:
        header = fields.ljust(60, b"\0")
        writer.write(header + struct.pack("<I", crc32(header)))
        for chunk in chunks:
            writer.write(chunk)
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


def copy_file(data: UInt8Array, target: Directory, name: str) -> FileEntry:
    """Write a file's mapped bytes, and return the copy's entry, on stable storage."""
    writer = FileWriter(target, name)
    try:
        for start in range(0, len(data), _COPIED_BYTES):
            writer.write(data[start : start + _COPIED_BYTES].data)
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


def write_note(fd: int, data: bytes) -> None:
    """Put `data` into an open file if there is room; neither atomic nor durable."""
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, data, 0)


class Appender:
    """An open file that only grows, apart from taking back what was not acknowledged."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self._fd = os.open(path, flags | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    def append(self, buffers: list[Buffer]) -> None:
        """Write all buffers at the end of the file."""
        with storage_errors(f"cannot write {self.path}"):
            for buffer in buffers:
                view = memoryview(buffer).cast("B")
                while len(view):
                    view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        """Wait until the file's bytes are on stable storage."""
        with storage_errors(f"cannot sync {self.path}"):
            os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        """Cut the file back to `size` bytes and go on there."""
        with storage_errors(f"cannot truncate {self.path}"):
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Directory:
    """One index directory: reading it, and every way in which it is changed.

    Parameters
    ----------
    path : Path
        The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- changes --------------------------------------------------------------------------

    def make(self) -> None:
        """Create the directory and its parents, durably; fine when it exists."""
        missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
        with storage_errors(f"cannot create {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
        for path in missing:
            Directory(path.parent).sync()

    def move(self, path: Path) -> None:
        """Give the directory another path on the same file system, durably."""
        with storage_errors(f"cannot rename {self.path} to {path}"):
            self.path.rename(path)
        Directory(path.parent).sync()

    def link(self, name: str, target: Directory) -> bool:
        """Give a plain file an entry in another directory as well; False if that cannot be.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """
        path = self.path / name
        if not stat.S_ISREG(path.lstat().st_mode):
            return False  # of a symbolic link only the link itself would be shared
        try:
            (target.path / name).hardlink_to(path)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, one that has no links, one more than it can count
            return False
        return True

    def discard(self) -> None:
        """Remove the directory and what is in it, as far as possible."""
        shutil.rmtree(self.path, ignore_errors=True)

    def lock_file(self, name: str) -> int:
        """Return a descriptor of a file to lock, which is made if there is none."""
        with storage_errors(f"cannot open {self.path / name} for writing"):
            return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def create(self, name: str) -> Appender:
        """Return a new, empty file that must not exist yet."""
        with storage_errors(f"cannot create {self.path / name}"):
            return Appender(self.path / name, os.O_CREAT | os.O_EXCL)

    def reopen(self, name: str, size: int) -> Appender:
        """Return an existing file, durably cut to `size` bytes, ready to grow."""
        with storage_errors(f"cannot open {self.path / name}"):
            appender = Appender(self.path / name, 0)
            try:
                cut = self.size(name) > size
                appender.truncate(size)
                if cut:  # or it could come back, made whole by the first bytes written behind it
                    appender.sync()
            except BaseException:
                appender.close()
                raise
        return appender

    def write(self, name: str, data: bytes) -> None:
        """Replace the whole content of `name` atomically and durably."""
        temporary = name + ".tmp"
        self.remove(temporary)
        appender = self.create(temporary)
        try:
            appender.append([data])
            appender.sync()
        finally:
            appender.close()
        with storage_errors(f"cannot replace {self.path / name}"):
            (self.path / temporary).replace(self.path / name)
        self.sync()

    def remove(self, name: str) -> None:
        """Remove a file; fine when there is none."""
        with storage_errors(f"cannot remove {self.path / name}"):
            (self.path / name).unlink(missing_ok=True)

    def sync(self) -> None:
        """Wait until the directory's entries are on stable storage."""
        with storage_errors(f"cannot sync {self.path}"):
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    # -- reading --------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names in the directory, sorted."""
        return sorted(path.name for path in self.path.iterdir())

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return (self.path / name).stat().st_size

    def stamp(self, name: str) -> tuple[int, int, int]:
        """Return what changes whenever the file is replaced, or grows."""
        found = os.stat(f"{self.path}/{name}")  # noqa: PTH116  # half of what Path takes
        return found.st_ino, found.st_mtime_ns, found.st_size

    def touch(self, name: str) -> None:
        """Let a file look changed; if that cannot be, or it is gone, nothing happens."""
        now = time.time_ns()  # the kernel's own clock for files moves every 4 ms only
        with suppress(OSError):
            os.utime(self.path / name, ns=(now, now))

    def descriptor(self, name: str) -> int:
        """Return a descriptor of a file that is open for reading."""
        return os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, name: str, offset: int = 0) -> bytes:
        """Return a copy of a file's bytes from `offset` on, which may be beyond its end.

        What another process may cut must be read like this: a mapping would kill this process.
        """
        with (
            _reading(self.path / name),
            open(self.descriptor(name), "rb", buffering=0) as file,  # noqa: PTH123 - no path
        ):
            file.seek(offset)
            return file.readall()

    def map(self, name: str, *, private: bool = False) -> UInt8Array:
        """Return a file's bytes, memory-mapped; `private` ones can be changed in memory only."""
        with _reading(self.path / name):
            fd = self.descriptor(name)
            try:
                if os.fstat(fd).st_size == 0:
                    return np.empty(0, dtype=np.uint8)
                access = mmap.ACCESS_COPY if private else mmap.ACCESS_READ
                return np.frombuffer(mmap.mmap(fd, 0, access=access), dtype=np.uint8)
            finally:
                os.close(fd)


class MappedFile:
    """An immutable file, memory-mapped, whose blocks are checked when they are first used.

    Parameters
    ----------
    directory : Directory
        Where the file is.
    entry : FileEntry
        What the manifest says of it.
    private : bool
        Map it copy-on-write.

    Raises
    ------
    CorruptIndexError
        If the file has another size than the manifest says.
    FileNotFoundError
        If it is not there.
    """

    def __init__(self, directory: Directory, entry: FileEntry, *, private: bool = False) -> None:
        self.entry = entry
        self.path = directory.path / entry.name
        self.data = directory.map(entry.name, private=private)
        if len(self.data) != entry.size:
            offset = min(len(self.data), entry.size)
            raise self.corrupt(offset, f"it has {len(self.data)} bytes, expected {entry.size}")
        self._crcs = np.frombuffer(entry.crcs, dtype="<u4")
        if len(self._crcs) != -(-entry.size // BLOCK_BYTES):
            raise CorruptIndexError(f"MANIFEST: wrong number of checksums for {entry.name}")
        self._flags = bytearray(len(self._crcs))
        self._checked = np.frombuffer(self._flags, dtype=np.bool_)
        self.all_checked = False

    def corrupt(self, offset: int, what: str) -> CorruptIndexError:
        """Return the error that names this file and `offset`."""
        return CorruptIndexError(f"{self.path} is damaged at offset {offset}: {what}")

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Raise `CorruptIndexError` unless the blocks of bytes [start, stop) are as written."""
        if self.all_checked:
            return
        stop = self.entry.size if stop is None else stop
        first, last = start // BLOCK_BYTES, -(-min(stop, self.entry.size) // BLOCK_BYTES)
        if self._flags.find(0, first, last) < 0:
            return
        for block in first + np.flatnonzero(~self._checked[first:last]):
            self._check_block(int(block))
        self.all_checked = bool(self._checked.all())

    def check_at(self, start: int, numbers: Int64Array, size: int) -> None:
        """Check the blocks that hold items of `size` bytes each, counted from `start` on."""
        if self.all_checked:
            return
        if len(numbers) <= _FEW:  # a single query's: no numpy call is as cheap as this
            flags = self._flags
            for number in numbers.tolist():
                first = start + number * size
                last = first + size - 1
                if not (flags[first // BLOCK_BYTES] and flags[last // BLOCK_BYTES]):
                    self.check(first, last + 1)
            return
        first = (start + numbers * size) // BLOCK_BYTES
        last = (start + numbers * size + size - 1) // BLOCK_BYTES
        new = ~(self._checked[first] & self._checked[last])
        spans = set(zip(first[new].tolist(), last[new].tolist(), strict=True))
        for block, end in sorted(spans):
            self.check(block * BLOCK_BYTES, (end + 1) * BLOCK_BYTES)

    def bad_blocks(self) -> list[int]:
        """Return the offsets of all blocks that are not as written; reads the whole file."""
        bad = []
        for block in range(len(self._crcs)):
            try:
                self._check_block(block)
            except CorruptIndexError:
                bad.append(block * BLOCK_BYTES)
        return bad

    def _check_block(self, block: int) -> None:
        start = block * BLOCK_BYTES
        good = crc32(self.data[start : start + BLOCK_BYTES].data) == self._crcs[block]
        # Once another thread has checked it, a private header may have been changed in memory.
        if not good and not self._checked[block]:
            raise self.corrupt(start, f"checksum mismatch in block {block}")
        self._checked[block] = True
