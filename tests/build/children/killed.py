"""Kill builds at random moments, run them again, and compare with one that was left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
import zlib
from pathlib import Path

import numpy as np

from vecindex import VectorIndex
from vecindex.build import BuildOptions, build
from vecindex.embed import FunctionEmbedder
from vecindex.index import maintenance
from vecindex.io import Columns
from vecindex.store.files import Appender

RECORDS = 150
OPTIONS = BuildOptions(batch_rows=10, prune=True, chunk=4, overlap=1)


def model(texts):
    return [np.random.default_rng(zlib.crc32(text.encode())).normal(size=16) for text in texts]


def write_sources(path: Path) -> list[Path]:
    """Write the records before and after an update."""
    before = [
        {"id": f"r{n}", "text": f"record {n} has {'some more ' * (n % 5)}words", "n": n}
        for n in range(RECORDS)
    ]
    after = []
    for record in before[: -RECORDS // 5]:  # a fifth is gone
        n = record["n"]
        change = {1: {"text": f"changed {n}"}, 2: {"n": -n}}.get(n % 7, {})
        after.append(record | change)
    after += [{"id": f"new{n}", "text": f"new {n}", "n": n} for n in range(40)]
    files = []
    for name, records in (("before.jsonl", before), ("after.jsonl", after)):
        files.append(path / name)
        files[-1].write_text("".join(json.dumps(record) + "\n" for record in records))
    return files


def run(source: Path, out: Path, pipe: int) -> None:
    """Build, and say so on a pipe at each record batch and before each write to a file."""
    maintenance._SEAL_BYTES = 10_000
    append = Appender.append

    def told(self, buffers):
        os.write(pipe, b".")
        append(self, buffers)

    Appender.append = told
    embedder = FunctionEmbedder(model, name="m")
    columns = Columns(text="text", id="id", metadata=("n",))
    build(
        str(source), out, columns, embedder=embedder, options=OPTIONS,
        progress=lambda *_: os.write(pipe, b"."),
    )  # fmt: skip


def forked(source: Path, out: Path, moments: int | None) -> int | None:
    """Build in another process, killed after so many moments; return their number if it was not."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            run(source, out, writing)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    seen = 0
    while moments is None or seen < moments:
        said = os.read(reading, 1)
        if not said:
            break
        seen += 1
    else:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    assert status == 0, "a build failed"
    return seen


def content(path: Path) -> dict:
    with VectorIndex.open(path) as index:
        report = index.verify()
        assert report.ok, report.problems
        queries = np.random.default_rng(0).normal(size=(20, 16))
        rows = list(index.scan(vectors=True))
        return {
            "rows": [json.dumps([row.id, row.text, row.metadata]) for row in rows],
            "vectors": np.array([row.vector for row in rows]),
            "answers": index.search_arrays(queries, k=5)[0].tolist(),
            "structure": index.info().structure,
        }


def differences(one: dict, other: dict) -> list[str]:
    return [key for key in one if not np.array_equal(one[key], other[key])]


def main(path: Path, kills: int) -> None:
    rng = random.Random(0)
    before, after = write_sources(path)
    moments = forked(before, path / "whole.vx", None)
    assert moments is not None
    shutil.copytree(path / "whole.vx", path / "updated.vx")
    assert forked(after, path / "updated.vx", None)
    report = {"kills": 0, "rounds": 0, "rows": []}
    while report["kills"] < kills or report["rounds"] % 2:
        update = report["rounds"] % 2 == 1
        source, out = (before, after)[update], path / f"round{report['rounds']}.vx"
        if update:
            shutil.copytree(path / "whole.vx", out)
        while forked(source, out, rng.randint(1, moments)) is None:
            report["kills"] += 1
            partial = out.with_name(out.name + ".partial")
            assert out.exists() == update or not partial.exists()
            if (partial / "MANIFEST").exists():
                with VectorIndex.open(partial) as index:
                    report["rows"].append(len(index))
        report["rounds"] += 1
    # Searched at the end only: FAISS's threads do not survive a fork.
    whole, updated = content(path / "whole.vx"), content(path / "updated.vx")
    assert len(whole["rows"]) != len(updated["rows"])
    for number in range(report["rounds"]):
        expected = updated if number % 2 else whole
        different = differences(content(path / f"round{number}.vx"), expected)
        assert not different, f"round {number}: {different}"
    assert not list(path.glob("*.partial"))
    sys.stdout.write(json.dumps(report))


main(Path(sys.argv[1]), int(sys.argv[2]))
