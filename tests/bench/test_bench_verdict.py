"""Whether a report is good enough, decided on reports made by hand."""

import json

import pytest
from bench_data import MACHINE, condition, report, row

from vecindex.bench import BenchReport
from vecindex.bench.verdict import compare, shortfall
from vecindex.errors import InputError


def test_the_indexs_default_is_held_against_the_least():
    rows = [row(0.96, structure="this index"), row(1.0, structure="flat")]
    assert shortfall(report(*rows), 0.96) is None
    said = shortfall(report(*rows), 0.961)
    assert "the index's calibrated default has recall@10 0.9600" in said
    assert "below the 0.961" in said


def test_without_an_index_the_best_default_counts():
    rows = [row(0.9, structure="ivf"), row(0.94), row(1.0, name="ef_search=512"), row(1.0, k=1)]
    assert shortfall(report(*rows), 0.94) is None
    assert "the best calibrated default, that of hnsw, has recall@10 0.9400" in shortfall(
        report(*rows), 0.95
    )


def test_recall_at_ten_or_what_there_is_below():
    rows = [row(0.5, k=1), row(0.9, k=7), row(0.99, k=100)]
    assert "recall@7 0.9000" in shortfall(report(*rows), 0.95)
    with pytest.raises(InputError, match="no recall@10"):
        shortfall(report(row(0.99, k=100)), 0.95)


def test_the_same_report_is_no_regression():
    one = report(row(), row(name="ef_search=16"), conditions=[condition()])
    found = compare(one, one)
    assert (found.compared, found.regressions, found.notes) == (3, (), ())


@pytest.mark.parametrize(
    ("recall", "error", "worse"),
    [(0.988, 0.001, False), (0.98, 0.001, True), (0.98, 0.01, False), (1.0, 0.001, False)],
)
def test_recall_may_vary_by_its_noise(recall, error, worse):
    found = compare(report(row(recall, error=error)), report(row(0.99, error=error)))
    assert bool(found.regressions) == worse
    if worse:
        assert "hnsw, default, k=10: recall 0.9800, was 0.9900" in found.regressions[0]


def test_one_answer_of_a_perfect_recall_is_noise():
    old = report(row(1.0, error=0.0))
    assert not compare(report(row(1 - 1 / 500, error=0.0)), old).regressions  # 50 queries, k=10
    assert compare(report(row(1 - 2 / 500, error=0.0)), old).regressions


def test_time_may_vary_by_the_tolerance():
    old = report(row(p50_ms=1.0))
    assert not compare(report(row(p50_ms=1.24)), old).regressions
    (said,) = compare(report(row(p50_ms=1.3)), old).regressions
    assert "p50 1.300 ms, was 1.000 ms (1.30 times, tolerance 1.25)" in said
    assert not compare(report(row(p50_ms=1.3)), old, tolerance=1.5).regressions


def test_conditions_are_compared_too():
    old = report(row(), conditions=[condition()])
    (said,) = compare(report(row(), conditions=[condition(recall=0.9)]), old).regressions
    assert said.startswith("hnsw, filter 10%, k=10: recall 0.9000, was 1.0000")


@pytest.mark.parametrize("name", ["sha256", "rows", "dim", "queries_sha256"])
def test_other_data_is_an_error(name):
    with pytest.raises(InputError, match=r"other data: .* 7"):
        compare(report(row()), report(row(), **{name: 7}))


def test_what_was_not_measured_this_time_is_said():
    found = compare(report(row()), report(row(), row(structure="ivf")))
    assert found.notes == ("rows of the baseline that were not measured this time: 1",)
    with pytest.raises(InputError, match="no row in common"):
        compare(report(row()), report(row(structure="ivf")))


def test_another_machine_is_said():
    found = compare(report(row()), report(row(), machine={**MACHINE, "cores": 64}))
    assert "another machine" in found.notes[0]


def test_a_report_is_read_back():
    one = report(row(), row(k=1), conditions=[condition()])
    assert BenchReport.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "old: not JSON"),
        ("[]", "old is not a report"),
        ('{"facts": 1}', "old is not a report"),
        ('{"facts": {}, "rows": []}', "report format None, this version compares format"),
        (json.dumps({**report(row()).to_dict(), "rows": [{"name": "x"}]}), "not a whole report"),
        (json.dumps({**report(row()).to_dict(), "conditions": None}), "not a whole report"),
    ],
)
def test_what_is_not_a_report(text, message):
    with pytest.raises(InputError, match=message):
        BenchReport.from_json(text, "old")
