"""What vecindex costs over what it is made of: FAISS, and writing to a file.

    python -m benchmarks.cost                                       # synthetic, minutes
    python -m benchmarks.cost --vectors X.npy --queries Q.npy       # your own

Every figure is a ratio within one run: both sides take turns, medians of the repeats. The result
goes to `benchmarks/results/`; `python -m benchmarks.report` makes the tables from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.data import Data, from_files, synthetic
from vecindex import VectorIndex
from vecindex.ann import exact_search
from vecindex.spec import Spec, parse_spec, spec_name

K = 10
_PAUSE = 0.05  # seconds
RESULTS = Path(__file__).parent / "results"
_OPENING = """
import json, re, sys, time
import vecindex
def anonymous():
    return int(re.search(r"^Anonymous: +([0-9]+)", open("/proc/self/smaps_rollup").read(), re.M)[1])
before = anonymous()
start = time.perf_counter()
index = vecindex.VectorIndex.open(sys.argv[1])
rows = len(index)
opened = time.perf_counter()
memory = anonymous() - before
query = [1.0] * index.dim
index.search_arrays([query], k=10)
first = time.perf_counter()
print(json.dumps({"rows": rows, "open_ms": (opened - start) * 1e3, "open_anonymous_mb": memory / 1e3,
    "first_query_ms": (first - opened) * 1e3, "anonymous_mb": (anonymous() - before) / 1e3}))
