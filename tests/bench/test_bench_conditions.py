"""Filters, removed rows and new rows, where the right answers are known."""

import numpy as np
import pytest
from bench_data import clustered, unit

from vecindex.bench import Workload, from_arrays
from vecindex.bench.conditions import (
    NEAR_QUERIES,
    K,
    Situation,
    measure_conditions,
    measure_situation,
)
from vecindex.bench.copies import Recipe, built, random_ranks, twin

DATA = from_arrays(clustered(400), clustered(60, seed=1))
N = len(DATA.rows)
RANKS = random_ranks(N, 3)
RECIPE = Recipe("flat", "flat", 0.95)


@pytest.fixture(scope="module")
def copy():
    with built(RECIPE, DATA.rows, RANKS) as one:
        yield one


def measure(copy, **conditions):
    seen = []
    work = Workload(repeats=2, seed=3, **conditions)
    found = measure_conditions(RECIPE, copy, DATA, RANKS, work, lambda *counts: seen.append(counts))
    assert seen == [(i + 1, len(found)) for i in range(len(found))]
    return found


def test_filters_keep_their_share(copy):
    found = measure(copy, filters=(1.0, 0.5, 0.01, 0.0001))
    assert [row.name for row in found] == [
        "filter 100%", "filter 50%", "filter 1%", "filter 0.01%",
    ]  # fmt: skip
    assert [row.matches for row in found] == [400, 200, 4, 1]
    assert [row.expected for row in found] == [row.returned for row in found] == [10, 10, 4, 1]
    assert {row.recall for row in found} == {1.0}
    assert all(f"{row.matches} of 400 rows" in row.plan for row in found[1:])
    assert all(row.ratio > 0 and row.first_ms > 0 and row.plain_p50_ms > 0 for row in found)


def test_removed_rows(copy):
    at_random, near = measure(copy, deleted=(0.3,))
    assert at_random.name == "deleted 30% at random"
    assert near.name == "deleted 30% nearest to a query"
    assert at_random.matches == near.matches == 280
    assert (at_random.recall, near.recall) == (1.0, 1.0)
    assert "280 of 280 rows" in near.plan
    assert len(copy.index) == 400  # the removal was on a copy of the copy


def test_new_rows(copy):
    (tail,) = measure(copy, tail=(0.05,))
    assert (tail.name, tail.matches, tail.recall, tail.returned) == ("tail 5%", 400, 1.0, 10)
    assert "400 of 400 rows" in tail.plan


def test_new_rows_are_outside_the_structure():
    recipe = Recipe("hnsw", "hnsw", 0.95)
    with built(recipe, DATA.rows) as one:
        work = Workload(repeats=1, tail=(0.05,))
        (tail,) = measure_conditions(recipe, one, DATA, None, work, lambda *_: None)
    assert "20 rows outside the structure searched beside it" in tail.plan


class Forgetful:
    """An index that answers with other options than it was asked."""

    def __init__(self, index, change):
        self._index, self._change = index, change

    def __getattr__(self, name):
        return getattr(self._index, name)

    def search_arrays(self, queries, k=10, **options):
        return self._change(self._index, queries, k, options)


def situation(copy, change, matches):
    where = {"rank": {"$lt": matches}}
    index = Forgetful(copy.index, change)
    return Situation("flat", "f", index, copy.index, matches > RANKS, DATA.queries, where)


def test_a_filter_that_is_not_kept_is_seen(copy):
    def forget(index, queries, k, options):
        return index.search_arrays(queries, k)

    row = measure_situation(situation(copy, forget, 200), DATA.rows, 1)
    best = np.argsort(-(DATA.queries @ DATA.rows.T), axis=1)[:, :K]
    allowed = (RANKS < 200)[best].sum(axis=1)
    assert row.recall == pytest.approx(allowed.mean() / K)
    assert 0.3 < row.recall < 0.7
    assert (row.returned, row.expected) == (allowed.min(), 10)


def test_a_short_answer_is_seen(copy):
    def shorten(index, queries, k, options):
        ids, scores = index.search_arrays(queries, k, **options)
        return ids[:, :3], scores[:, :3]

    row = measure_situation(situation(copy, shorten, 6), DATA.rows, 1)
    assert (row.expected, row.returned, row.recall) == (6, 3, 0.5)


def test_the_hole_is_around_the_first_query_and_asked_there(copy, monkeypatch):
    asked = []

    def spy(one, rows, repeats):
        asked.append(one)
        return measure_situation(one, rows, repeats)

    monkeypatch.setattr("vecindex.bench.conditions.measure_situation", spy)
    measure(copy, deleted=(0.1,))
    at_random, near = asked
    gone = np.flatnonzero(np.logical_not(near.allowed))
    scores = DATA.rows @ DATA.queries[0]
    assert len(gone) == 40
    assert scores[gone].min() >= scores[near.allowed].max()
    assert np.array_equal(near.queries[0], DATA.queries[0])
    assert len(near.queries) == NEAR_QUERIES < len(at_random.queries) == 60
    assert np.logical_not(at_random.allowed).sum() == 40
    assert scores[np.logical_not(at_random.allowed)].min() < scores[at_random.allowed].max()


def test_a_twin_is_changed_alone(copy):
    with twin(copy.index) as other:
        other.remove([0, 1])
        other.add(vectors=DATA.rows[:1], ids=["new"])
        path = other.path
        assert (len(other), len(copy.index)) == (399, 400)
    assert not path.exists()


def test_copies_are_gone_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="x"), built(RECIPE, DATA.rows[:9]) as one:
        assert one.index.path.is_relative_to(tmp_path)
        assert one.cost.size_bytes > DATA.rows[:9].nbytes
        with twin(one.index):
            assert len(list(tmp_path.iterdir())) == 2
            raise RuntimeError("x")
    assert list(tmp_path.iterdir()) == []


def test_copies_hold_the_rows_as_given(copy):
    (record,) = copy.index.get([17], vectors=True)
    assert np.allclose(record.vector, unit(clustered(400))[17], atol=1e-6)
    assert record.metadata == {"rank": RANKS[17]}
