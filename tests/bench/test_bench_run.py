"""Measuring real indexes, and one that lies."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from vecindex import VectorIndex
from vecindex.bench import bench
from vecindex.bench.queries import sampled_queries
from vecindex.bench.trials import DEFAULT, EXACT, ask, recompute
from vecindex.errors import DimensionError, InputError

QUICK = {"repeats": 1, "sample": 20}


def rows(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def make(path, vectors, spec="flat", ids=None) -> VectorIndex:
    index = VectorIndex.create(path, spec=spec, maintenance="manual")
    index.add(vectors=vectors, ids=ids)
    index.optimize()
    return index


@pytest.fixture
def flat(tmp_path):
    with make(tmp_path / "flat.vx", rows(300)) as index:
        yield index


@pytest.fixture(scope="module")
def ivf(tmp_path_factory):
    ids = [f"id {i}" for i in range(2000)]
    with make(tmp_path_factory.mktemp("ivf") / "ivf.vx", rows(2000), "ivf", ids) as index:
        yield index


def test_flat_is_exact(flat):
    report = bench(flat, k=[1, 10], **QUICK)
    assert [(row.name, row.k) for row in report.rows] == [
        ("exact", 1), ("default", 1), ("exact", 10), ("default", 10),
    ]  # fmt: skip
    assert [row.recall for row in report.rows] == [1.0] * 4
    assert all(row.score_error < 1e-6 for row in report.rows)
    assert all(0 < row.p50_ms <= row.p95_ms <= row.p99_ms for row in report.rows)
    assert all(row.batch_qps > 0 for row in report.rows)
    assert report.rows[0].plan.startswith("exact over 300 of 300 rows")


def test_the_recall_of_given_queries_is_as_counted_by_hand(ivf):
    queries = rows(50, seed=1)
    report = bench(ivf, k=[10], queries=queries, repeats=1)
    measured = {row.name: row.recall for row in report.rows}
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (queries, rows(2000))]
    truth = np.argsort(-(unit[0] @ unit[1].T), axis=1)[:, :10]
    found, _ = ivf.search_arrays(queries, 10, params={"nprobe": 1})
    numbers = np.array([[int(id.split()[1]) for id in row] for row in found.tolist()])
    by_hand = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(numbers, truth, strict=True)])
    assert measured["nprobe=1"] == pytest.approx(by_hand)
    assert 0 < measured["nprobe=1"] < 0.9
    assert measured["exact"] == 1.0
    assert report.facts["query_source"] == "given"


def test_the_grid_of_lists_ends_with_all_of_them(ivf):
    names = [row.name for row in bench(ivf, k=[5], **QUICK).rows]
    assert names[:5] == ["exact", "default", "nprobe=1", "nprobe=2", "nprobe=4"]
    lists = int(names[-1].removeprefix("nprobe="))
    assert ivf.explain(params={"nprobe": lists}).params == {"nprobe": lists}
    assert names[-2] == "nprobe=32"
    assert 32 < lists <= 64


def test_the_grid_of_a_graph(tmp_path):
    with make(tmp_path / "hnsw.vx", rows(1500), "hnsw") as index:
        report = bench(index, k=[10], **QUICK)
    assert [row.name for row in report.rows] == [
        "exact", "default", *(f"ef_search={ef}" for ef in (16, 32, 64, 128, 256, 512)),
    ]  # fmt: skip
    recalls = [row.recall for row in report.rows]
    assert recalls[0] == 1.0
    assert recalls[-1] > 0.99
    assert report.rows[2].plan.endswith("ef_search=16")
    assert "other queries find fewer" in report.summary()


def test_a_sampled_row_does_not_find_itself(ivf):
    asked = sampled_queries(ivf, 100, seed=3)
    for setting in (EXACT, DEFAULT):
        found = ask(ivf, asked, 7, setting)
        assert found.ids.shape == found.scores.shape == (100, 7)
        assert not (found.ids == asked.own[:, None]).any()
    best, _ = ivf.search_arrays(asked.vectors, 8, exact=True)
    assert (best[:, 0] == asked.own).all()  # each would have found itself first
    assert np.array_equal(ask(ivf, asked, 7, EXACT).ids, best[:, 1:])


def test_the_sample_is_drawn_by_its_seed(ivf):
    first, again, other = (sampled_queries(ivf, 50, seed).own.tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len(set(first)) == 50
    assert len(sampled_queries(ivf, 10**6, 0).vectors) == 2000


def test_duplicates_of_the_query_are_answers(tmp_path):
    vectors = np.repeat(rows(20), 5, axis=0)
    with make(tmp_path / "twins.vx", vectors) as index:
        report = bench(index, k=[4], **QUICK)
        asked = sampled_queries(index, 20, 0)
        assert ask(index, asked, 4, EXACT).scores.min() == pytest.approx(1.0, abs=1e-6)
    assert [row.recall for row in report.rows] == [1.0, 1.0]


@pytest.mark.parametrize("n", [2, 3])
def test_a_tiny_index(tmp_path, n):
    with make(tmp_path / "tiny.vx", rows(n)) as index:
        report = bench(index, k=[1, 10, 100], **QUICK)
    assert sorted({row.k for row in report.rows}) == ([1] if n == 2 else [1, 2])
    assert {row.recall for row in report.rows} == {1.0}


def test_what_cannot_be_measured(tmp_path, flat):
    with make(tmp_path / "one.vx", rows(1)) as index:
        with pytest.raises(InputError, match="at least 2 rows"):
            bench(index)
        assert bench(index, queries=rows(3), repeats=1).rows[0].recall == 1.0
    with (
        VectorIndex.create(tmp_path / "empty.vx", dim=16) as index,
        pytest.raises(InputError, match="empty"),
    ):
        bench(index, queries=rows(3))
    with pytest.raises(InputError, match="k and repeats must be at least 1"):
        bench(flat, k=[0])
    with pytest.raises(InputError, match="k and repeats must be at least 1"):
        bench(flat, repeats=0)
    with pytest.raises(InputError, match="sample must be at least 1"):
        bench(flat, sample=0)
    with pytest.raises(InputError, match="no queries were given"):
        bench(flat, queries=np.empty((0, 16)))
    with pytest.raises(DimensionError, match="queries have dimension 3"):
        bench(flat, queries=np.ones((1, 3)))


class Liar:
    """An index whose approximate search returns the worst rows with scores of the best."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def __getattr__(self, name):
        return getattr(self._index, name)

    def __len__(self) -> int:
        return len(self._index)

    def search_arrays(self, queries, k=10, *, exact=False, **options):
        ids, scores = self._index.search_arrays(queries, len(self) if not exact else k, exact=True)
        return (ids, scores) if exact else (ids[:, ::-1][:, :k], scores[:, :k])


