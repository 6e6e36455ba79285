"""One reader process of a soak: four threads share a handle, and doubt everything it says."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np

from vecindex import VectorIndex
from vecindex.errors import UnknownIdError

from .soak_world import COUNTER, DIM, GROUPS, TAGS, Board, Span, World

THREADS = 4
CHECKS = {
    "searches": 10, "filtered_searches": 10, "exact_searches": 4, "array_searches": 4, "gets": 8,
    "counts": 6, "scans": 2, "group_scans": 4, "refreshes": 10, "reopenings": 1,
}  # fmt: skip
"""What a thread does, and how often."""

_FOREVER = 1 << 62
_FEW_STATES = 300  # so many are looked through to find one with a certain count


def owner(reader: int, thread: int) -> int:
    """Return the owner of a thread's numbers on the board; the writer's come before."""
    return 2 + reader * THREADS + thread


class Thread:
    """One thread: everything it sees must be one state, and none before the last it saw."""

    def __init__(self, index: VectorIndex, board: Board, world: World, *, auto: bool) -> None:
        self._index, self._board, self._world, self._auto = index, board, world, auto
        self._random = random.Random()
        self._low = 0

    def look(self, name: str) -> None:
        """Make one check."""
        if self._auto:  # what was acknowledged before is seen without being asked for
            self._low = max(self._low, self._board[Board.ACKNOWLEDGED])
        first, last = getattr(self, f"_{name}")()
        last = min(last, self._board[Board.STARTED])
        assert max(first, self._low) <= last, (
            f"{name}: seen is a state of {first} to {last}, but {self._low} was seen before"
        )
        self._low = max(first, self._low)

    def _span(self) -> Span:
        return self._low, self._board[Board.STARTED]

    # -- checks -----------------------------------------------------------------------------

    def _refreshes(self) -> Span:
        acknowledged = self._board[Board.ACKNOWLEDGED]
        self._index.refresh()
        return acknowledged, _FOREVER

    def _searches(self) -> Span:
        query = self._query()
        return self._check_hits(self._index.search(query, k=self._k()), query)

    def _exact_searches(self) -> Span:
        group = self._random.randrange(GROUPS)
        version = self._world.version(group, self._low)
        if version is None:
            return self._searches()
        query = self._world.vectors(group, version)[0]
        hits = self._index.search(query, k=self._k(), exact=True)
        first, last = span = self._check_hits(hits, query)
        row = self._world.seen(group, version)
        if row[0] <= max(first, self._low) and min(last, self._board[Board.STARTED]) <= row[1]:
            assert hits[0].id == self._world.ids(group)[0], "the row itself is the nearest"
        return span

    def _filtered_searches(self) -> Span:
        query, group = self._query(), self._random.randrange(GROUPS)
        if self._random.random() < 0.5:
            tag = self._random.choice(TAGS)
            hits = self._index.search(query, k=self._k(), where={"tag": tag})
            assert all(hit.metadata["tag"] == tag for hit in hits)
            return self._check_hits(hits, query)
        hits = self._index.search(query, k=100, where={"group": group})
        if not hits:
            return self._world.absent(group, self._span())
        assert {hit.id for hit in hits} == set(self._world.ids(group)), "part of a group"
        return self._check_hits(hits, query)

    def _array_searches(self) -> Span:
        queries = np.array([self._query() for _ in range(8)])
        ids, scores = self._index.search_arrays(queries, k=10)
        states = [(0, _FOREVER)]
        for query, row, row_scores in zip(queries, ids, scores, strict=True):
            for value, score in zip(row.tolist(), row_scores, strict=True):
                if value == COUNTER:
                    continue
                spans = self._spans_of(value, float(score), query)
                both = [(max(x[0], y[0]), min(x[1], y[1])) for x in states for y in spans]
                states = [span for span in both if span[0] <= span[1]]
                assert states, "rows of different states together"
        return states[0][0], states[-1][1]

    def _gets(self) -> Span:
        group = self._random.randrange(GROUPS)
        ids = self._world.ids(group)
        try:
            records = self._index.get(ids, vectors=True)
        except UnknownIdError:
            return self._world.absent(group, self._span())
        for record in records:
            self._world.check(record)
        assert [record.id for record in records] == ids
        assert len({record.metadata["by"] for record in records}) == 1, "half a batch"
        return self._world.seen(group, records[0].metadata["by"])

    def _counts(self) -> Span:
        tag = self._random.choice([None, *TAGS])
        count = self._index.count() if tag is None else self._index.count({"tag": tag})
        first, last = self._span()
        if last - first > _FEW_STATES:
            return self._span()
        for number in range(first, last + 1):
            if self._world.count(number, tag) == count:
                return number, _FOREVER
        raise AssertionError(f"{count} rows with tag {tag} never were in {first} to {last}")

    def _scans(self) -> Span:
        vectors = self._random.random() < 0.5
        number = self._world.state(self._index.scan(vectors=vectors))
        return number, number

    def _group_scans(self) -> Span:
        group = self._random.randrange(GROUPS)
        records = list(self._index.scan({"group": group}))
        if not records:
            return self._world.absent(group, self._span())
        for record in records:
            self._world.check(record)
        assert [record.id for record in records] == self._world.ids(group), "half a batch"
        return self._world.seen(group, records[0].metadata["by"])

    def _reopenings(self) -> Span:
        """Look at a handle of its own, which shows at least what was acknowledged by then."""
        acknowledged = self._board[Board.ACKNOWLEDGED]
        with VectorIndex.open(self._index.path) as index:
            number = self._world.state(index.scan())
            assert acknowledged <= number <= self._board[Board.STARTED]
        return 0, _FOREVER  # the shared handle may be older

    # -- hits -------------------------------------------------------------------------------

    def _query(self) -> np.ndarray:
        if self._random.random() < 0.3:
            return np.random.default_rng().normal(size=DIM).astype(np.float32)
        group = self._random.randrange(GROUPS)
        return self._world.vectors(group, self._random.randrange(3))[0]

    def _k(self) -> int:
        return self._random.choice((1, 10, 10, 60))

    def _check_hits(self, hits, query: np.ndarray) -> Span:
        unit = query / np.linalg.norm(query)
        spans = []
        for hit in hits:
            if hit.id == COUNTER:
                expected = self._world.counter_vector
                spans.append((hit.metadata["by"], hit.metadata["by"] + 2))
            else:
                self._world.check(hit)
                group, version = hit.metadata["group"], hit.metadata["by"]
                expected = self._world.vectors(group, version)[hit.metadata["row"]]
                spans.append(self._world.seen(group, version))
            assert abs(hit.score - float(expected @ unit)) < 1e-5, hit
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert len({hit.id for hit in hits}) == len(hits)
        return _common(spans)

    def _spans_of(self, value, score: float, query: np.ndarray) -> list[Span]:
        """Return when a row with this id had this score; by chance two of its versions may."""
        group, row = divmod(value, 100) if isinstance(value, int) else map(int, value.split("/"))
        unit = query / np.linalg.norm(query)
        first, last = self._span()
        spans = [
            self._world.seen(group, number)
            for number in range(self._world.visit(group, first), last + 1, GROUPS)
            if number >= 1
            and not self._world.removes(number)
            and abs(score - float(self._world.vectors(group, number)[row] @ unit)) < 1e-5
        ]
        assert spans, f"{value!r} never had a score of {score} in {first} to {last}"
        return spans


def _common(spans: list[Span]) -> Span:
    """Return when all of it can be seen at once."""
    first = max((span[0] for span in spans), default=0)
    last = min((span[1] for span in spans), default=_FOREVER)
    assert first <= last, f"rows of different states together: {spans}"
    return first, last


def run(thread: Thread, board: Board, number: int, share: float) -> None:
    """Look until the board says stop; end the process at the first thing that is wrong."""
    names = list(CHECKS)
    first = random.sample(names, len(names))
    try:
        while not board.over:
            begun = time.monotonic()
            name = first.pop() if first else random.choices(names, list(CHECKS.values()))[0]
            thread.look(name)
            board.of(number)[names.index(name)] += 1
            board.note_memory(number)
            spent = time.monotonic() - begun
            time.sleep(min(1.0, spent * (1 / share - 1)))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def main(path: str, board_path: str, seed: str, share: str, reader: str) -> None:
    """Read with four threads until told to stop; every other reader refreshes by itself."""
    os.nice(19)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    board, world, number = Board(Path(board_path)), World(int(seed)), int(reader)
    auto = number % 2 == 0
    with VectorIndex.open(path, refresh="auto" if auto else "manual") as index:
        threads = [
            threading.Thread(
                target=run,
                args=(
                    Thread(index, board, world, auto=auto), board, owner(number, place),
                    float(share),
                ),
            )
            for place in range(THREADS)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
