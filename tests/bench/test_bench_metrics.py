"""The numbers themselves: what counts as found, and how times become percentiles."""

import dataclasses

import numpy as np
import pytest

from vecindex.bench import METRICS, BenchRow
from vecindex.bench.metrics import latency_summary, recall_at_k, throughput_summary

KTH = np.float32([0.5])


def recall(ids, scores) -> float:
    return recall_at_k(np.array([ids]), np.float32([scores]), KTH)


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
    assert recall_at_k(ids, np.float32([[0.9, 0.8, 0.9]]), KTH) == pytest.approx(2 / 3)


def test_a_missing_answer_is_not_found():
    assert recall([1, 2], [0.9, np.nan]) == 0.5


def test_queries_have_equal_weight():
    ids, scores = np.array([[1, 2], [3, 4]]), np.float32([[0.9, 0.8], [0.9, 0.1]])
    assert recall_at_k(ids, scores, np.float32([0.5, 0.5])) == 0.75


def test_latency_is_per_query_and_its_spread_between_repeats():
    times = np.array([np.arange(1.0, 102.0), np.arange(11.0, 112.0)])
    found = latency_summary(times)
    assert found["p50_ms"] == pytest.approx(56)
    assert found["p95_ms"] == pytest.approx(np.percentile(times, 95))
    assert found["p99_ms"] == pytest.approx(np.percentile(times, 99))
    assert found["p50_spread_ms"] == pytest.approx(10)


def test_throughput():
    found = throughput_summary(np.array([1.0, 2.0, 0.5]), 100)
    assert found == {"batch_qps": 100.0, "batch_spread_qps": 150.0}


def test_every_number_of_a_row_is_in_the_one_table():
    fields = {field.name for field in dataclasses.fields(BenchRow)}
    assert fields - {"name", "k", "plan"} == {metric.name for metric in METRICS}
    headings = {metric.name: metric.heading for metric in METRICS}
    assert headings["recall"] == "recall@k (higher is better)"
    assert headings["p99_ms"] == "p99 (ms, lower is better)"
