"""FAISS is loaded so that its threads sleep while they wait, and nobody else is concerned."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, subprocess, sys
before = dict(os.environ)
seen = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "faiss":
            seen.append(os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Finder())
import vecindex.ann
assert dict(os.environ) == before
show = "import os; print(os.environ.get('OMP_WAIT_POLICY'))"
child = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
print(*seen, child.stdout.strip())
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, "passive None"), ("active", "active active"), ("passive", "passive passive")],
)
def test_waiting_threads_sleep_in_this_process_only(given: str | None, expected: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr
