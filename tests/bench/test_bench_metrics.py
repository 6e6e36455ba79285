"""The numbers themselves: what counts as found, and how times become percentiles."""

import dataclasses

import numpy as np
import pytest

from vecindex.bench import METRICS, BenchRow
from vecindex.bench.metrics import latency_summary, recall_summary, recalls, throughput_summary

KTH = np.float32([0.5])


def recall(ids, scores, k=None) -> float:
    return recalls(np.array([ids]), np.float32([scores]), KTH, k or len(ids)).item()


def test_all_that_score_as_well_as_the_kth_count():
    assert recall([1, 2, 3, 4], [0.9, 0.8, 0.6, 0.5]) == 1.0
    assert recall([1, 2, 3, 4], [0.9, 0.8, 0.4, 0.3]) == 0.5
    assert recall([1, 2, 3, 4], [0.9, 0.5, 0.5, 0.4999]) == 0.75


def test_a_tie_within_rounding_counts():
    assert recall([7], [0.5 - 5e-7]) == 1.0
    assert recall([7], [0.5 - 5e-6]) == 0.0


def test_a_repeated_id_counts_once():
    assert recall([1, 1, 1, 1], [0.9, 0.9, 0.9, 0.9]) == 0.25
    ids = np.array([["a", "b", "a"]], dtype=object)
    assert recalls(ids, np.float32([[0.9, 0.8, 0.9]]), KTH, 3) == pytest.approx(2 / 3)


def test_a_missing_answer_is_not_found():
    assert recall([1, 2], [0.9, np.nan]) == 0.5
    assert recall([1, 2], [0.9, 0.9], k=4) == 0.5  # a short answer, too


def test_queries_have_equal_weight_and_differ_by_their_error():
    ids, scores = np.array([[1, 2], [3, 4]]), np.float32([[0.9, 0.8], [0.9, 0.1]])
    shares = recalls(ids, scores, np.float32([0.5, 0.5]), 2)
    assert shares.tolist() == [1.0, 0.5]
    assert recall_summary(shares) == {"recall": 0.75, "recall_error": pytest.approx(0.25)}
    assert recall_summary(shares[:1])["recall_error"] == 0.0


def test_latency_is_a_querys_median_and_its_spread_is_between_repeats():
    one = np.arange(1.0, 102.0)
    times = np.array([one, one + 10, one + 1000])
    found = latency_summary(times)
    assert found["p50_ms"] == pytest.approx(51 + 10)
    assert found["p95_ms"] == pytest.approx(np.percentile(one, 95) + 10)
    assert found["p99_ms"] == pytest.approx(np.percentile(one, 99) + 10)
    assert found["p50_spread_ms"] == pytest.approx(1000)


def test_a_query_that_is_slow_every_time_stays_slow():
    times = np.ones((3, 100))
    times[:, 7] = 50  # each time
    times[1, 8] = 50  # once
    assert latency_summary(times)["p99_ms"] == pytest.approx(np.percentile([1.0] * 99 + [50], 99))


def test_throughput():
    found = throughput_summary(np.array([1.0, 2.0, 0.5]), 100)
    assert found == {"batch_qps": 100.0, "batch_spread_qps": 150.0}


def test_every_number_of_a_row_is_in_the_one_table():
    fields = {field.name for field in dataclasses.fields(BenchRow)}
    assert fields - {"structure", "name", "k", "plan"} == {metric.name for metric in METRICS}
    metrics = {metric.name: metric for metric in METRICS}
    assert metrics["recall"].heading == "recall@k (higher is better)"
    assert metrics["p99_ms"].heading == "p99 (ms, lower is better)"
    assert metrics["size_bytes"].text(12_340_000) == "12.3"
    assert metrics["build_s"].text(None) == "-"
