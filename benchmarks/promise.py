"""Is the promise kept? Calibrate with many seeds, then ask held-out queries.

    python -m benchmarks.promise                                      # synthetic
    python -m benchmarks.promise --vectors X.npy --queries Q.npy      # your own

For each seed the index's structure is calibrated on rows drawn with that seed; for each target the
cheapest parameters whose lower bound meets it are used for the held-out queries. The same again
with queries of another distribution (each the mean of two far rows), half of which are handed to
the calibration as `queries=`; the other half is asked. The result goes to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Data, add_arguments, from_arguments
from benchmarks.result_files import facts, write
from benchmarks.vectors import command
from vecindex import VectorIndex, ann
from vecindex.ann import exact_search
from vecindex.arrays import Float32Array, unit_rows
from vecindex.results import Calibration

K = 10
TARGETS = (0.90, 0.95, 0.99)
TIE = 1e-6


def mixtures(rows: Float32Array, count: int, seed: int) -> Float32Array:
    """Return unit means of two rows drawn at random: no row is distributed like these."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(len(rows), (count, 2), replace=False)
    return unit_rows(rows[pairs[:, 0]] + rows[pairs[:, 1]])


class Asked:
    """Queries with their truth; the recall of each setting is measured once."""

    def __init__(self, index: VectorIndex, rows: Float32Array, queries: Float32Array) -> None:
        self.index, self.rows, self.queries = index, rows, queries
        self.kth = exact_search(rows, queries, K)[0][:, -1]
        self._good: dict[str, Any] = {}

    def good(self, params: dict[str, int]) -> Any:
        """Return how many of the true k each query finds, shape (q,)."""
        key = str(params)
        if key not in self._good:
            ids, _ = self.index.search_arrays(self.queries, K, params=params)
            products = np.einsum("qkd,qd->qk", self.rows[ids], self.queries)
            self._good[key] = (products >= self.kth[:, None] - TIE).sum(axis=1)
        return self._good[key]


def calibration(index: VectorIndex, rows: Float32Array, seed: int, target: float,
                queries: Float32Array | None) -> Calibration:  # fmt: skip
    """Return what `optimize` would measure with another seed."""
    structure = index._view().structure(print)
    assert structure is not None
    asked = ann.questions(rows, None, queries, k=K, target=target, seed=seed)
    return ann.calibrate(structure, asked)


def measure(data: Data, spec: str, seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Return for each kind of query and target the recalls found, one a seed."""
    with VectorIndex.create(folder / "promise.vx", spec=spec, maintenance="manual") as index:
        index.add(vectors=data.rows, ids=range(len(data.rows)))
        index.optimize()
        held = Asked(index, data.rows, data.queries)
        other = Asked(index, data.rows, mixtures(data.rows, 1200, seed=1))
        lines = []
        for source in ("held-out queries, calibrated on rows", "another distribution, queries="):
            for target in TARGETS:
                recalls, params = [], []
                for seed in range(seeds):
                    if source.startswith("held"):
                        found = calibration(index, data.rows, seed, target, None)
                        ask = np.ones(len(held.queries), np.bool_)
                        asked = held
                    else:
                        ask = np.random.default_rng(seed).permutation(1200) < 600
                        found = calibration(index, data.rows, seed, target, other.queries[~ask])
                        asked = other
                    point = found.cheapest(target)
                    if point is None:  # then a search is exact
                        recalls.append(1.0)
                        params.append("exact")
                        continue
                    recalls.append(float(asked.good(point.params)[ask].mean() / K))
                    params.append(str(point.params))
                kept = sum(recall >= target for recall in recalls)
                lines.append({"source": source, "spec": spec, "target": target, "seeds": seeds,
                              "kept": kept, "least": min(recalls),
                              "mean": float(np.mean(recalls)), "params": sorted(set(params))})  # fmt: skip
                print(lines[-1])
        return lines


def main() -> None:
    """Run the measurement and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser, rows=20_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--specs", default="ivf/pq4")
    arguments = parser.parse_args()
    data = from_arguments(arguments)
    lines: list[dict[str, Any]] = []
    for spec in arguments.specs.split(","):
        folder = Path(tempfile.mkdtemp(prefix="vecindex-promise-"))
        try:
            lines += measure(data, spec, arguments.seeds, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    typed = command("promise", arguments, "seeds", "specs")
    print(write("promise", {**facts(data, typed, arguments.seeds), "lines": lines}).name)


if __name__ == "__main__":
    main()
