"""Measure an index: recall, latency and throughput of its own rows and parameters."""

from vecindex.bench.metrics import METRICS, Metric
from vecindex.bench.report import BenchReport, BenchRow
from vecindex.bench.run import bench

__all__ = ["bench", "BenchReport", "BenchRow", "METRICS", "Metric"]
