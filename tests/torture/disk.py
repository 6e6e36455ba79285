"""A disk that remembers every write, and what may be left of them after a crash.

The model. Nothing is on the disk before it is synced, and what is not synced may be there in part:

- A file's bytes: `fsync` or `fdatasync` of the file puts all of them there. Until then each
  sector of 512 bytes of each write, each truncation, and each growth of the file may be there
  or not, in any combination. Where a file grew and a sector did not arrive there are zeros, or
  junk, as old or badly configured file systems show.
- A directory's entries: `fsync` of the directory puts all of them there; that of a file does not
  (POSIX promises no more, though ext4 and XFS do). Until then each creation, renaming, and
  removal may be there or not, those that concern the same name in their order.
- A rename is atomic: never half, and the name that it replaces always leads to a file. It does
  not wait for the file's bytes: a file that was renamed before it was synced may be empty.

ext4 and XFS keep metadata in order: every prefix of the entries' operations is among the images.
Bytes that were synced stay as they are; what damage does is not the subject here.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .calls import Calls, changes

SECTOR = 512
ROOT = 0
"""Inode of the directory in which everything happens."""

Image = dict[str, bytes | None]
"""What is at each path below the root after a crash; None is a directory."""


@dataclass(frozen=True)
class Write:
    """Bytes written to a file."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    """A file cut, or made longer."""

    inode: int
    size: int


@dataclass(frozen=True)
class Grow:
    """The new size of a file whose bytes did not arrive, and what is there instead."""

    inode: int
    size: int
    fill: bytes


@dataclass(frozen=True)
class Link:
    """A new entry of a directory, which may replace one."""

    directory: int
    name: str
    inode: int


@dataclass(frozen=True)
class Unlink:
    """An entry removed."""

    directory: int
    name: str


@dataclass(frozen=True)
class Rename:
    """An entry moved, perhaps over another."""

    directory: int
    name: str
    to_directory: int
    to_name: str


@dataclass(frozen=True)
class Sync:
    """A file's bytes, or a directory's entries, put on the disk."""

    inode: int


@dataclass(frozen=True)
class Mark:
    """What the program above knows: a step `begins`, or is `done`, or has `failed`."""

    what: str
    step: int


Data = Write | Resize | Grow
Entry = Link | Unlink | Rename
Event = Data | Entry | Sync | Mark


class Disk:
    """What is on the disk for certain, and what may be."""

    def __init__(self) -> None:
        self.bytes: dict[int, bytes | None] = {ROOT: None}  # None is a directory
        self.entries: dict[tuple[int, str], int] = {}
        self.data: list[Data] = []
        self.changes: list[Entry] = []

    def take(self, event: Event) -> None:
        """Let one more thing happen."""
        if isinstance(event, Write | Resize | Grow):
            self.data.append(event)
        elif isinstance(event, Link | Unlink | Rename):
            self.changes.append(event)
        elif isinstance(event, Sync):
            if self.bytes.get(event.inode, b"") is None:
                self._sync_directory(event.inode)
            else:
                arrived = [unit for unit in self.data if unit.inode == event.inode]
                self.bytes[event.inode] = _applied(self.bytes[event.inode] or b"", arrived)
                self.data = [unit for unit in self.data if unit.inode != event.inode]

    def _sync_directory(self, inode: int) -> None:
        wanted: set[tuple[int, str]] = set()
        arrived, waiting = [], []
        for change in reversed(self.changes):  # with an operation goes what it builds on
            keys = _keys(change)
            if wanted & keys or any(key[0] == inode for key in keys):
                wanted |= keys
                arrived.append(change)
            else:
                waiting.append(change)
        self.entries = _linked(self.entries, arrived[::-1])
        self.changes = waiting[::-1]

    # -- what may be left -------------------------------------------------------------------

    def images(self, rng: random.Random, samples: int) -> Iterator[Image]:
        """Yield what may be there after a crash now: first what is typical, then at random."""
        whole = self._units(b"\0")
        every = len(self.changes)
        for count in range(every + 1):  # in order, as a journal keeps them
            for units in (whole, []):
                yield self._image(units, self.changes[:count])
        for place in range(len(whole)):
            yield self._image(whole[:place], self.changes)  # torn
            yield self._image(whole[:place] + whole[place + 1 :], self.changes)  # a hole
            yield self._image([whole[place]], self.changes)
        for place in range(every):
            yield self._image(whole, self.changes[:place] + self.changes[place + 1 :])
            yield self._image(whole, [self.changes[place]])
        if len(whole) + every < 2:
            return
        for _ in range(samples):
            units = self._units(rng.choice((b"\0", b"\xa5")))
            share = rng.random()
            kept = [unit for unit in units if rng.random() < share]
            share = rng.choice((0.0, 0.5, 1.0, rng.random()))
            yield self._image(kept, [change for change in self.changes if rng.random() < share])

    def _units(self, fill: bytes) -> list[Data]:
        """Return the pieces of the writes that are not synced, each of which may be missing."""
        units: list[Data] = []
        for unit in self.data:
            if not isinstance(unit, Write):
                units.append(unit)
                continue
            end = unit.offset + len(unit.data)
            units.append(Grow(unit.inode, end, fill))
            at = unit.offset
            while at < end:
                stop = min(end, at - at % SECTOR + SECTOR)
                piece = unit.data[at - unit.offset : stop - unit.offset]
                units.append(Write(unit.inode, at, piece))
                at = stop
        return units

    def _image(self, units: Sequence[Data], entries: Sequence[Entry]) -> Image:
        linked = _linked(self.entries, entries)
        found = dict(self.bytes)
        for inode in {unit.inode for unit in units}:
            mine = [unit for unit in units if unit.inode == inode]
            found[inode] = _applied(found.get(inode) or b"", mine)
        paths: dict[int, list[tuple[str, int]]] = {}
        for (directory, name), inode in linked.items():
            paths.setdefault(directory, []).append((name, inode))
        image: Image = {}
        _list(ROOT, "", paths, found, image)
        return image


def _list(
    directory: int,
    prefix: str,
    paths: dict[int, list[tuple[str, int]]],
    found: dict[int, bytes | None],
    image: Image,
) -> None:
    for name, inode in paths.get(directory, ()):
        image[prefix + name] = found.get(inode, b"")
        if inode in found and found[inode] is None:
            _list(inode, f"{prefix}{name}/", paths, found, image)


def _applied(base: bytes, units: Sequence[Data]) -> bytes:
    data = bytearray(base)
    for unit in units:
        if isinstance(unit, Resize):
            del data[unit.size :]
            data.extend(bytes(unit.size - len(data)))
        elif isinstance(unit, Grow):
            data.extend(unit.fill * (unit.size - len(data)))
        else:
            data.extend(bytes(max(0, unit.offset - len(data))))
            data[unit.offset : unit.offset + len(unit.data)] = unit.data
    return bytes(data)


def _keys(change: Entry) -> set[tuple[int, str]]:
    keys = {(change.directory, change.name)}
    return keys | {(change.to_directory, change.to_name)} if isinstance(change, Rename) else keys


def _linked(
    entries: dict[tuple[int, str], int], changes: Sequence[Entry]
) -> dict[tuple[int, str], int]:
    found = dict(entries)
    for change in changes:
        key = change.directory, change.name
        if isinstance(change, Link):
            found[key] = change.inode
        elif key in found:  # else the name never got there
            inode = found.pop(key)
            if isinstance(change, Rename):
                found[change.to_directory, change.to_name] = inode
    return found


class Recorder(Calls):
    """Records what happens to the files below a directory.

    Parameters
    ----------
    root : Path
        The directory. What is in it already is on the disk.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.events: list[Event] = []
        self.start = Disk()  # before the first event
        self._live: dict[tuple[int, str], int] = {}
        self._kinds: dict[int, bool] = {ROOT: True}  # whether it is a directory
        self._open: dict[int, int] = {}
        self._load(root, ROOT)
        self.refuse: tuple[str, int, BaseException] | None = None
        """A call's name, how many of them pass before, and the error of the next one."""

    def _load(self, path: Path, inode: int) -> None:
        for child in sorted(path.iterdir()):
            number = self._inode(directory=child.is_dir())
            self._live[inode, child.name] = self.start.entries[inode, child.name] = number
            self.start.bytes[number] = None if child.is_dir() else child.read_bytes()
            if child.is_dir():
                self._load(child, number)

    def mark(self, what: str, step: int) -> None:
        """Note what the program knows."""
        self.events.append(Mark(what, step))

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Carry out one call and record it."""
        if self.refuse is not None and name == self.refuse[0] and self._ours(arguments[0]):
            kind, left, error = self.refuse
            self.refuse = (kind, left - 1, error) if left else None
            if not left:
                if name == "write":
                    self._record_write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise error
        if name == "write" and arguments[0] in self._open:
            return self._record_write(*arguments)
        if name in ("fsync", "fdatasync") and arguments[0] in self._open:
            self.events.append(Sync(self._open[arguments[0]]))
            return None  # the real disk plays no part
        result = self._real[name](*arguments, **options)
        if name == "close":
            self._open.pop(arguments[0], None)
        elif name == "open":
            self._record_open(result, *arguments[:2])
        elif changes(name, arguments):
            self._record(name, arguments)
        return result

    def _ours(self, file: Any) -> bool:
        return file in self._open if isinstance(file, int) else self._place(file) is not None

    def _place(self, path: Any) -> tuple[int, str] | None:
        """Return directory and name of a path below the root, None for another."""
        try:
            parts = Path(os.path.abspath(path)).relative_to(self.root).parts  # noqa: PTH100
        except ValueError:
            return None
        directory = ROOT
        for part in parts[:-1]:
            directory = self._live[directory, part]
        return (directory, parts[-1]) if parts else (ROOT, "")

    def _inode(self, *, directory: bool) -> int:
        number = len(self._kinds)
        self._kinds[number] = directory
        return number

    def _link(self, place: tuple[int, str], inode: int) -> None:
        self._live[place] = inode
        self.events.append(Link(*place, inode))

    def _record_open(self, fd: int, path: Any, flags: int) -> None:
        place = self._place(path)
        if place is None:
            return
        if place == (ROOT, ""):
            self._open[fd] = ROOT
            return
        if place not in self._live:
            self._link(place, self._inode(directory=False))
        elif flags & os.O_TRUNC:
            self.events.append(Resize(self._live[place], 0))
        self._open[fd] = self._live[place]

    def _record_write(self, fd: int, data: Any) -> int:
        offset = self._real["lseek"](fd, 0, os.SEEK_CUR)
        count: int = self._real["write"](fd, data)
        written = bytes(memoryview(data).cast("B")[:count])
        self.events.append(Write(self._open[fd], offset, written))
        return count

    def _record(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "pwrite" and arguments[0] in self._open:
            self.events.append(Write(self._open[arguments[0]], arguments[2], bytes(arguments[1])))
        elif name == "ftruncate" and arguments[0] in self._open:
            self.events.append(Resize(self._open[arguments[0]], arguments[1]))
        elif not isinstance(arguments[0], int):
            place = self._place(arguments[0])
            if name in ("replace", "rename", "link"):
                self._record_two(name, place, self._place(arguments[1]))
            elif place is not None:
                self._record_one(name, place, arguments)

    def _record_two(
        self, name: str, source: tuple[int, str] | None, target: tuple[int, str] | None
    ) -> None:
        if source is None and target is None:
            return
        assert source is not None and target is not None, "moved across the border"
        if name == "link":
            self._link(target, self._live[source])
        else:
            self._live[target] = self._live.pop(source)
            self.events.append(Rename(*source, *target))

    def _record_one(self, name: str, place: tuple[int, str], arguments: tuple[Any, ...]) -> None:
        if name == "mkdir":
            inode = self._inode(directory=True)
            self._link(place, inode)
        elif name in ("unlink", "remove", "rmdir"):
            del self._live[place]
            self.events.append(Unlink(*place))
        elif name == "truncate":
            self.events.append(Resize(self._live[place], arguments[1]))
        else:
            raise AssertionError(f"{name} is not recorded")

    # -- replaying --------------------------------------------------------------------------

    def disk(self) -> Disk:
        """Return the disk before the first event, with all inodes known."""
        disk = Disk()
        disk.entries = dict(self.start.entries)
        disk.bytes = {number: None if kind else b"" for number, kind in self._kinds.items()}
        disk.bytes.update(self.start.bytes)
        return disk

    def check_complete(self) -> None:
        """Raise unless what was recorded is what is in the directory: nothing went around it."""
        disk = self.disk()
        for event in self.events:
            disk.take(event)
        # All of it, synced or not.
        recorded = disk._image(disk._units(b"\0"), disk.changes)
        assert recorded == read_image(self.root), "a write went around the calls of `os`"


def read_image(root: Path) -> Image:
    """Return what is below a directory."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def write_image(root: Path, image: Image) -> None:
    """Make a directory that holds an image."""
    root.mkdir()
    for name in sorted(image):
        data = image[name]
        path = f"{root}/{name}"
        if data is None:
            os.mkdir(path)  # noqa: PTH102  # many thousand times: pathlib takes longer
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, data)
            os.close(fd)


def digest(image: Image) -> bytes:
    """Return what tells images apart."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(image):
        data = image[name]
        found.update(f"{name}\0{-1 if data is None else len(data)}\0".encode())
        found.update(data or b"")
    return found.digest()
