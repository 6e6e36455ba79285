"""The harness of `benchmarks/` end to end on a tiny set: what it reports must be able to be bad."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import building, data, quality, report, stores, summary, threads, truth, vectors  # noqa: E402
from benchmarks.channel import Child, ChildError  # noqa: E402
from benchmarks.plot import Line, frontier, recall_against_time  # noqa: E402
from benchmarks.stand_in import StandIn  # noqa: E402
from benchmarks.timing import one_by_one  # noqa: E402
from vecindex import VectorIndex  # noqa: E402
from vecindex.embed import resolve  # noqa: E402

ROWS = "3000"
LIBRARIES = "vecindex:flat,vecindex:hnsw,vecindex:auto,faiss-flat,faiss-hnsw32,wrong,hnswlib-16"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Both benchmarks, run small, and the page made from them."""
    folder = tmp_path_factory.mktemp("results")
    shared = ["--rows", ROWS, "--repeats", "2", "--results", str(folder)]
    vectors.main(["--libraries", LIBRARIES, *shared])
    stores.main(["--stores", "vecindex,plain-faiss", *shared])
    report.main(folder, folder / "page.md")
    return folder


def read(folder, kind):
    return json.loads(next(folder.glob(f"{kind}-*.json")).read_text())


def by_setting(result, library):
    return result["libraries"][library]["settings"]


def search(result, store, setting, below):
    rows = result["stores"][store]["searches"]
    return next(row for row in rows if row["setting"] == setting and row["below"] == below)


def test_exact_libraries_find_everything_and_a_wrong_one_does_not(results):
    result = read(results, "vectors")
    assert by_setting(result, "faiss-flat")[0]["recall"] == 1.0
    exact = [row for row in by_setting(result, "vecindex:flat") if row["setting"].get("exact")]
    assert [row["recall"] for row in exact] == [1.0]
    half, lie = by_setting(result, "wrong")
    assert half["recall"] == pytest.approx(0.5, abs=0.01)
    assert lie["recall"] == pytest.approx(0.1, abs=0.01)


def test_every_setting_has_a_figure_of_every_repeat(results):
    result = read(results, "vectors")
    for name, entry in result["libraries"].items():
        assert entry["build_s"][0] > 0 and entry["size_bytes"]["index"] > 0, name
        assert len(entry["open_ms"]) == vectors.OPENED and min(entry["open_ms"]) > 0, name
        for row in entry["settings"]:
            assert len(row["p50_ms"]) == len(row["p99_ms"]) == 2, (name, row)
            assert 0 < row["p50_ms"][0] <= row["p95_ms"][0] <= row["p99_ms"][0], (name, row)
    ladder = [row["recall"] for row in by_setting(result, "faiss-hnsw32")]
    assert ladder[-1] > 0.99 and ladder[0] <= ladder[-1]
    assert all(recall < vectors.ENOUGH for recall in ladder[:-1])  # stops at the first good one


@pytest.mark.skipif(bool(importlib.util.find_spec("hnswlib")), reason="hnswlib is installed")
def test_what_is_not_installed_is_skipped_with_its_reason(results):
    result = read(results, "vectors")
    assert result["skipped"] == {"hnswlib-16": "ModuleNotFoundError: No module named 'hnswlib'"}
    assert "Not measured: hnswlib-16" in (results / "page.md").read_text()


def test_stores_are_checked_by_ids_texts_and_filters(results):
    result = read(results, "stores")
    assert search(result, "vecindex", "exact", None)["recall"] == 1.0
    for below in (0.5, 0.1, 0.01, 0.001):
        row = search(result, "vecindex", "default (recall 0.95)", below)
        right = search(result, "plain-faiss", "exact", below)
        matching = np.count_nonzero(stores.uniform(int(ROWS)) < below)
        assert row["recall"] == right["recall"] == 1.0, below
        assert row["returned"] == right["returned"] == min(10, matching), below
    assert search(result, "plain-faiss", "lossy", None)["recall"] < 0.7  # texts of other rows
    assert search(result, "plain-faiss", "lossy", 0.01)["recall"] < 0.1  # and no filter
    opened = result["stores"]["vecindex"]
    assert len(opened["open_ms"]) == 2 and opened["import_ms"][0] > 0 and opened["size_bytes"] > 0


