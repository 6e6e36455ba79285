"""Result files: what was measured, on what, with which versions, by which command."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.data import Data

FOLDER = Path(__file__).parent / "results"


def facts(data: Data, command: str, repeats: int) -> dict[str, Any]:
    """Return the head of a result file."""
    return {
        "command": command,
        "data": {
            "name": data.name,
            "rows": len(data.rows),
            "dim": data.rows.shape[1],
            "queries": len(data.queries),
            "sha256": data.sha256,
        },
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("vecindex", "faiss-cpu", "numpy")},
        },
        "repeats": repeats,
    }


def _cpu() -> str:
    found = None
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()


def write(kind: str, result: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write a result as `<kind>-<data>.json`; short lists and objects stay on one line."""
    text = json.dumps(result, indent=1)
    for pattern in (
        r"\[\s+[-+\d.e,\s]+?\s+\]",
        r"\{\s+[^{}]{1,60}\}",
        r"\{\s+[^{}]{1,60}\{[^{}]*\}\s+\}",
    ):
        text = re.sub(pattern, lambda found: " ".join(found[0].split()), text)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{result['data']['name']}.json"
    path.write_text(text + "\n")
    return path


def read(kind: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Return all results of a kind, by file name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}-*.json"))]
