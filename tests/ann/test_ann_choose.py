"""Which structure `choose` takes, with builds and measurements that are made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ann_data import Mapper, clustered

from vecindex.ann import BuildInterrupted, Choice, LiveMask, Questions
from vecindex.ann import choose as decide
from vecindex.arrays import Float32Array, MappedRows
from vecindex.results import Calibration, Costs, OperatingPoint
from vecindex.spec import FlatSpec, HnswSpec, IvfSpec, OptimizeBudget, StructureSpec, spec_name

ROWS = 20_000
EXACT_MS = 10.0
module = import_module("vecindex.ann.choose")  # the function of that name hides it


@dataclass
class Made:
    """What a made-up structure costs and promises."""

    latency_ms: float
    bound: float = 0.97
    build_s: float = 1.0
    size: int = 1000
    sample_s: float = 0.5


@dataclass
class World:
    """A made-up machine: what was built on it, and how long that took."""

    structures: dict[str, Made]
    clock: float = 0.0
    built: list[tuple[str, int]] = field(default_factory=list)
    calibrated: list[str] = field(default_factory=list)
    threads: set[int | None] = field(default_factory=set)
    polls: bool = True

    def build(self, spec: StructureSpec, vectors: MappedRows, **options: Any) -> Any:
        """Take the time of a build."""
        made = self.structures[spec_name(spec)]
        count = len(vectors.rows)
        assert vectors.buffer.nbytes == 64 + vectors.rows.nbytes
        self.built.append((spec_name(spec), count))
        self.threads.add(options["threads"])
        self.clock += made.build_s if count == ROWS else made.sample_s
        if self.polls and options["should_stop"] is not None and options["should_stop"]():
            raise BuildInterrupted
        return SimpleNamespace(size_bytes=made.size, spec=spec, rows=count)

    def calibrate(self, structure: Any, asked: Questions, **options: Any) -> Calibration:
        """Return a curve of two points; one is cheap and promises nothing."""
        name = spec_name(structure.spec)
        made = self.structures[name]
        self.calibrated.append(name)
        points = (
            OperatingPoint({"cheap": 1}, 0.5, 0.4, 0.001),
            OperatingPoint({"name": name}, made.bound + 0.01, made.bound, made.latency_ms),
        )
        costs = Costs(0.1, 0.1, 1.0)
        return Calibration("flat", "pq4", 10, 600, "rows", 0.99, EXACT_MS, costs, points)


@pytest.fixture(scope="module")
def vectors(mapped: Mapper) -> MappedRows:
    """Give rows that are not looked at."""
    return mapped(np.ones((ROWS, 4), np.float32))


def chosen(
    monkeypatch: pytest.MonkeyPatch, world: World, vectors: MappedRows, **options: Any
) -> Choice:
    """Choose in a made-up world."""

    def ask(matrix: Float32Array, live: LiveMask | None, queries: Any, **how: Any) -> Questions:
        assert how == {"target": 0.95}
        one = np.zeros(1, np.int64)
        return Questions(
            matrix, live, matrix[:1], one, "rows", 10, 0.95, matrix[:1, 0], EXACT_MS, row_us=0.1
        )

    clock = SimpleNamespace(perf_counter=lambda: world.clock)
    for name, value in {
        "build": world.build,
        "calibrate": world.calibrate,
        "questions": ask,
        "time": clock,
    }.items():
        monkeypatch.setattr(module, name, value)
    return decide(vectors, **{"target": 0.95, **options})


def verdicts(choice: Choice) -> dict[str, str]:
    """Return the verdicts by structure, after checking that each was recorded once."""
    names = [tried.spec for tried in choice.tried]
    assert sorted(names) == ["flat", "flat/pq4", "hnsw/sq4", "ivf/pq4"]
    assert names[0] == spec_name(choice.spec)
    found = {tried.spec: tried.verdict for tried in choice.tried}
    assert all(found.values())
    assert [name for name, verdict in found.items() if verdict.startswith("chosen")] == names[:1]
    return found


@pytest.mark.parametrize(
    ("flat", "ivf", "graph", "winner"),
    [
        (2.0, 1.0, 0.5, "hnsw/sq4"),
        (2.0, 1.0, 1.5, "ivf/pq4"),
        (1.0, 2.0, 3.0, "flat/pq4"),
        (20.0, 30.0, 40.0, "flat"),
        (1.0, 0.95, 3.0, "flat/pq4"),  # not clearly faster: the simpler one stays
        (1.0, 0.89, 3.0, "ivf/pq4"),
        (9.5, 9.5, 9.5, "flat"),
        (20.0, 5.0, 3.0, "hnsw/sq4"),
    ],
)
def test_the_fastest_wins(
    flat: float,
    ivf: float,
    graph: float,
    winner: str,
    vectors: MappedRows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World({"flat/pq4": Made(flat), "ivf/pq4": Made(ivf), "hnsw/sq4": Made(graph)})
    choice = chosen(monkeypatch, world, vectors)
    found = verdicts(choice)
    assert spec_name(choice.spec) == winner
    assert found[winner] == "chosen: the fastest that promises recall 0.95"
    if winner == "flat":
        assert (choice.structure, choice.calibration) == (None, None)
    else:
        assert (choice.structure.spec, choice.structure.rows) == (choice.spec, ROWS)
        assert choice.calibration.points[1].params == {"name": winner}
        tried = choice.tried[0]
        latency = world.structures[winner].latency_ms
        assert (tried.build_s, tried.size_bytes, tried.latency_ms) == (1.0, 1000, latency)
        assert (tried.params, tried.bound) == ({"name": winner}, 0.97)
    for name, verdict in found.items():
        if name != winner:
            assert "faster than" in verdict or "slower than" in verdict


def test_nothing_meets_the_target(vectors: MappedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(dict.fromkeys(("flat/pq4", "ivf/pq4", "hnsw/sq4"), Made(0.1, bound=0.94)))
    choice = chosen(monkeypatch, world, vectors)
    found = verdicts(choice)
    assert choice.spec == FlatSpec()
    for name in world.structures:
        assert found[name] == "no setting promises recall 0.95"
    for tried in choice.tried[1:]:
        assert (tried.build_s, tried.size_bytes) == (1.0, 1000)
        assert (tried.params, tried.latency_ms) == (None, None)


def test_a_bound_that_just_suffices(vectors: MappedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(dict.fromkeys(("flat/pq4", "ivf/pq4", "hnsw/sq4"), Made(0.1, bound=0.95)))
    assert chosen(monkeypatch, world, vectors).spec == FlatSpec("pq4")


def test_too_much_memory(vectors: MappedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(
        {
            "flat/pq4": Made(5.0, size=100),
            "ivf/pq4": Made(1.0, size=101),
            "hnsw/sq4": Made(0.7, size=5000),
        }
    )
    choice = chosen(monkeypatch, world, vectors, budget=OptimizeBudget(memory_bytes=100))
    found = verdicts(choice)
    assert choice.spec == FlatSpec("pq4")
    assert found["ivf/pq4"] == "101 bytes, over the budget of 100"
    assert "5,000 bytes" in found["hnsw/sq4"]


def test_too_long_a_build(vectors: MappedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(
        {
            "flat/pq4": Made(5.0, build_s=10.0),
            "ivf/pq4": Made(1.0, build_s=10.1),
            "hnsw/sq4": Made(0.7, build_s=10.5, sample_s=0.1),  # the estimate was too low
        }
    )
    choice = chosen(monkeypatch, world, vectors, budget=OptimizeBudget(build_s=10))
    found = verdicts(choice)
    assert choice.spec == FlatSpec("pq4")
    assert found["ivf/pq4"] == "given up after the 10 s of the budget"
    assert found["hnsw/sq4"] == "given up after the 10 s of the budget"
    world.polls = False  # a build may end before it looks at the clock again
    found = verdicts(chosen(monkeypatch, world, vectors, budget=OptimizeBudget(build_s=10)))
    assert found["ivf/pq4"] == "built in 10.1 s, over the budget of 10 s"
    assert found["hnsw/sq4"] == "built in 10.5 s, over the budget of 10 s"


def test_a_graph_is_built_only_if_the_estimate_fits(
    vectors: MappedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    growth = ROWS / 4096 * np.log(ROWS + 1) / np.log(4097)
    for share, fits in ((0.99, True), (1.01, False)):
        graph = Made(0.1, sample_s=share * 30 / growth)
        world = World({"flat/pq4": Made(2.0), "ivf/pq4": Made(3.0), "hnsw/sq4": graph})
        choice = chosen(monkeypatch, world, vectors, budget=OptimizeBudget(build_s=30))
        found = verdicts(choice)
        assert ("hnsw/sq4", 4096) in world.built
        assert (("hnsw/sq4", ROWS) in world.built) == fits
        assert isinstance(choice.spec, HnswSpec if fits else FlatSpec)
        if not fits:
            assert found["hnsw/sq4"].startswith("not built: it would take about 30 s, over the")
            graph_tried = next(tried for tried in choice.tried if tried.spec == "hnsw/sq4")
            assert (graph_tried.build_s, graph_tried.latency_ms) == (None, None)


def test_a_graph_is_not_tried_where_it_gains_little(
    vectors: MappedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    for latency, budget, tried in (
        (0.5, None, False),
        (0.51, None, True),
        (0.5, OptimizeBudget(), True),
    ):
        world = World({"flat/pq4": Made(latency), "ivf/pq4": Made(latency), "hnsw/sq4": Made(0.1)})
        choice = chosen(monkeypatch, world, vectors, budget=budget)
        found = verdicts(choice)
        assert (("hnsw/sq4", 4096) in world.built) == tried
        assert isinstance(choice.spec, HnswSpec) == tried
        if not tried:
            assert "give a budget" in found["hnsw/sq4"]


def test_progress_threads_and_stop(vectors: MappedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    def world() -> World:
        return World({"flat/pq4": Made(1.0), "ivf/pq4": Made(0.8), "hnsw/sq4": Made(0.7)})

    seen: list[tuple[int, int]] = []
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return False

    first = world()
    options = {"progress": lambda *done: seen.append(done), "threads": 3, "should_stop": look}
    chosen(monkeypatch, first, vectors, **options)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert first.threads == {3}
    for last in range(looks):
        left = iter([False] * last + [True])
        with pytest.raises(BuildInterrupted):
            chosen(monkeypatch, world(), vectors, should_stop=lambda: next(left))  # noqa: B023


def test_nothing_to_ask(mapped: Mapper) -> None:
    for count in (0, 1):
        choice = decide(mapped(clustered(count, seed=1)), target=0.95)
        assert (choice.spec, choice.structure, choice.calibration) == (FlatSpec(), None, None)
        assert [tried.spec for tried in choice.tried] == ["flat"]


def test_in_earnest(mapped: Mapper) -> None:
    vectors = mapped(clustered(1500, seed=1))
    live = LiveMask(np.arange(1500) % 7 > 0)
    choice = decide(vectors, target=0.9, live=live, budget=OptimizeBudget(build_s=60))
    verdicts(choice)
    for tried in choice.tried:
        if tried.bound is not None:
            assert 0.9 <= tried.bound <= tried.recall <= 1
    if choice.structure is not None:
        assert choice.structure.rows == 1500
        assert choice.calibration.cheapest(0.9).params == choice.tried[0].params
        assert isinstance(choice.spec, FlatSpec | IvfSpec | HnswSpec)