def test_long_searches_are_noted_with_what_ran_meanwhile(tmp_path):
    small = ["--rows", "1500", "--seconds", "0.2", "--repeats", "1", "--structures", "flat"]
    threads.main([*small, "--results", str(tmp_path)])
    row = read(tmp_path, "threads")["structures"]["flat"]
    assert set(row["rates"]) == {"1", "2", "4"} and min(row["rates"]["2"]) > 0
    for measured in ("alone", "python", "thread", "alone_after", "reading", "process"):
        figures = row[measured]
        assert figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"], measured
    assert any("add" in one["during"] for one in row["longest"] if one["by"] == "thread")
    report.main(tmp_path, tmp_path / "page.md")
    assert "## Beside others: synthetic-1500x384-seed0" in (tmp_path / "page.md").read_text()


def test_no_path_of_this_machine_is_written(results):
    for path in results.iterdir():
        assert str(ROOT) not in path.read_text() and str(Path.home()) + "/" not in path.read_text()


def test_the_page_shows_what_the_files_say(results):
    page = (results / "page.md").read_text()
    libraries = read(results, "vectors")["libraries"]
    build = summary.others(libraries)["bytes of the structure"][2]
    assert f"| bytes of the structure | vecindex:auto | faiss-hnsw32 | {build} |" in page
    assert "| wrong | 0.9 | not reached (most: 0.5" in page
    for svg in ("vectors", "stores"):
        path = next(results.glob(f"{svg}-*.svg"))
        assert f"]({results.name}/{path.name})" in page
        before = path.read_bytes()
        report.main(results, results / "page.md")
        assert path.read_bytes() == before
    assert (results / "page.md").read_text() == page


def made_up(**libraries):
    return {
        name: {"settings": [{"setting": {}, "recall": r, "p50_ms": times} for r, times in rows]}
        for name, rows in libraries.items()
    }


def test_the_fastest_that_reaches_the_recall_is_compared_repeat_by_repeat():
    libraries = made_up(hnswlib=[(0.94, [1.0, 1.0, 1.0]), (0.96, [4.0, 5.0, 8.0])])
    libraries |= {"hnswlib-32": made_up(x=[(0.97, [5.0, 6.0, 9.0])])["x"]}
    ours = [(0.951, [2.0, 2.0, 2.0]), (0.9499, [0.1, 0.1, 0.1]), (0.99, [3.0, 3.0, 3.0])]
    libraries["vecindex:auto"] = made_up(x=ours)["x"]
    first, second, third = summary.races(libraries)
    assert first["theirs"].row["recall"] == 0.96 and first["ours"].row["recall"] == 0.951
    assert first["ratio"] == summary.Ratio(0.4, 0.25, 0.5)
    assert second["theirs"].row["recall"] == 0.97 and second["ours"].p50_ms == 3.0
    assert second["ratio"] == summary.Ratio(0.5, 1 / 3, 0.6)  # their most is all there is
    assert third["ours"] is None and third["theirs"] is None and third["ratio"] is None


def test_at_the_same_recall_only_what_finds_as_much_counts():
    def store(*rows):
        return {
            "searches": [
                {"setting": "", "below": b, "recall": r, "p50_ms": [t]} for b, r, t in rows
            ]
        }

    ours = store((None, 0.95, 1.0), (None, 0.99, 3.0), (0.1, 1.0, 1.0))
    theirs = store((None, 0.96, 2.0), (None, 0.999, 2.0), (0.1, 0.2, 0.5))
    equal, beyond = summary.same_recall(ours, theirs)
    assert equal["ratio"].median == 1.5 and equal["ours"]["recall"] == 0.99
    assert beyond["ours"] is None and beyond["ratio"] is None
    assert [row["ratio"].median for row in summary.same_filter(ours, theirs)] == [2.0]


def test_recall_counts_ties_once_and_nothing_that_the_filter_forbids():
    rows = np.eye(20, 24, dtype=np.float32)
    rows[:12, 20] = 1
    query = np.zeros((1, 24), dtype=np.float32)
    query[0, 20] = 1  # rows 0 to 11 tie, the others score 0
    kth = truth.kth_scores(rows, query)
    assert kth.tolist() == [1.0]
    assert truth.recall([list(range(2, 12))], rows, query, kth) == 1.0
    assert truth.recall([[3] * 10], rows, query, kth) == 0.1
    assert truth.recall([[0, 1, 2, 3, 4, 15, 16, -1, 99, 17]], rows, query, kth) == 0.5
    keep = np.arange(20) < 4
    kth = truth.kth_scores(rows, query, keep=keep)
    assert truth.recall([[0, 1, 2, 3, 4, 5]], rows, query, kth, keep) == 1.0
    assert truth.recall([[4, 5, 0, 1]], rows, query, kth, keep) == 0.5


