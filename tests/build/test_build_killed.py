"""Builds that are killed go on where they were, and end as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).parent / "children" / "killed.py"


def test_killed_builds_end_like_others(tmp_path) -> None:
    words = [sys.executable, "-W", "error", str(CHILD), str(tmp_path), "15"]
    run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["kills"] >= 15
    assert report["rounds"] >= 2, "new builds and updates"
    assert len(set(report["rows"])) > 4, "killed at different moments"
