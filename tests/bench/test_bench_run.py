"""Measuring real indexes and vectors, and an index that lies."""

import io
import json

import numpy as np
import pytest
from bench_data import clustered, make, rows, unit
from rich.console import Console

from vecindex import VectorIndex
from vecindex.bench import STRUCTURES, Workload, bench, bench_vectors, from_arrays
from vecindex.bench.data import row_hash
from vecindex.bench.queries import read_contents
from vecindex.bench.tables import summary, to_markdown, to_tables
from vecindex.bench.trials import (
    EXACT,
    ask,
    settings,
    thinned,
)
from vecindex.errors import DimensionError, InputError

QUICK = {"repeats": 1, "sample": 20}


def sampled(index, sample, seed):
    return read_contents(index, None, sample, seed, keep_rows=False).queries


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
    report = bench(flat, Workload(k=(1, 10), **QUICK))
    assert [(row.name, row.k) for row in report.rows] == [
        ("exact", 1), ("default", 1), ("exact", 10), ("default", 10),
    ]  # fmt: skip
    assert {row.structure for row in report.rows} == {"this index"}
    assert [row.recall for row in report.rows] == [1.0] * 4
    assert all(row.score_error < 1e-6 for row in report.rows)
    assert all(0 < row.p50_ms <= row.p95_ms <= row.p99_ms for row in report.rows)
    assert all(row.batch_qps > 0 for row in report.rows)
    assert report.rows[0].plan.startswith("exact over 300 of 300 rows")
    assert [row.size_bytes for row in report.rows[:2]] == [None, flat.info().size_bytes]


def test_the_recall_of_given_queries_is_as_counted_by_hand(ivf):
    queries = rows(50, seed=1)
    report = bench(ivf, Workload(k=(10,), repeats=1), queries=queries)
    measured = {row.name: row.recall for row in report.rows}
    cheapest = report.rows[2]
    assert cheapest.name.startswith("nprobe=")
    truth = np.argsort(-(unit(queries) @ unit(rows(2000)).T), axis=1)[:, :10]
    params = ivf.info().calibration.points[0].params
    found, _ = ivf.search_arrays(queries, 10, params=params)
    numbers = np.array([[int(id.split()[1]) for id in row] for row in found.tolist()])
    by_hand = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(numbers, truth, strict=True)])
    assert cheapest.recall == pytest.approx(by_hand)
    assert 0 < cheapest.recall < 0.9
    assert measured["exact"] == 1.0
    assert report.facts["query_source"] == "given"


def test_the_grid_is_what_the_calibration_measured(ivf):
    report = bench(ivf, Workload(k=(5,), **QUICK))
    points = ivf.info().calibration.points
    asked = [setting.options["params"] for setting in settings(ivf.info())[1:]]
    assert asked == thinned([point.params for point in points])
    assert [row.name for row in report.rows[:2]] == ["exact", "default"]
    assert len(report.rows) == 2 + len(asked)
    for row, params in zip(report.rows[2:], asked, strict=True):
        assert row.name == " ".join(f"{n}={v}" for n, v in params.items() if v is not None)
        assert f"nprobe={params['nprobe']}" in row.plan


def test_a_sampled_graph_says_that_it_is_flattered(tmp_path):
    with make(tmp_path / "hnsw.vx", rows(1500), "hnsw") as index:
        report = bench(index, Workload(k=(10,), **QUICK))
        given = bench(index, Workload(k=(10,), repeats=1), queries=rows(5, seed=1))
    assert report.rows[0].recall == 1.0
    assert max(row.recall for row in report.rows[2:]) > 0.99
    assert "other queries find fewer" in summary(report)
    assert "other queries find fewer" not in summary(given)


def test_duplicates_of_the_query_are_answers(tmp_path):
    vectors = np.repeat(rows(20), 5, axis=0)
    with make(tmp_path / "twins.vx", vectors) as index:
        report = bench(index, Workload(k=(4,), **QUICK))
        found = ask(index, sampled(index, 20, 0), 4, EXACT)
    assert found.scores.min() == pytest.approx(1.0, abs=1e-6)
    assert [row.recall for row in report.rows] == [1.0, 1.0]


@pytest.mark.parametrize("n", [2, 3])
def test_a_tiny_index(tmp_path, n):
    with make(tmp_path / "tiny.vx", rows(n)) as index:
        report = bench(index, Workload(k=(1, 10, 100), **QUICK))
    assert report.ks == ((1,) if n == 2 else (1, 2))
    assert {row.recall for row in report.rows} == {1.0}


def test_what_cannot_be_measured(tmp_path, flat):
    with make(tmp_path / "one.vx", rows(1)) as index:
        with pytest.raises(InputError, match="at least 2 rows"):
            bench(index)
        assert bench(index, Workload(repeats=1), queries=rows(3)).rows[0].recall == 1.0
    with (
        VectorIndex.create(tmp_path / "empty.vx", dim=16) as index,
        pytest.raises(InputError, match="empty"),
    ):
        bench(index, queries=rows(3))
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
    report = bench(Liar(flat), Workload(k=(10,), repeats=1), queries=rows(20, seed=1))
    exact, default = report.rows
    assert (exact.recall, default.recall) == (1.0, 0.0)
    assert exact.score_error < 1e-6
    assert default.score_error > 0.5


