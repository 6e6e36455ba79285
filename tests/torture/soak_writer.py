"""The writer of a soak: operation after operation, and all upkeep that there is, until stopped."""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from unittest.mock import patch

from vecindex import VectorIndex
from vecindex.index import maintenance, rebase

from .soak_world import Board, World

OWNER = 1
"""Of its numbers on the board."""

COUNTED = (
    "adds", "upserts", "removes", "seals", "folds", "compacts", "optimizes", "reopens", "flushes",
    "verifies", "snapshots",
)  # fmt: skip
_UPKEEP = {
    "compact": 2, "optimize": 2, "seal": 4, "flush": 4, "verify": 1, "reopen": 3, "snapshot": 2,
}  # fmt: skip
_UPKEEP_SHARE = 0.04
_FIRST_SHARE = 0.3  # until all of it was done once
_DURABLE = ("os", "sync")

# So that a small index goes through everything that a large one does, and often.
_SOON = {"_SEAL_OPERATIONS": 40, "_MERGE_FACTOR": 4, "_FIRST_ROWS": 2000, "_LEAST_ROWS": 1500}


class Writer:
    """Goes on after the last operation that the index holds, whoever wrote it."""

    def __init__(self, path: Path, board: Board, seed: int, share: float) -> None:
        self._path, self._board, self._share = path, board, share
        self._world = World(seed)
        self._random = random.Random()
        self._index = self._open()
        self._recover()

    def _open(self) -> VectorIndex:
        return VectorIndex.open(self._path, "r+", durability=self._random.choice(_DURABLE))

    def _recover(self) -> None:
        """Compare the index with what was acknowledged before this process began."""
        board = self._board
        found = self._world.state(self._index.scan(vectors=True))
        known = board[Board.ACKNOWLEDGED], board[Board.STARTED]
        assert found in known, f"state {found}; acknowledged and started were {known}"
        named = self._index._store.state.manifest.names() | {"MANIFEST", "LOCK"}
        left = {file.name for file in self._path.iterdir()} - named
        assert not left, f"left behind: {sorted(left)}"
        board[Board.ACKNOWLEDGED] = found
        for snapshot in self._path.parent.glob("snapshot*"):  # that a killed one has begun
            shutil.rmtree(snapshot)

    def run(self) -> None:
        """Write until the board says stop."""
        try:
            self._run()
        except BaseException as error:
            error.add_note(f"the index noted: {self._index.info().notes}")
            raise

    def _run(self) -> None:
        first = self._random.sample(list(_UPKEEP), len(_UPKEEP))
        while not self._board.over:
            begun = time.monotonic()
            if self._random.random() < (_FIRST_SHARE if first else _UPKEEP_SHARE):
                drawn = self._random.choices(list(_UPKEEP), list(_UPKEEP.values()))
                getattr(self, f"_{(first or drawn).pop()}")()
            else:
                self._operate()
            self._board.note_memory(OWNER)
            spent = time.monotonic() - begun
            time.sleep(min(1.0, spent * (1 / self._share - 1)))
        self._index.close()

    def _operate(self) -> None:
        number = self._board[Board.ACKNOWLEDGED] + 1
        self._board[Board.STARTED] = number
        self._world.carry_out(self._index, number)
        self._board[Board.ACKNOWLEDGED] = number
        self._count(f"{self._world.kind(number)}s")

    def _compact(self) -> None:
        self._index.compact()
        self._count("compacts")

    def _optimize(self) -> None:
        self._index.optimize()
        self._count("optimizes")

    def _seal(self) -> None:
        self._index._maintenance.seal()

    def _flush(self) -> None:
        self._index.flush()
        self._count("flushes")

    def _verify(self) -> None:
        report = self._index.verify()
        assert report.ok, report.problems
        self._count("verifies")

    def _snapshot(self) -> None:
        dest = self._path.with_name("snapshot")
        self._index.snapshot(dest)
        with VectorIndex.open(dest) as index:
            assert self._world.state(index.scan()) == self._board[Board.ACKNOWLEDGED]
        shutil.rmtree(dest)
        self._count("snapshots")

    def _reopen(self) -> None:
        self._index.close()
        self._index = self._open()
        self._count("reopens")

    def _count(self, name: str) -> None:
        self._board.of(OWNER)[COUNTED.index(name)] += 1


def _counting(owner: type, method: str, board: Board, name: str) -> None:
    real = getattr(owner, method)

    def counted(*arguments, **options):
        done = real(*arguments, **options)
        board.of(OWNER)[COUNTED.index(name)] += 1
        return done

    patch.object(owner, method, counted).start()


def main(path: str, board_path: str, seed: str, share: str) -> None:
    """Write until told to stop."""
    os.nice(19)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    board = Board(Path(board_path))
    patch.multiple(maintenance, **_SOON).start()
    _counting(maintenance.Maintenance, "seal", board, "seals")
    _counting(rebase.Rebase, "commit", board, "folds")
    Writer(Path(path), board, int(seed), float(share)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
