"""A minute of a writer and four reader processes, killed at random; and the oracle it rests on.

The longer run is `python -m tests.torture soak`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vecindex import VectorIndex
from vecindex.store.segment import Tail

from . import growth
from .soak import soak
from .soak_reader import CHECKS
from .soak_world import DIM, GROUPS, World


@pytest.mark.long
def test_a_minute_of_everything_at_once_is_right_and_nothing_grows() -> None:
    report = soak(seed=0, seconds=60, share=0.1)
    for name in (*CHECKS, "adds", "upserts", "removes", "seals", "folds"):
        assert report.counts[name] > 0, name
    assert report.counts["writers_killed"] > 0
    assert report.counts["readers_killed"] > 2
    assert not report.grown(), report.growth()


@pytest.fixture
def world_and_index(tmp_path: Path):
    """An index after 300 operations, of which the last one was an upsert."""
    world = World(5)
    with VectorIndex.create(tmp_path / "x.vx", spec="flat", dim=DIM, durability="os") as index:
        for number in range(1, 300):
            world.carry_out(index, number)
            if number % 50 == 0:
                assert world.state(index.scan(vectors=True)) == number
                assert world.count(number) == len(index)
        assert world.state(index.scan()) == 299
        yield world, index


def put(world: World, index: VectorIndex, group: int, version: int, rows: slice) -> None:
    """Put rows of a group as some operation wrote them."""
    arguments = world.arguments(version)
    index.upsert(**{name: values[rows] for name, values in arguments.items()})


def test_the_oracle_refuses_every_kind_of_wrong_state(world_and_index) -> None:
    world, index = world_and_index
    versions = {group: world.version(group, 299) for group in range(GROUPS)}
    there = [group for group, version in versions.items() if version]
    [gone, *_] = [group for group, version in versions.items() if not version]

    removed = world.visit(gone, 299)
    put(world, index, gone, removed - GROUPS, slice(len(world.ids(gone))))
    with pytest.raises(AssertionError, match="no state 299"):  # it came back
        world.state(index.scan())
    index.remove(where={"group": gone})
    assert world.state(index.scan()) == 299

    group = next(group for group in there if group != world.group(299))
    whole = slice(len(world.ids(group)))
    put(world, index, group, versions[group] - GROUPS, slice(1))
    with pytest.raises(AssertionError, match=f"part of group {group}"):
        world.state(index.scan())
    put(world, index, group, versions[group] - GROUPS, whole)
    with pytest.raises(AssertionError, match="no state 299"):  # a replaced version
        world.state(index.scan())
    index.remove(where={"group": group})
    with pytest.raises(AssertionError, match="no state 299"):  # lost
        world.state(index.scan())


def test_growth_is_what_is_over_the_limit_in_the_last_quarter() -> None:
    steady = [{"at": float(at), "allocated_mb": 30 + at % 3, "files": 20} for at in range(100)]
    assert growth.grown(growth.compared(steady, 100)) == []
    leaking = [{**sample, "allocated_mb": 30 + sample["at"] / 5} for sample in steady]
    assert growth.grown(growth.compared(leaking, 100)) == ["allocated_mb"]


def test_a_tail_of_a_few_rows_takes_little_memory() -> None:
    tail = Tail(384)
    tail.append(0, ["a"], [b""], np.zeros((1, 384), np.float32))
    assert tail.buffer.nbytes <= 1 << 20
