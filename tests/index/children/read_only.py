"""Read an index that this process cannot write to, and say what can be done with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from vecindex import VectorIndex
from vecindex.errors import VecindexError

NOBODY = 65534


def use(index: VectorIndex, copy: Path) -> list[object]:
    """Return what each way of reading says."""
    return [
        index.search(np.ones(4), k=1)[0].id,
        index.search(np.ones(4), k=9, where={"n": {"$gte": 0}}, exact=True)[-1].id,
        len(index.get(["a", "b"])),
        len(list(index.scan())),
        index.verify().ok,
        len(VectorIndex.open(index.snapshot(copy))),
        index.info().notes,
    ]


def main(how: str, path: Path, work: Path) -> None:
    with VectorIndex.open(path) as index:
        expected = use(index, work / "first")  # also loads whatever is loaded late
        if how == "mount":
            subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        else:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    try:
        (path / "probe").touch()
    except OSError:
        pass
    else:
        raise AssertionError("this process could write")
    with VectorIndex.open(path, refresh="auto") as index:
        assert use(index, work / "second") == expected
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()  # somebody who can has added a row, and compacted
        assert "new" in index
        assert index.search([0.0, 0, 0, 1], k=1)[0].id == "new"
        assert not index.refresh()
        copy = index.snapshot(work / "third")
        assert index.verify().ok
    with VectorIndex.open(copy, "r+") as writable:
        writable.remove(["new"])
        writable.compact()
        assert writable.verify().ok
    try:
        VectorIndex.open(path, "r+")
    except VecindexError as error:
        refused = f"{type(error).__name__}: {error}"
    links = [file.stat().st_nlink for file in copy.iterdir()]
    sys.stdout.write(json.dumps({"refused": refused, "links": max(links)}))


main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
