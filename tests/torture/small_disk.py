"""A real disk of a few pages, full at every possible place: run as a child, see `test_faults`.

The child has mounts of its own (`unshare --mount`), so nobody else sees the disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vecindex import VectorIndex
from vecindex.errors import StorageFullError

from .operations import NAME, shown, unit_rows

_ROOT = Path(__file__).parents[__name__.count(".")] if __name__ != "__main__" else None


class SmallDisk:
    """A file system in memory of so many bytes, or so many files."""

    def __init__(self, path: Path, limit: str) -> None:
        self.path, self.limit = path, limit

    def __enter__(self) -> SmallDisk:
        _mount("-t", "tmpfs", "-o", self.limit, "tmpfs", str(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def widen(self) -> None:
        """Give it all the room that is needed."""
        _mount("-o", "remount,size=16m,nr_inodes=1000", str(self.path))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def steps(index: VectorIndex) -> list[Callable[[], object]]:
    """Return what is done on the disk."""

    def add(name: str) -> None:
        ids = [f"{name}{number}" for number in range(40)]
        index.add(ids=ids, vectors=unit_rows(ids), texts=["text " * 80] * 40)

    return [
        lambda: add("a"),
        index._maintenance.seal,
        lambda: add("b"),
        lambda: index.remove(["a1", "a2"]),
        index.optimize,
        lambda: add("c"),
        index.compact,
        lambda: add("d"),
        lambda: index.optimize("flat/sq8"),
    ]


def fill(disk: SmallDisk) -> int:
    """Do all steps; return how many of them found no room."""
    full = 0
    path = disk.path / NAME
    try:
        index = VectorIndex.create(path, spec="ivf", maintenance="manual")
    except StorageFullError:
        disk.widen()
        VectorIndex.create(path).close()
        return 1
    with index:
        for number in range(len(steps(index))):
            before = shown(index)
            try:
                steps(index)[number]()
            except StorageFullError:
                full += 1
                assert shown(index) == before, f"step {number} was done in part"
        stands = shown(index)
    with VectorIndex.open(path, "r+", maintenance="manual") as again:  # a full disk is no reason
        assert shown(again) == stands
        assert again.verify().ok
        disk.widen()
        again.add(ids=["next"], vectors=unit_rows(["next"]))
        again.compact()
        assert again.verify().ok
        assert shown(again)[:-1] == stands
    with VectorIndex.open(path) as reader:
        assert shown(reader)[:-1] == stands
    return full


def permitted() -> bool:
    """Return whether this process may have mounts of its own."""
    try:
        command = ["unshare", "--mount", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def run(path: Path, limits: list[str]) -> dict[str, int]:
    """Fill a disk within each limit, in a child; return how many steps found no room at each."""
    child = [sys.executable, "-m", __spec__.name, str(path), *limits]
    done = subprocess.run(
        ["unshare", "--mount", *child],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def main() -> None:
    """Fill a disk of every size that is asked for; print how many steps found no room at each."""
    path = Path(sys.argv[1])
    found = {}
    for limit in sys.argv[2:]:
        try:
            with SmallDisk(path, limit) as disk:
                found[limit] = fill(disk)
        except BaseException as error:
            error.add_note(f"the disk has {limit}")
            raise
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
