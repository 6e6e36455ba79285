"""Reading where nothing can be written: read-only media, and a directory of somebody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torture.small_disk import permitted

from vecindex import VectorIndex

CHILD = Path(__file__).parent / "children" / "read_only.py"


@pytest.mark.parametrize(
    ("how", "why"), [("mount", "Read-only file system"), ("permissions", "Permission denied")]
)
def test_reading_needs_no_permission_to_write(
    create: Callable[..., VectorIndex], tmp_path: Path, how: str, why: str
) -> None:
    """Open, search, verify, follow a writer elsewhere, and take snapshots to where it can write."""
    if os.getuid() != 0 or (how == "mount" and not permitted()):
        pytest.skip("only root can take rights away, or mount")
    index = create(spec="ivf")
    rows = np.random.default_rng(0).normal(size=(40, 4))
    ids = ["a", "b", *range(38)]
    index.add(ids=ids, vectors=rows, metadata=[{"n": number} for number in range(40)])
    index.optimize()
    index.remove([3])
    work = tmp_path / "work"
    work.mkdir()
    for path in (*tmp_path.parents, tmp_path, index.path, work):  # as far as the way there is ours
        if path.stat().st_uid == os.getuid() and path.name.startswith(
            ("pytest-", "popen-", "test_", "x.vx")
        ):
            path.chmod(0o755)
    work.chmod(0o777)
    private = ["unshare", "--mount"] if how == "mount" else []
    child = subprocess.Popen(
        [*private, sys.executable, str(CHILD), how, str(index.path), str(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    ready = child.stdout.readline() == "ready\n"
    if ready:
        index.add(ids=["new"], vectors=[[0, 0, 0, 1]])
        index.compact()
        index.close()
    out, err = child.communicate("go on\n")
    assert child.returncode == 0, err
    report = json.loads(out)
    assert report["refused"] == (
        f"StorageFailedError: [Errno {30 if how == 'mount' else 13}] "
        f"cannot open {index.path / 'LOCK'} for writing: {why}"
    )
    assert report["links"] == 1, "what cannot be linked is copied"
