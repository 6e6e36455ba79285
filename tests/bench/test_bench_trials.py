"""Which queries are asked with which settings, and how they are timed and looked over."""

from itertools import groupby

import numpy as np
import pytest
from bench_data import make, rows, unit

from vecindex.bench.data import row_hash
from vecindex.bench.queries import read_contents
from vecindex.bench.trials import (
    DEFAULT,
    EXACT,
    GRID,
    ask,
    recompute,
    spread_out,
    stored_vectors,
    thinned,
    time_trials,
)


def sampled(index, sample, seed):
    return read_contents(index, None, sample, seed, keep_rows=False).queries


@pytest.fixture(scope="module")
def ivf(tmp_path_factory):
    ids = [f"id {i}" for i in range(2000)]
    with make(tmp_path_factory.mktemp("ivf") / "ivf.vx", rows(2000), "ivf", ids) as index:
        yield index


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 40])
def test_a_grid_is_thinned_evenly(n):
    grid = [{"x": i} for i in range(n)]
    kept = [params["x"] for params in thinned(grid)]
    assert len(kept) == min(n, GRID) == len(set(kept))
    assert kept[:1] + kept[-1:] == list(range(n))[:1] + list(range(n))[-1:]
    gaps = np.diff(kept)
    assert n < 2 or gaps.max() - gaps.min() <= 1


def test_queries_for_timing_are_taken_from_all_over():
    queries = np.arange(1000, dtype=np.float32)[:, None]
    taken = spread_out(queries, 5).ravel().tolist()
    assert taken == [0, 249, 499, 749, 999]
    assert spread_out(queries, 1000) is queries


def test_a_sampled_row_does_not_find_itself(ivf):
    asked = sampled(ivf, 100, seed=3)
    for setting in (EXACT, DEFAULT):
        found = ask(ivf, asked, 7, setting)
        assert found.ids.shape == found.scores.shape == (100, 7)
        assert not (found.ids == asked.own[:, None]).any()
    best, _ = ivf.search_arrays(asked.vectors, 8, exact=True)
    assert (best[:, 0] == asked.own).all()  # each would have found itself first
    assert np.array_equal(ask(ivf, asked, 7, EXACT).ids, best[:, 1:])


def test_the_sample_is_drawn_by_its_seed(ivf):
    first, again, other = (sampled(ivf, 50, seed).own.tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len(set(first)) == 50
    assert len(sampled(ivf, 10**6, 0).vectors) == 2000


def test_the_contents_of_an_index_are_its_rows(ivf):
    contents = read_contents(ivf, None, 30, 0, keep_rows=True)
    assert np.allclose(contents.rows, unit(rows(2000)), atol=1e-6)
    assert contents.sha256 == row_hash(contents.rows)
    assert np.array_equal(contents.rows[contents.drawn], contents.queries.vectors)
    assert contents.queries.own.tolist() == [f"id {number}" for number in contents.drawn]


def test_each_setting_takes_its_turn_in_each_round(monkeypatch):
    calls, now = [], [0.0]

    class Clocked:
        """An index whose search takes 1 ms for each answer, and the query's number."""

        def search_arrays(self, queries, k, **options):
            calls.append((len(queries), k))
            now[0] += 0.001 * len(queries) * k + queries[0, 0] / 1000

    monkeypatch.setattr("vecindex.bench.trials.time.perf_counter", lambda: now[0])
    queries = np.arange(5, dtype=np.float32)[:, None]
    told = []
    small, large = time_trials(
        Clocked(), queries, [(1, DEFAULT), (4, EXACT)], 3, lambda *counts: told.append(counts)
    )
    assert np.allclose(small.alone_ms, [[1, 2, 3, 4, 5]] * 3)
    assert np.allclose(large.alone_ms, [[4, 5, 6, 7, 8]] * 3)
    assert np.allclose(small.batch_s, 0.005)
    assert np.allclose(large.batch_s, 0.020)
    assert told == [(number, 6) for number in range(1, 7)]
    turns = [k for k, _ in groupby(k for _, k in calls)]
    assert turns == [1, 4, 1, 4, 1, 4]


def test_recomputed_scores_are_the_cosines(ivf):
    asked = sampled(ivf, 70, 0)  # more than one chunk
    answers = [ask(ivf, asked, k, EXACT) for k in (3, 9)]
    answers[1].scores[5, 4:] = -np.inf  # as if there were no answer
    three, nine = recompute(stored_vectors(ivf), asked.vectors, answers)
    assert np.allclose(three, answers[0].scores, atol=1e-6)
    assert np.isnan(nine[5, 4:]).all()
    assert np.isfinite(np.delete(nine, 5, axis=0)).all()
