"""A disk of its own, an index that gives its space back, and readers that hold it for a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from vecindex import VectorIndex

READER = """
import sys
from vecindex import VectorIndex
with VectorIndex.open(sys.argv[1], refresh=sys.argv[2]) as index:
    for line in sys.stdin:
        if line == "refresh\\n":
            index.refresh()
        found = index.search([1.0] * 256, k=3, exact=True)
        print(len(index), flush=True)
"""


class Reader:
    def __init__(self, path: Path, refresh: str = "manual") -> None:
        command = [sys.executable, "-c", READER, str(path), refresh]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def ask(self, word: str = "search") -> int:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def main(root: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(root)], check=True)
    path = root / "x.vx"

    def used() -> int:
        facts = os.statvfs(root)
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize >> 10

    rows = np.random.default_rng(0).normal(size=(8000, 256)).astype(np.float32)
    report = {"start": used()}
    with VectorIndex.create(path, spec="flat", maintenance="manual") as index:
        index.add(vectors=rows)
        index.optimize()
        index.search(rows[0])
        report["full"] = used()
        readers = [Reader(path) for _ in range(2)]
        follower = Reader(path, "auto")
        assert [reader.ask() for reader in (*readers, follower)] == [8000] * 3
        index.remove(range(10, 8000))
        index.compact()
        report["held"] = used()
        assert [reader.ask() for reader in readers] == [8000] * 2, "their state stays whole"
        assert follower.ask() == 10
        assert readers[0].ask("refresh") == 10
        report["held by one"] = used()
        readers[1].end()
        report["killed"] = used()
        assert readers[0].ask() == 10
        readers[0].end()
        follower.end()
    sys.stdout.write(json.dumps(report))


main(Path(sys.argv[1]))
