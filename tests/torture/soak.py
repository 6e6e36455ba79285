"""Soak: one writer and four readers of four threads each, killed at random, watched for growth.

In the first quarter of the time the writer is killed every few seconds. Then it lives on, as the
first reader does from the beginning, so that what grows has the time to show. The other readers
are killed and started again until the end.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from vecindex import VectorIndex

from . import growth, soak_reader, soak_writer
from .results import Results
from .soak_world import DIM, GROUPS, Board, World

SPECS = ("ivf/pq4", "hnsw", "flat/pq4", "ivf", "hnsw/sq8", "hnsw/sq4")
READERS = 4
LIVES_ON = "reader 0"
_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
"""By default glibc has eight arenas a core, each of which keeps what was freed in it: it takes long
until all of them have had their largest fold, and only then memory can be seen to grow or not."""

_STUCK_S = 120  # in which a thread does nothing, though its process sleeps
_LOOK_S = 0.5
_WARM = 4 * len(soak_reader.CHECKS)
_FILLED = 2 * GROUPS  # operations before it begins: in the third round there are adds, too
_KEPT_SAMPLES = 40
_SHARE = 0.2


@dataclass
class Report:
    """What a soak did and saw."""

    spec: str
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[growth.Sample]] = field(default_factory=dict)

    def growth(self) -> dict[str, dict[str, list[float]]]:
        """Return of what lived on the medians of the second and last quarter, and the limits."""
        return {
            name: growth.compared(self.samples[name], self.seconds)
            for name in ("directory", "writer", LIVES_ON)
        }

    def grown(self) -> list[str]:
        """Return what is over its limit."""
        return [f"{of} {name}" for of, all_ in self.growth().items() for name in growth.grown(all_)]

    def thinned(self) -> dict[str, list[growth.Sample]]:
        """Return some of the samples, evenly spread."""
        return {
            name: [
                {key: round(value, 1) for key, value in sample.items()}
                for sample in samples[:: 1 + len(samples) // _KEPT_SAMPLES]
            ]
            for name, samples in self.samples.items()
        }


class Soak:
    """All processes of one soak.

    Parameters
    ----------
    work : Path
        An empty directory.
    seed : int
        Decides the structure, what is written, and when whom is killed.
    seconds : float
        How long.
    share : float
        How much of the time each thread is at work; the rest of it, it sleeps.
    """

    def __init__(self, work: Path, seed: int, seconds: float, share: float) -> None:
        self._work, self._seed, self._share = work, seed, share
        self.path = work / "x.vx"
        self._random = random.Random(seed)
        self.report = Report(SPECS[seed % len(SPECS)], seconds)
        self._board = Board(work / "board")
        self._world = World(seed)
        self._fill()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._at_start: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._progress: dict[int, tuple[int, float]] = {}

    def _fill(self) -> None:
        with VectorIndex.create(self.path, dim=DIM, spec=self.report.spec) as index:
            for number in range(1, _FILLED + 1):
                self._world.carry_out(index, number)
            index.optimize()
        self._board[Board.STARTED] = self._board[Board.ACKNOWLEDGED] = _FILLED

    def run(self) -> Report:
        """Let it run; raise `AssertionError` at whatever is wrong."""
        try:
            self._run()
            self._finish()
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()
        return self.report

    def _run(self) -> None:
        self._start("writer")
        for reader in range(READERS):
            self._start(f"reader {reader}")
        seconds = self.report.seconds
        self._warm_up()
        self._let_work(0, seconds / 4, kill_writer=True)
        self._warm_up()
        self._let_work(seconds / 4, seconds, kill_writer=False)

    def _warm_up(self) -> None:
        """Wait until those who live on have done everything once: what loads late is no growth."""
        while any(self._since_start(name) < _WARM for name in ("writer", LIVES_ON)):
            self._look_after()
            time.sleep(_LOOK_S)

    def _let_work(self, start: float, stop: float, *, kill_writer: bool) -> None:
        """Watch and kill from one second of the soak to another."""
        begun, sampled = time.monotonic() - start, start
        while (now := time.monotonic() - begun) < stop:
            if now >= sampled:
                self._look_after()
                self._sample(now)
                sampled = now + _LOOK_S
            if kill_writer:
                self._kill_when_due("writer", 4)
            for reader in range(1, READERS):
                self._kill_when_due(f"reader {reader}", 20)
            time.sleep(0.05)

    # -- processes --------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        kind, _, number = name.partition(" ")
        arguments = [self.path, self._work / "board", self._seed, self._share, *number.split()]
        with self._errors(name).open("wb") as errors:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"tests.torture.soak_{kind}", *map(str, arguments)],
                cwd=_ROOT,
                env=os.environ | _ENVIRONMENT,
                stderr=errors,
            )
        self.report.counts[f"{kind}s_started"] += 1
        self._at_start[name] = sum(self._done(name).values())
        self._due.pop(name, None)

    def _errors(self, name: str) -> Path:
        return self._work / f"{name.replace(' ', '-')}.txt"

    def _since_start(self, name: str) -> int:
        """Return how many things a process has done."""
        return sum(self._done(name).values()) - self._at_start[name]

    def _kill_when_due(self, name: str, longest: float) -> None:
        """Kill a process at a random moment of the time after its first work, and start another."""
        if not self._since_start(name):
            return  # a busy machine would never let it begin
        due = self._due.setdefault(name, time.monotonic() + self._random.uniform(0, longest))
        if time.monotonic() < due:
            return
        process = self._processes[name]
        process.kill()
        code = process.wait()
        self._check(name, code == -signal.SIGKILL, f"ended by itself with {code}")
        kind, _, _ = name.partition(" ")
        self.report.counts[f"{kind}s_killed"] += 1
        self._start(name)

    def _look_after(self) -> None:
        """Refuse a process that ended by itself, or a thread that does nothing any more."""
        for name, process in self._processes.items():
            code = process.poll()
            allowed = (None, 0) if self._board[Board.STOP] else (None,)
            self._check(name, code in allowed, f"ended by itself with {code}")
            for owner in () if code == 0 else _owners(name):
                done = sum(self._board.of(owner)[: Board.ALLOCATED])
                before, since = self._progress.get(owner, (-1, 0.0))
                now = time.monotonic()
                if done != before or growth.is_running(process.pid):  # or waits for a processor
                    self._progress[owner] = (done, now)
                elif now - since > _STUCK_S:
                    process.send_signal(signal.SIGUSR1)  # it writes where its threads are
                    time.sleep(0.2)
                    self._check(name, False, f"thread {owner} has done nothing for {_STUCK_S} s")

    def _check(self, name: str, fine: bool, what: str) -> None:
        if not fine:
            said = self._errors(name).read_text(errors="replace")
            raise AssertionError(f"{name} {what}\n{said[-3000:]}")

    def _done(self, name: str) -> Counter[str]:
        done: Counter[str] = Counter()
        names = soak_writer.COUNTED if name == "writer" else soak_reader.CHECKS
        for owner in _owners(name):
            done.update(dict(zip(names, self._board.of(owner), strict=False)))
        return done

    # -- watching ---------------------------------------------------------------------------

    def _sample(self, now: float) -> None:
        rows = self._world.count(self._board[Board.ACKNOWLEDGED])
        found = {"directory": {**growth.of_directory(self.path), "rows": rows}}
        for name, process in self._processes.items():
            numbers = self._board.of(_owners(name)[0])
            allocated = {
                "allocated_mb": numbers[Board.ALLOCATED] / (1 << 20),
                "python_blocks": numbers[Board.BLOCKS],
            }
            found[name] = {**allocated, **growth.of_process(process.pid)}
        for name, sample in found.items():
            self.report.samples.setdefault(name, []).append({"at": now, **sample})

    def _finish(self) -> None:
        """Stop all, and look at what is left."""
        self._board[Board.STOP] = 1
        while any(process.poll() is None for process in self._processes.values()):
            self._look_after()
            time.sleep(_LOOK_S)
        self._look_after()
        for name in self._processes:
            self.report.counts.update(self._done(name))
        with VectorIndex.open(self.path, "r+") as index:
            number = self._world.state(index.scan(vectors=True))
            assert number == self._board[Board.ACKNOWLEDGED]
            assert index.verify().ok
            named = index._store.state.manifest.names() | {"MANIFEST", "LOCK"}
        assert {file.name for file in self.path.iterdir()} == named, "something was left behind"


def _owners(name: str) -> list[int]:
    """Return whose numbers on the board are a process's."""
    _, _, number = name.partition(" ")
    if not number:
        return [soak_writer.OWNER]
    return [soak_reader.owner(int(number), thread) for thread in range(soak_reader.THREADS)]


def soak(seed: int, seconds: float, share: float) -> Report:
    """Soak one index in a directory of its own; see `Soak`."""
    with tempfile.TemporaryDirectory() as work:
        return Soak(Path(work), seed, seconds, share).run()


def soak_and_note(results: Results, seed: int, seconds: float) -> None:
    """Soak, and add to the results what was done, the growth, and some of the samples.

    Raises
    ------
    AssertionError
        If anything that was seen was wrong, or anything has grown.
    """
    report = soak(seed, seconds, _SHARE)
    results.add(soaked_s=round(seconds), **report.counts)
    run = {
        "seed": seed,
        "spec": report.spec,
        "seconds": round(seconds),
        "growth": report.growth(),
        "samples": report.thinned(),
    }
    results.values.setdefault("runs", []).append(run)
    grown = report.grown()
    assert not grown, f"{', '.join(grown)}: {report.growth()}"