"""


def ratio(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Time both in turns; return seconds of each and their ratio, medians and spread.

    The threads of FAISS go on spinning for some milliseconds after a batch, on a core that
    whoever comes next would use: before each turn there is a pause.
    """
    ours(), theirs()
    times = []
    for _ in range(repeats):
        other, mine = _seconds(theirs), _seconds(ours)
        times.append((mine, other))
    ratios = [mine / other for mine, other in times]
    return {
        "ours_s": statistics.median(mine for mine, _ in times),
        "theirs_s": statistics.median(other for _, other in times),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def _seconds(call: Callable[[], object]) -> float:
    time.sleep(_PAUSE)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def build(data: Data, spec: Spec, path: Path) -> dict[str, Any]:
    """Build an index of texts, ids and vectors; return what it took."""
    start = time.perf_counter()
    count = len(data.rows)
    with VectorIndex.create(path, spec=spec, maintenance="manual") as index:
        for first in range(0, count, 10_000):
            numbers = range(first, min(first + 10_000, count))
            index.add(
                ids=[f"row-{number}" for number in numbers],
                texts=[f"text number {number}" for number in numbers],
                vectors=data.rows[first : first + 10_000],
            )
        loaded = time.perf_counter()
        index.optimize()
        size = index.info().size_bytes
    return {
        "load_s": loaded - start,
        "optimize_s": time.perf_counter() - loaded,
        "size_mb": size / 1e6,
    }


def quality(index: VectorIndex, data: Data) -> dict[str, Any]:
    """Return recall@10 on the held-out queries and the largest error of a score."""
    scores, _ = exact_search(data.rows, data.queries, K)
    ids, found_scores = index.search_arrays(data.queries, K)
    rows = np.array([[int(value.removeprefix("row-")) for value in line] for line in ids])
    products = np.einsum("qkd,qd->qk", data.rows[rows].astype(np.float64), data.queries)
    recall = (products >= scores[:, -1:] - 1e-6).mean()
    return {
        "recall_at_10": float(recall),
        "score_error": float(np.abs(products - found_scores).max()),
        "plan": str(index.explain(K)),
    }


def searching(index: VectorIndex, data: Data, repeats: int, singles: int) -> dict[str, Any]:
    """Compare `search_arrays` with the same FAISS structure called directly."""
    raw, params = _raw(index, data)
    queries = data.queries[:singles]

    def one_by_one(search: Callable[[Any], object]) -> Callable[[], None]:
        def run() -> None:
            faiss.omp_set_num_threads(1)
            for query in queries:
                search(query[None])

        return run

    def raw_batch() -> None:
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        raw.search(data.queries, K, params=params)

    return {
        "one": ratio(
            one_by_one(lambda query: index.search_arrays(query, K)),
            one_by_one(lambda query: raw.search(query, K, params=params)),
            repeats,
        ),
        "one_queries": len(queries),
        "batch": ratio(lambda: index.search_arrays(data.queries, K), raw_batch, repeats),
        "batch_queries": len(data.queries),
    }


def _raw(index: VectorIndex, data: Data) -> tuple[Any, Any]:
    """Return the FAISS index behind an index, and the parameters that it uses."""
    structure = index._view().structure(print)
    if structure is None:
        flat = faiss.IndexFlatIP(data.rows.shape[1])
        flat.add(data.rows)
        return flat, None
    params = index.info().params or {}
    if structure.kind == "hnsw":
        return structure.index, faiss.SearchParametersHNSW(efSearch=params["ef_search"])
    refined = faiss.IndexRefineFlat(structure.scan.index, faiss.swig_ptr(data.rows))
    return refined, faiss.IndexRefineSearchParameters(k_factor=params["rescore"])


def adding(data: Data, folder: Path, batches: int) -> dict[str, Any]:
    """Compare durable adds of 1,000 rows with writing and syncing the same bytes to a file."""
    index = VectorIndex.create(folder / "adding.vx", spec="flat", maintenance="manual")
    ours, theirs, sizes = [], [], []
    with (folder / "plain").open("wb", buffering=0) as plain:
        for batch in range(batches):
            first = batch * 1000 % (len(data.rows) - 1000)
            numbers = range(batch * 1000, batch * 1000 + 1000)
            texts = [
                f"Text number {n}, about as long as a sentence: {n * 7919:060d}" for n in numbers
            ]
            metadata = [{"n": n, "kind": "even" if n % 2 == 0 else "odd"} for n in numbers]
            ids = [f"row-{n}" for n in numbers]
            vectors = data.rows[first : first + 1000]
            before, log = index._store.state.offset, index._store.state.manifest.logs[-1].name
            start = time.perf_counter()
            index.add(ids=ids, texts=texts, vectors=vectors, metadata=metadata)
            ours.append(time.perf_counter() - start)
            state = index._store.state
            if state.manifest.logs[-1].name == log:
                sizes.append(state.offset - before)
            content = os.urandom(sizes[-1])
            start = time.perf_counter()
            plain.write(content)
            os.fsync(plain.fileno())
            theirs.append(time.perf_counter() - start)
    index.close()
    return {
        "batches": batches,
        "batch_bytes": sizes[-1],
        "ours_ms": statistics.median(ours) * 1e3,
        "theirs_ms": statistics.median(theirs) * 1e3,
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ratio_of_totals": sum(ours) / sum(theirs),
        "rows_per_s": batches * 1000 / sum(ours),
    }


def opening(path: Path, repeats: int) -> dict[str, Any]:
    """Open an index in fresh processes; return medians."""
    runs = []
    for _ in range(repeats):
        run = subprocess.run(
            [sys.executable, "-c", _OPENING, str(path)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(run.stdout))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measure(data: Data, specs: list[Spec], repeats: int, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    structures = {}
    for spec in specs:
        path = folder / f"{len(structures)}.vx"
        print(f"{spec}: building", file=sys.stderr)
        row: dict[str, Any] = {"spec": str(spec), **build(data, spec, path)}
        with VectorIndex.open(path) as index:
            row |= quality(index, data)
            print(f"{spec}: {row['plan']}", file=sys.stderr)
            singles = 100 if spec.kind == "flat" else len(data.queries)
            row |= searching(index, data, repeats, singles)
        row["opening"] = opening(path, repeats)
        structures[spec_name(spec)] = row
    print("adding", file=sys.stderr)
    return {"structures": structures, "adding": adding(data, folder, 60)}


def main() -> None:
    """Run the measurement and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--vectors", type=Path, help=".npy of shape (n, dim)")
    parser.add_argument("--queries", type=Path, help=".npy of held-out queries")
    parser.add_argument("--rows", type=int, default=20_000, help="synthetic rows")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--structures", default="flat,flat/pq4,hnsw")
    arguments = parser.parse_args()
    if arguments.vectors:
        data = from_files(arguments.vectors, arguments.queries)
    else:
        data = synthetic(arguments.rows)
    specs = [parse_spec(name) for name in arguments.structures.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="vecindex-cost-"))
    try:
        result = measure(data, specs, arguments.repeats, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "command": "python -m benchmarks.cost "
        + (f"--vectors {data.name} --queries ..." if arguments.vectors else f"--rows {arguments.rows}"),
        "data": {"name": data.name, "rows": len(data.rows), "dim": data.rows.shape[1],
                 "queries": len(data.queries), "sha256": data.sha256},
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine(),
                    "python": platform.python_version(), "faiss": faiss.__version__,
                    "numpy": version("numpy"), "vecindex": version("vecindex")},
        "repeats": arguments.repeats,
        **result,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"cost-{Path(data.name).stem}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
