"""What does a build cost besides the model, and what does it never do twice?

    python -m benchmarks.building packages.jsonl.gz                       # 50,000 records
    python -m benchmarks.building packages.jsonl.gz --rows 2000 --million

The file has one JSON object a line. The model embeds a sample of the texts, for its speed; the
builds are then made with a stand-in, which takes next to no time and gives vectors like the
model's. Measured are: the time outside the model by stage, and its share of a build at the model's
speed; the same build again, unchanged and with 1 % of the texts changed; a second index from a
cache; a build killed at half and run again; what `--plan` predicts against what is; with
`--million` the memory for a million given vectors. Each build runs in a process of its own. The
result goes to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.channel import Child, ChildError
from benchmarks.data import Data
from benchmarks.result_files import FOLDER, facts, write
from vecindex import VectorIndex
from vecindex.ann import CORES
from vecindex.arrays import Float32Array, unit_rows
from vecindex.embed import resolve
from vecindex.embed.base import ProviderEmbedder
from vecindex.io import Columns, column_names, find_columns

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
BOUND = 0.05
CHANGED = 100  # one text of so many is changed
_LEARNT = 2000  # embeddings that the stand-in knows
_CLUSTERS, _DIRECTIONS = 5000, 12  # of the million given vectors
_CHUNK = 10_000


@dataclass(frozen=True)
class Task:
    """One source and how it is built; everything but the source stays the same."""

    source: Path
    columns: Columns
    stand_in: Path | None
    batch_rows: int

    def build(
        self, out: Path, kill: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Build in a process of its own; `kill` says at how many texts to die, noted where."""
        return self._ask("build", out, options, kill=kill)

    def plan(self, out: Path) -> dict[str, Any]:
        """Plan in a process of its own."""
        return self._ask("plan", out, {})

    def _ask(self, command: str, out: Path, options: dict[str, Any], **more: Any) -> dict[str, Any]:
        print(f"{command} {out.name}", flush=True)
        with closing(Child("benchmarks.building_worker")) as child:
            answer: dict[str, Any] = child.ask(
                command, source=str(self.source), out=str(out), columns=asdict(self.columns),
                stand_in=None if self.stand_in is None else str(self.stand_in),
                options={"batch_rows": self.batch_rows, **options}, **more,
            )  # fmt: skip
        return answer


def opened(path: Path, mode: str) -> Any:
    """Open a file of JSON lines, compressed if it ends in `.gz`."""
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, mode, encoding="utf-8")


def speed(
    embedder: ProviderEmbedder, texts: list[str], calls: int
) -> tuple[dict[str, Any], Float32Array]:
    """Return how fast a model is, and the unit rows of the texts.

    Parameters
    ----------
    embedder : ProviderEmbedder
        Loaded before the clock runs.
    texts : list of str
        A sample.
    calls : int
        Texts in one call, as a build has records in a batch.

    Returns
    -------
    tuple of dict and ndarray of float32, shape (n, dim)
        Texts per second of the model alone, and what the embedder does around it for a text:
        that is time outside the model.
    """
    embedder.fingerprint()
    ask, inside = embedder.vectors, 0.0

    def timed(role: Any, group: list[str]) -> Any:
        nonlocal inside
        start = time.perf_counter()
        answer = ask(role, group)
        inside += time.perf_counter() - start
        return answer

    parts = []
    with patch.object(embedder, "vectors", timed):
        start = time.perf_counter()
        for first in range(0, len(texts), calls):
            parts.append(embedder.embed_documents(texts[first : first + calls]))
            print(f"\r{first + len(parts[-1]):,} of {len(texts):,} texts embedded", end="")
        total = time.perf_counter() - start
    print(flush=True)
    inside = min(inside, total)  # a hosted model is asked by several threads at once
    model = {"name": embedder.name, "cores": CORES, "texts": len(texts),
             "truncated": embedder.truncated, "texts_per_s": len(texts) / inside,
             "around_s": (total - inside) / len(texts)}  # fmt: skip
    return model, unit_rows(np.concatenate(parts))


