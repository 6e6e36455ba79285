"""What tests that mount something need."""

from __future__ import annotations

import subprocess


def permitted() -> bool:
    """Return whether this process may have mounts of its own."""
    try:
        command = ["unshare", "--mount", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