def letters(texts):
    """Return counts of letters: a text that holds the other's words is near it."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return [[text.count(letter) + 0.01 for letter in alphabet] for text in texts]


def test_questions_that_miss_their_text_are_counted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 30)) for _ in range(300)]
    asked = [word if row % 4 else "zz" for row, word in enumerate(words)]
    lines = [{"text": said, "summary": ask} for said, ask in zip(words, asked, strict=True)]
    (tmp_path / "kb.jsonl").write_text("\n".join(map(json.dumps, [{"text": "no"}, *lines])))
    shared = [str(tmp_path / "kb.jsonl"), "--spec", "flat/pq4", "--questions", "200"]
    shared += ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path)]
    quality.main([*shared], resolve(letters))
    result = read(tmp_path, "quality")
    exact, first, second = result["lines"]
    assert (result["data"]["rows"], result["data"]["queries"]) == (300, 200)
    assert 0.7 < exact["among_ten"] < 0.85 and exact["recall"] == 1 and exact["lost"] == 0
    for line in (first, second):
        assert line["recall"] >= line["target"] and "flat/pq4" in line["plan"]
        assert exact["among_ten"] - line["among_ten"] <= line["lost"] <= 1 - line["target"]
    report.main(tmp_path, tmp_path / "page.md")
    assert (
        f"| 0.95 | {first['first']:.4f} | {first['among_ten']:.4f} |"
        in (tmp_path / "page.md").read_text()
    )
    capsys.readouterr()
    quality.main([*shared], resolve(letters))  # from the cache
    assert "embedded" not in capsys.readouterr().out
    again = read(tmp_path, "quality")["lines"]
    assert again[0] == exact
    for before, line in zip((first, second), again[1:], strict=True):  # parameters go by time
        assert line["target"] == before["target"] and line["recall"] >= line["target"]


def test_extended_rows_stay_near_without_being_copies():
    rows = data.synthetic(2000, dim=32, queries=1).rows
    more = data.extended(rows, 5000)
    assert more.shape == (5000, 32) and np.array_equal(more[:2000], rows)
    assert np.array_equal(more, data.extended(rows, 5000))
    assert not np.array_equal(more, data.extended(rows, 5000, seed=1))
    np.testing.assert_allclose(np.linalg.norm(more, axis=1), 1, atol=1e-5)
    nearest = (more[2000:] @ rows.T).max(axis=1)
    apart = np.sort(rows @ rows.T, axis=1)[:, -2]  # nearest other row
    assert np.median(nearest) > np.median(apart) and nearest.max() < 1 - 1e-6
    with pytest.raises(ValueError, match="fewer"):
        data.extended(rows, 10)


def test_larger_data_is_asked_for_rows_as_it_holds():
    few = data.synthetic(2000, dim=32, queries=200)
    more = data.larger(few, 5000)
    assert more.rows.shape == (5000, 32) and more.queries.shape == (200, 32)
    every = data.extended(np.concatenate([few.rows, few.queries]), 5200)
    assert _sorted(np.concatenate([more.rows, more.queries])) == _sorted(every)
    assert np.array_equal(more.queries, data.larger(few, 5000).queries)
    given = {row.tobytes() for row in np.concatenate([few.rows, few.queries])}
    share = sum(query.tobytes() in given for query in more.queries) / 200
    assert abs(share - 2200 / 5200) < 0.1  # as many as among the rows
    own = np.sort(more.rows @ more.rows.T, axis=1)[:, -2]  # nearest other row
    asked = (more.queries @ more.rows.T).max(axis=1)
    assert abs(np.median(asked) - np.median(own)) < 0.01


def _sorted(rows):
    return sorted(row.tobytes() for row in rows)


def test_a_process_that_dies_is_told_apart_from_an_answer():
    child = Child("benchmarks.no_such_module")
    try:
        with pytest.raises(ChildError, match="No module named benchmarks"):
            child.ask("hello")
    finally:
        child.close()


def test_the_clock_sees_the_slow_query():
    def ask(query):
        for _ in range(query):
            pass

    figures = one_by_one(ask, [2_000_000] * 3 + [10] * 97)
    assert figures["p99_ms"] > 20 * figures["p50_ms"] and 0.2 < figures["cores"] < 1.5


@pytest.mark.parametrize(("seconds", "asked"), [(0.0, 100), (1e9, 150)])
def test_slow_searches_are_timed_by_fewer_queries(seconds, asked, monkeypatch):
    monkeypatch.setattr("benchmarks.timing.ENOUGH_S", seconds)
    monkeypatch.setattr("benchmarks.timing.WARM_UP", 0)
    seen = []
    one_by_one(seen.append, range(150))
    assert seen == list(range(asked))


def test_a_plot_shows_the_frontier_only():
    assert frontier([(0.9, 1.0), (0.95, 0.5), (0.99, 2.0)]) == [(0.95, 0.5), (0.99, 2.0)]
    svg = recall_against_time("a < b", [Line("ours", [(0.9, 1.0), (0.99, 3.0)], ours=True)])
    assert "a &lt; b" in svg and svg.count("<circle") == 2


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What `benchmarks.building` says of 300 records, of which 50 have the text of another."""
    folder = tmp_path_factory.mktemp("building")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 30)) for _ in range(250)]
    records = [{"id": f"r{n}", "text": words[n % 250], "n": n} for n in range(300)]
    with gzip.open(folder / "kb.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, records)))
    words = [str(folder / "kb.jsonl.gz"), "--sample", "60", "--batch-rows", "40", "--repeats", "1"]
    words += ["--million", "3000", "--million-dim", "16", "--results", str(folder)]
    building.main(words, resolve(letters))
    return folder


def test_the_time_of_a_build_is_told_by_stage(built):
    result = read(built, "building")
    assert result["data"]["rows"] == 300 and result["data"]["dim"] == 26
    for run in result["builds"]:
        stages = run["check_s"] + run["store_s"] + run["structure_s"]
        assert min(run["check_s"], run["store_s"], run["structure_s"]) > 0
        assert stages + run["model_seconds"] >= run["seconds"]  # nothing is left out
        assert run["outside_s"] == pytest.approx(stages + run["around_s"])
        model_s = 300 / result["model"]["texts_per_s"]
        assert run["share"] == pytest.approx(run["outside_s"] / (run["outside_s"] + model_s))


def test_what_a_build_does_not_do_twice_is_counted(built):
    result = read(built, "building")
    assert (result["again"]["embedded"], result["again"]["unchanged"]) == (0, 300)
    assert result["changed"]["embedded"] == result["changed"]["texts_changed"] == 3
    filling, filled = result["cache"]["filling"], result["cache"]["filled"]
    assert (filling["cache_hits"], filling["cache_misses"]) == (50, 250)
    assert (filled["cache_hits"], filled["cache_misses"], filled["embedded"]) == (300, 0, 0)
    resumed = result["resumed"]
    assert (resumed["killed_after"], resumed["kept"], resumed["embedded"]) == (160, 120, 180)
    assert resumed["embedded_twice"] == 40 and resumed["same"]


def test_what_was_planned_stands_beside_what_is(built):
    result = read(built, "building")
    given = result["million"]
    for plan, run in ((result["plan"], result["builds"][0]), (given["plan"], given)):
        assert plan["added"] == run["rows"]
        assert 0.3 < plan["disk_bytes"] / run["disk_bytes"] < 3
        assert run["resident_bytes"] > run["anonymous_bytes"] > 10_000_000
    assert given["rows"] == 3000 and given["source_bytes"] > 3000 * 16 * 4
    report.main(built, built / "page.md")
    page = (built / "page.md").read_text()
    assert "| killed after 160 texts, and run again |" in page and "; the same ids" in page
    assert "3,000 given vectors of 16" in page and str(built) not in page


def test_an_index_with_another_text_is_not_the_same(tmp_path):
    hashes = []
    for name, texts in (("a", ["x", "y"]), ("b", ["x", "y"]), ("c", ["x", "z"])):
        with VectorIndex.create(tmp_path / name) as index:
            index.add(ids=[1, 2], texts=texts, vectors=np.eye(2))
        hashes.append(building.content(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_stand_in_is_near_its_rows_and_the_same_for_the_same_text():
    rows = data.synthetic(500, dim=32, queries=1).rows
    texts = [f"text {n}" for n in range(2000)]
    made = StandIn(rows)(texts)
    assert made.dtype == np.float32 and len(np.unique(made, axis=0)) == 2000
    assert np.array_equal(made[::-1], StandIn(rows)(texts[::-1]))
    nearest = (made @ rows.T).max(axis=1) / np.linalg.norm(made, axis=1)
    assert len(np.unique((made @ rows.T).argmax(axis=1))) > 250  # of 500 rows
    random = np.random.default_rng(0).standard_normal((2000, 32))
    far = (random @ rows.T).max(axis=1) / np.linalg.norm(random, axis=1)
    assert np.median(nearest) > np.median(far) + 0.2