def outside(run: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return a build's seconds outside the model, and their share at the model's speed."""
    around_s = run["embedded"] * model["around_s"]
    outside_s = run["check_s"] + run["store_s"] + run["structure_s"] + around_s
    model_s = run["embedded"] / model["texts_per_s"]
    share = outside_s / (outside_s + model_s)
    return {**run, "around_s": around_s, "outside_s": outside_s, "model_s": model_s, "share": share}


def content(path: Path) -> str:
    """Return a hash of all that an index holds, in order: ids, texts, metadata and vectors."""
    digest = hashlib.sha256()
    with VectorIndex.open(path) as index:
        for record in index.scan(vectors=True):
            assert record.vector is not None
            digest.update(repr((record.id, record.text, record.metadata)).encode())
            digest.update(record.vector.tobytes())
    return digest.hexdigest()


def resumed(task: Task, rows: int, folder: Path, whole: str) -> dict[str, Any]:
    """Kill a build when half of the texts are embedded, run it again, compare the index."""
    out, note = folder / "killed.vx", folder / "killed.txt"
    try:
        task.build(out, kill={"at": rows // 2, "note": str(note)})
    except ChildError as error:
        if "exit code -9" not in str(error):
            raise
    before = int(note.read_text())
    run = task.build(out)
    return {
        "killed_after": before,
        "kept": run["unchanged"],
        "embedded": run["embedded"],
        "embedded_twice": before + run["embedded"] - rows,
        "batch_rows": task.batch_rows,
        "same": content(out) == whole,
        "seconds": run["seconds"],
    }


def cached(task: Task, folder: Path) -> dict[str, Any]:
    """Build one index that fills a cache, and another one from the cache."""
    return {
        name: task.build(folder / f"{name}.vx", cache=str(folder / "cache"))
        for name in ("filling", "filled")
    }


def changed(task: Task, lines: Sequence[str], seed: int, folder: Path, out: Path) -> dict[str, Any]:
    """Change a text of a hundred, and build again; return that with the number of changes."""
    records = [json.loads(line) for line in lines]
    count = max(1, len(lines) // CHANGED)
    for row in np.random.default_rng(seed).permutation(len(lines))[:count]:
        records[row][task.columns.text] += " And changed."
    source = folder / "changed.jsonl"
    with opened(source, "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    run = Task(source, task.columns, task.stand_in, task.batch_rows).build(out)
    return {**run, "texts_changed": count}


def million(rows: int, dim: int, batch_rows: int, folder: Path) -> dict[str, Any]:
    """Plan and build an index of given vectors, from a file that is never in memory as a whole."""
    source, rng = folder / "million.npy", np.random.default_rng(0)
    # As `data.synthetic` makes them, but not all at once.
    spectrum = ((1 + np.arange(dim)) ** -0.5).astype(np.float32)
    centres, own = (
        rng.standard_normal(shape, dtype=np.float32) * spectrum
        for shape in ((_CLUSTERS, dim), (_CLUSTERS, _DIRECTIONS, dim))
    )
    array = np.lib.format.open_memmap(source, mode="w+", dtype=np.float32, shape=(rows, dim))
    for start in range(0, rows, _CHUNK):
        size = min(_CHUNK, rows - start)
        member = rng.integers(_CLUSTERS, size=size)
        loads = rng.standard_normal((size, _DIRECTIONS), dtype=np.float32) * np.float32(0.35)
        points = centres[member] + np.einsum("nk,nkd->nd", loads, own[member])
        points += 0.15 * rng.standard_normal((size, dim), dtype=np.float32) * spectrum
        array[start : start + size] = unit_rows(points)
    del array
    task = Task(source, Columns(id="row", vector="vector"), None, batch_rows)
    out = folder / "million.vx"
    given = {"dim": dim, "source_bytes": source.stat().st_size, "plan": task.plan(out)}
    return {**given, **task.build(out)}


def measure(task: Task, lines: Sequence[str], model: dict[str, Any], repeats: int, seed: int,
            folder: Path) -> dict[str, Any]:  # fmt: skip
    """Return all figures of one source.

    Parameters
    ----------
    task : Task
        The source.
    lines : sequence of str
        Its lines.
    model : dict
        What `speed` said.
    repeats : int
        New builds.
    seed : int
        Of the texts that are changed.
    folder : Path
        For indexes.

    Returns
    -------
    dict
        For the page.
    """
    out = folder / "new.vx"
    plan = task.plan(out)
    builds = []
    for _ in range(repeats):
        shutil.rmtree(out, ignore_errors=True)
        builds.append(outside(task.build(out), model))
        print(f"{builds[-1]['outside_s']:.2f} s outside the model, {builds[-1]['share']:.2%}")
    whole = content(out)
    return {
        "plan": plan,
        "builds": builds,
        "again": task.build(out),
        "cache": cached(task, folder),
        "resumed": resumed(task, len(lines), folder, whole),
        "changed": changed(task, lines, seed, folder, out),
    }


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path, help=".jsonl or .jsonl.gz")
    parser.add_argument("--rows", type=int, default=50_000, help="records, drawn from the file")
    parser.add_argument("--text", help="the key of the texts, if it is not plain")
    parser.add_argument("--id", help="the key of the ids, if it is not plain")
    parser.add_argument("--metadata", default="*", help="keys of metadata, with commas; * for all")
    parser.add_argument("--embedder", default=MODEL)
    parser.add_argument("--sample", type=int, default=_LEARNT, help="texts that the model embeds")
    parser.add_argument("--batch-rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3, help="new builds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--million", type=int, nargs="?", const=1_000_000, metavar="ROWS",
                        help="also build so many given vectors")  # fmt: skip
    parser.add_argument("--million-dim", type=int, default=64)
    parser.add_argument("--results", type=Path, default=FOLDER)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None, embedder: ProviderEmbedder | None = None) -> None:
    """Run the measurement and write the result file."""
    options = arguments(words)
    columns = find_columns(
        column_names(options.file),
        text=options.text,
        id=options.id,
        metadata=[name for name in options.metadata.split(",") if name],
        vector=False,
        source=options.file.name,
    )
    with opened(options.file, "rt") as file:
        lines = [line if line.endswith("\n") else line + "\n" for line in file if line.strip()]
    if min(len(lines), options.rows, options.sample) < 2:
        raise SystemExit(f"{options.file.name}: at least 2 records and a sample of 2 are needed")
    rng = np.random.default_rng(options.seed)
    lines = [lines[row] for row in np.sort(rng.permutation(len(lines))[: options.rows])]
    texts = [json.loads(lines[row])[columns.text] for row in rng.permutation(len(lines))]
    used: Any = embedder or resolve(options.embedder)
    model, rows = speed(used, texts[: options.sample], options.batch_rows)
    print(f"{model['name']}: {model['texts_per_s']:.1f} texts/s")
    with tempfile.TemporaryDirectory(prefix="vecindex-building-") as name:
        folder = Path(name)
        source, stand_in = folder / f"source{_suffix(options.file)}", folder / "stand-in.npy"
        with opened(source, "wt") as file:
            file.writelines(lines)
        np.save(stand_in, rows[:_LEARNT])
        task = Task(source, columns, stand_in, options.batch_rows)
        result = measure(task, lines, model, options.repeats, options.seed, folder)
        if options.million:
            result["million"] = million(
                options.million, options.million_dim, options.batch_rows, folder
            )
    name = f"{options.file.name.partition('.')[0]}-{len(lines)}"
    head = facts(Data(name, rows, rows[:0]), _command(options), options.repeats)
    hashed = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    head["data"] = {"name": name, "rows": len(lines), "dim": rows.shape[1], "sha256": hashed}
    result = {**head, "model": model, "bound": BOUND, **result}
    print(write("building", result, options.results).name)


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def _command(options: argparse.Namespace) -> str:
    words = ["python", "-m", "benchmarks.building", options.file.name]
    for name in ("rows", "text", "id", "metadata", "embedder", "sample", "batch_rows", "repeats",
                 "seed", "million", "million_dim"):  # fmt: skip
        value = getattr(options, name)
        if value is not None and (name != "million_dim" or options.million):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


if __name__ == "__main__":
    main()
