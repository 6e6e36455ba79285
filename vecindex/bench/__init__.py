"""Measure an index, or vectors in several structures: recall, latency, throughput and cost."""

from vecindex.bench.data import Dataset, from_arrays
from vecindex.bench.hdf5 import read_hdf5
from vecindex.bench.metrics import METRICS, Metric
from vecindex.bench.report import BenchReport, BenchRow, ConditionRow
from vecindex.bench.run import bench, bench_vectors
from vecindex.bench.workload import STRUCTURES, Workload

__all__ = [
    "bench",
    "bench_vectors",
    "Workload",
    "STRUCTURES",
    "Dataset",
    "from_arrays",
    "read_hdf5",
    "BenchReport",
    "BenchRow",
    "ConditionRow",
    "METRICS",
    "Metric",
]