class Short(Liar):
    """An index whose approximate search returns half of the rows that were asked for."""

    def search_arrays(self, queries, k=10, *, exact=False, **options):
        return self._index.search_arrays(queries, k if exact else k // 2, exact=True)


def test_missing_answers_are_not_found(flat):
    report = bench(Short(flat), Workload(k=(10,), repeats=1), queries=rows(20, seed=1))
    assert [row.recall for row in report.rows] == [1.0, 0.5]


def test_the_report_says_everything(flat):
    seen = []
    work = Workload(k=(3,), seed=7, **QUICK)
    report = bench(flat, work, progress=lambda *what: seen.append(what))
    assert seen == [("this index", 1, 2), ("this index", 2, 2)]
    document = json.loads(report.to_json())
    assert document == report.to_dict()
    facts = document["facts"]
    expected = {"rows": 300, "dim": 16, "structure": "flat", "queries": 20, "seed": 7, "repeats": 1}
    assert {name: facts[name] for name in expected} == expected
    assert facts["index"] == "flat.vx"  # and not where it lies
    assert set(facts["machine"]) == {"cpu", "cores", "memory_gb", "system"}
    assert set(facts["versions"]) == {"python", "vecindex", "faiss-cpu", "numpy"}
    assert "unknown" not in facts["versions"].values()
    assert facts["threads"]["single"] == 1
    assert facts["command"]
    lines = to_markdown(report).splitlines()
    assert len(lines) == 2 + 2 + len(report.rows)
    assert {line.count("|") for line in lines[2:]} == {16}
    assert lines[4].startswith("| this index | exact | 3 | 1.0000 |")
    out = io.StringIO()
    Console(file=out, width=200).print(*to_tables(report))
    assert "recall@k ↑" in out.getvalue()
    assert "default" in out.getvalue()


def test_vectors_are_measured_in_each_structure():
    data = from_arrays(clustered(700), sample=30)
    report = bench_vectors(data, Workload(k=(1, 10, 1000), repeats=1))
    assert report.structures == ("exact", *STRUCTURES)
    assert report.ks == (1, 10, len(data.rows))
    assert {row.recall for row in report.rows if row.structure in ("exact", "flat")} == {1.0}
    assert set(report.default()) == set(STRUCTURES)
    built = [row for row in report.rows if row.structure != "exact"]
    assert all(row.build_s > 0 and row.size_bytes > data.rows.nbytes for row in built)
    assert len({row.size_bytes for row in built}) == len(STRUCTURES)
    assert all(row.score_error < 1e-5 for row in report.rows)
    assert report.facts["sha256"] == row_hash(data.rows)
    assert report.facts["queries"] == 30


def test_the_truth_of_vectors_is_not_the_indexs_own():
    data = from_arrays(clustered(400), sample=10)
    wrong = np.full((10, 20), 7)
    wrong[:] = np.argsort(data.queries @ data.rows.T, axis=1)[:, :20]  # the farthest rows
    easy = type(data)(data.name, data.rows, data.queries, data.source, neighbors=wrong)
    assert np.allclose(
        data.truth(10), np.sort(data.queries @ data.rows.T, axis=1)[:, ::-1][:, :10], atol=1e-6
    )
    assert easy.truth(10)[:, 0].max() < data.truth(10)[:, -1].min()


def test_an_index_and_its_alternatives(tmp_path):
    vectors = clustered(600)
    with make(tmp_path / "mine.vx", vectors, "ivf", [f"id {i}" for i in range(600)]) as index:
        before = index.info()
        work = Workload(k=(10,), repeats=1, sample=500, structures=("flat", "hnsw"), filters=(0.1,))
        report = bench(index, work)
        assert index.info() == before
    assert report.structures == ("this index", "flat", "hnsw")
    assert report.facts["queries"] == 60  # a tenth: they are held out of the copies
    assert report.facts["rows"] == 600
    assert "540 of 540 rows" in report.default()["flat"].plan
    assert report.default()["flat"].recall == 1.0
    assert [row.structure for row in report.conditions] == ["this index", "flat", "hnsw"]
    assert {row.matches for row in report.conditions} == {54}
    assert "held out" in summary(report)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"k": (0,)}, "k and repeats must be at least 1"),
        ({"repeats": 0}, "k and repeats must be at least 1"),
        ({"sample": 0}, "sample must be at least 1"),
        ({"structures": ("tree",)}, "unknown structure 'tree'"),
        ({"filters": (0.0,)}, "filters: 0% is not a share"),
        ({"filters": (1.5,)}, "filters: 150% is not a share"),
        ({"deleted": (1.0,)}, "deleted: 100% is not a share"),
        ({"tail": (-0.1,)}, "tail: -10% is not a share"),
    ],
)
def test_a_workload_that_cannot_be(choices, message):
    with pytest.raises(InputError, match=message):
        Workload(**choices)
    assert Workload(filters=(1.0,)).copies