def test_scores_are_not_taken_on_trust(flat):
    report = bench(Liar(flat), k=[10], queries=rows(20, seed=1), repeats=1)
    exact, default = report.rows
    assert (exact.recall, default.recall) == (1.0, 0.0)
    assert exact.score_error < 1e-6
    assert default.score_error > 0.5


def test_recomputed_scores_are_the_cosines(ivf):
    asked = sampled_queries(ivf, 70, 0)  # more than one chunk
    answers = [ask(ivf, asked, k, EXACT) for k in (3, 9)]
    answers[1].scores[5, 4:] = -np.inf  # as if there were no answer
    three, nine = recompute(ivf, asked, answers)
    assert np.allclose(three, answers[0].scores, atol=1e-6)
    assert np.isnan(nine[5, 4:]).all()
    assert np.isfinite(np.delete(nine, 5, axis=0)).all()


def test_the_report_says_everything(flat):
    seen = []
    report = bench(flat, k=[3], seed=7, progress=lambda *what: seen.append(what), **QUICK)
    assert seen == [("bench", 1, 2), ("bench", 2, 2)]
    document = json.loads(report.to_json())
    assert document == report.to_dict()
    facts = document["facts"]
    expected = {"rows": 300, "dim": 16, "structure": "flat", "queries": 20, "seed": 7, "repeats": 1}
    assert {name: facts[name] for name in expected} == expected
    assert set(facts["machine"]) == {"cpu", "cores", "memory_gb", "system"}
    assert set(facts["versions"]) == {"python", "vecindex", "faiss-cpu", "numpy"}
    assert "unknown" not in facts["versions"].values()
    assert facts["threads"]["single"] == 1
    assert facts["command"]
    lines = report.to_markdown().splitlines()
    assert len(lines) == 2 + 2 + len(report.rows)
    assert {line.count("|") for line in lines[2:]} == {11}
    assert lines[4].startswith("| exact | 3 | 1.0000 |")
    out = io.StringIO()
    Console(file=out, width=200).print(report.to_table())
    assert "recall@k ↑" in out.getvalue()
    assert "default" in out.getvalue()
