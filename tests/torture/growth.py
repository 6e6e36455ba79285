"""Memory, descriptors, threads, maps and files over time, and whether any of them grows."""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

Sample = dict[str, float]

LIMITS: dict[str, tuple[float, float]] = {
    # What is in use, as the allocators count it: here a leak would show first. It goes up and down
    # with the rows that are not folded yet.
    "allocated_mb": (1.05, 3),
    "python_blocks": (1.05, 5000),
    # What the system sees. Allocators keep what was freed, in arenas of the threads that took it:
    # the high-water mark creeps up until every thread has been through everything.
    "anonymous_mb": (1.25, 24),
    "mapped_mb": (1.25, 8),  # pages of mapped files count once they are touched
    # Each mapped file has a descriptor. A segment has four of them, and up to three segments of a
    # size wait for the fourth.
    "descriptors": (1.25, 12),
    "maps": (1.25, 32),
    "removed_maps": (1.25, 24),  # of replaced files, in states that are still in use
    "threads": (1, 2),  # a fold and its threads may be at work
    "files": (1.25, 12),
    "directory_mb": (1.5, 4),  # what was removed since the last fold stays until the next one
    "rows": (1.1, 0),  # about the same work all the time, or all the rest shows nothing
}
"""The median of the last quarter may be so many times that of the second one, and so much more."""

_MB = 1 << 20


class _Allocated(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


_mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)  # no other C library has it
if _mallinfo is not None:
    _mallinfo.restype = _Allocated


def of_this_process() -> tuple[int, int]:
    """Return the bytes allocated by `malloc`, 0 if unknown, and the blocks by Python."""
    found = _mallinfo() if _mallinfo is not None else _Allocated()
    return found.uordblks + found.hblkhd, sys.getallocatedblocks()


def of_process(process: int) -> Sample:
    """Return what a process holds; empty when it is gone."""
    home = Path(f"/proc/{process}")
    try:
        status = dict(
            line.split(":", 1) for line in (home / "status").read_text().splitlines() if ":" in line
        )
        maps = (home / "maps").read_text().splitlines()
        return {
            "anonymous_mb": _kib(status["RssAnon"]) / 1024,
            "mapped_mb": _kib(status["RssFile"]) / 1024,
            "descriptors": len(list((home / "fd").iterdir())),
            "threads": int(status["Threads"]),
            "maps": len(maps),
            "removed_maps": sum(line.endswith("(deleted)") for line in maps),
        }
    except (OSError, KeyError):  # killed just now
        return {}


def _kib(text: str) -> int:
    return int(text.removesuffix("kB"))


def is_running(process: int) -> bool:
    """Return whether a thread of a process runs, or waits for a processor or a disk."""
    try:
        stats = [
            task.joinpath("stat").read_text() for task in Path(f"/proc/{process}/task").iterdir()
        ]
    except OSError:  # killed just now
        return True
    return any(stat.rpartition(")")[2].split()[0] in "RD" for stat in stats)


def of_directory(path: Path) -> Sample:
    """Return number and size of the files in a directory."""
    sizes = []
    for file in os.scandir(path):
        try:
            sizes.append(file.stat().st_size)
        except FileNotFoundError:  # a fold replaced it just now
            continue
    return {"files": len(sizes), "directory_mb": sum(sizes) / _MB}


def medians(samples: Sequence[Sample], start: float, stop: float) -> Sample:
    """Return the median of everything between two moments, `at` in each sample."""
    within = [sample for sample in samples if start <= sample["at"] < stop]
    names = [name for name in LIMITS if any(name in sample for sample in within)]
    return {
        name: round(statistics.median(s[name] for s in within if name in s), 2) for name in names
    }


def compared(samples: Sequence[Sample], seconds: float) -> dict[str, list[float]]:
    """Return the medians of the second and of the last quarter, and the limit, by name."""
    early = medians(samples, seconds / 4, seconds / 2)
    late = medians(samples, 3 * seconds / 4, seconds + 1)
    return {
        name: [before, late[name], round(before * LIMITS[name][0] + LIMITS[name][1], 2)]
        for name, before in early.items()
        if name in late
    }


def grown(comparison: dict[str, list[float]]) -> list[str]:
    """Return the names of what is over its limit."""
    return [name for name, (_, late, limit) in comparison.items() if late > limit]
