"""Does the right text come back? Questions of real texts, exact and at two promised recalls.

    python -m benchmarks.quality packages.jsonl.gz                    # 10,000 descriptions
    python -m benchmarks.quality packages.jsonl.gz --texts 63435 --cache embeddings

The file has one JSON object a line. A sample of its texts is indexed; the summaries of some of
them are asked, and a summary is answered well if its own text is among the first ten. What a
structure loses against exact search must stay within what its target promises. With `--cache` the
embeddings are kept as `.npy` and taken again by a run with the same texts. The result goes to
`benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Data
from benchmarks.result_files import FOLDER, facts, write
from vecindex import VectorIndex
from vecindex.arrays import Float32Array, unit_rows
from vecindex.embed import Embedder, resolve

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
K = 10
TARGETS = (0.95, 0.99)


def read(path: Path, text: str, question: str) -> list[tuple[str, str]]:
    """Return text and question of every line that has both."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    pairs = [(record.get(text), record.get(question)) for record in records]
    return [(said, asked) for said, asked in pairs if said and asked]


def embedded(
    embedder: Embedder, texts: Sequence[str], role: str, cache: Path | None
) -> Float32Array:
    """Return the unit rows of the texts, from the cache if it has just these."""
    made = hashlib.sha256("\0".join([embedder.name, role, *texts]).encode()).hexdigest()[:16]
    file = None if cache is None else cache / f"{role}-{made}.npy"
    if file is not None and file.exists():
        return np.asarray(np.load(file, allow_pickle=False), dtype=np.float32)
    if role == "document":
        rows = embedder.embed_documents(texts, progress=_progress)
        print()
    else:
        rows = embedder.embed_queries(texts)
    rows = unit_rows(rows)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, rows)
    return rows


def _progress(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} texts embedded", end="", flush=True)


def measure(data: Data, own: np.ndarray, spec: str) -> dict[str, Any]:
    """Return how often a question's own text is found, exactly and at each target.

    Parameters
    ----------
    data : Data
        Texts as rows, questions as queries.
    own : ndarray of int64, shape (q,)
        The row of each question's own text.
    spec : str
        The structure.

    Returns
    -------
    dict
        For the page: shares of all questions, and the recall against exact search.
    """
    lines = []
    with tempfile.TemporaryDirectory(prefix="vecindex-quality-") as folder:
        path = Path(folder) / "quality.vx"
        with VectorIndex.create(path, spec=spec, maintenance="manual") as index:
            index.add(vectors=data.rows, ids=range(len(data.rows)))
            truth, _ = index.search_arrays(data.queries, K, exact=True)
            lines.append(_line("exact", None, "", truth, truth, own))
            for target in TARGETS:
                index.optimize(target_recall=target)
                found, _ = index.search_arrays(data.queries, K)
                plan = str(index.explain(K))
                lines.append(_line(f"{target:g}", target, plan, found, truth, own))
    return {"spec": spec, "lines": lines}


def _line(name: str, target: float | None, plan: str, found: np.ndarray, truth: np.ndarray,
          own: np.ndarray) -> dict[str, Any]:  # fmt: skip
    right = (found == own[:, None]).any(axis=1)
    lost = (truth == own[:, None]).any(axis=1) & ~right
    recall = np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)])
    first = float((found[:, 0] == own).mean())
    line = {
        "name": name, "target": target, "plan": plan, "first": first,
        "among_ten": float(right.mean()), "lost": float(lost.mean()), "recall": float(recall),
    }  # fmt: skip
    print(line)
    return line


def main(words: Sequence[str] | None = None, embedder: Embedder | None = None) -> None:
    """Run the measurement and write the result file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path, help=".jsonl or .jsonl.gz")
    parser.add_argument("--text", default="text", help="the key of the texts")
    parser.add_argument("--question", default="summary", help="the key of the questions")
    parser.add_argument("--texts", type=int, default=10_000, help="texts to index")
    parser.add_argument("--questions", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spec", default="auto", help="the structure")
    parser.add_argument("--cache", type=Path, help="a directory for the embeddings")
    parser.add_argument("--results", type=Path, default=FOLDER)
    options = parser.parse_args(words)
    pairs = read(options.file, options.text, options.question)
    rng = np.random.default_rng(options.seed)
    chosen = [pairs[row] for row in rng.permutation(len(pairs))[: options.texts]]
    own = rng.permutation(len(chosen))[: options.questions]
    used = embedder or resolve(MODEL)
    assert used is not None
    name = f"{options.file.name.partition('.')[0]}-{len(chosen)}"
    data = Data(
        name,
        embedded(used, [text for text, _ in chosen], "document", options.cache),
        embedded(used, [chosen[row][1] for row in own], "query", options.cache),
    )
    command = (
        f"python -m benchmarks.quality {options.file.name} --texts {options.texts} "
        f"--questions {options.questions} --seed {options.seed} --spec {options.spec}"
    )
    result = {**facts(data, command, 1), "model": used.name, **measure(data, own, options.spec)}
    print(write("quality", result, options.results).name)


if __name__ == "__main__":
    main()
