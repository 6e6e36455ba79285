"""What times depend on: the machine, the versions, the command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("vecindex", "faiss-cpu", "numpy")


def machine_facts() -> dict[str, Any]:
    """Return what the times depend on: processor, cores, memory and system."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages * page / 1e9, 1),
        "system": platform.platform(),
    }


def version_facts() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def command_text() -> str:
    """Return the command as it was typed, the program without its directory."""
    program = Path(sys.argv[0]).name
    return shlex.join(["vecindex" if program == "__main__.py" else program, *sys.argv[1:]])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
