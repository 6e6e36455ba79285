"""Space comes back, and what was removed or replaced is gone from every file."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torture.small_disk import permitted

from vecindex import VectorIndex
from vecindex.index import maintenance

CHILDREN = Path(__file__).parent / "children"
DIM = 24
SPECS = [
    "flat",
    "flat/sq8",
    "flat/pq4",
    "hnsw",
    "hnsw/bf16",
    "hnsw/sq4",
    "ivf",
    "ivf/pq4",
    "ivf/sq8",
]
KEPT = [f"kept-{number:03d}" for number in range(120)]
GONE = [f"gone-{number:03d}" for number in range(40)]


def rows_of(ids: list[str], salt: str = "") -> dict[str, Any]:
    """Return the columns of rows in which everything is their own, and can be looked for."""
    seeds = [[*name.encode(), *salt.encode()] for name in ids]
    return {
        "ids": ids,
        "texts": [f"The text of {name}{salt}. " * 9 for name in ids],
        "vectors": np.array([np.random.default_rng(seed).normal(size=DIM) for seed in seeds]),
        "metadata": [
            {
                "note": f"note of {name}{salt}",
                f"key of {name}{salt}": True,
                "tags": [f"tag of {name}{salt}", "tag of all"],
                "deep": {"er": f"deep in {name}{salt}"},
                "raw": f"bytes of {name}{salt}".encode(),
                "number": float(np.random.default_rng([*name.encode(), 9]).normal()),
            }
            for name in ids
        ],
    }


def traces(index: VectorIndex, ids: list[str]) -> dict[str, bytes]:
    """Return the bytes by which rows are known: ids, texts, metadata, vectors."""
    found = {}
    for record in index.get(ids, vectors=True):
        name = str(record.id)
        if record.metadata is not None:
            number = record.metadata["number"]
            found[f"id and texts of {name}"] = name.encode()
            found[f"number of {name}"] = struct.pack(">d", number)
        found[f"vector of {name}"] = record.vector.tobytes()
        found[f"part of the vector of {name}"] = record.vector[4:10].tobytes()
    return found


def stored(path: Path) -> bytes:
    """Return all bytes of all files."""
    return b"\0".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def left(path: Path, wanted: dict[str, bytes]) -> list[str]:
    """Return of what there are traces."""
    everything = stored(path)
    return [name for name, data in wanted.items() if data in everything]


Stage = Callable[[VectorIndex], object]
STAGES: dict[str, Stage] = {
    "in the log": lambda index: None,
    "sealed": lambda index: index._maintenance.seal(),
    "folded": lambda index: index.optimize(),
    "frozen": lambda index: index._store.freeze(),
}
REMOVALS: dict[str, Stage] = {
    "by id": lambda index: index.remove(GONE),
    "by filter": lambda index: index.remove(where={"gone": True}),
    "in two calls, folded between": lambda index: (
        index.remove(GONE[::2]),
        index.optimize(),
        index.remove(GONE),
    ),
}


@pytest.fixture
def filled(create: Callable[..., VectorIndex]) -> Callable[..., VectorIndex]:
    """Make an index of rows that stay and rows that go, put in in two calls."""

    def make(spec: str, stage: str) -> VectorIndex:
        index = create(spec=spec)
        index.add(**rows_of(KEPT[:100]))
        STAGES[stage](index)
        gone = rows_of(GONE)
        for metadata in gone["metadata"]:
            metadata["gone"] = True
        index.add(**gone)
        index.add(**rows_of(KEPT[100:]))
        return index

    return make


WAYS = [
    *((spec, "folded", "in two calls, folded between") for spec in SPECS),
    *(("ivf", stage, "by filter") for stage in STAGES),
    ("ivf", "sealed", "by id"),
]


@pytest.mark.parametrize(("spec", "stage", "removal"), WAYS)
def test_what_was_removed_is_nowhere(
    filled: Callable[..., VectorIndex],
    reopen: Callable[..., VectorIndex],
    spec: str,
    removal: str,
    stage: str,
) -> None:
    index = filled(spec, stage)
    STAGES[stage](index)
    wanted, kept = traces(index, GONE), traces(index, KEPT)
    assert left(index.path, wanted) == list(wanted), "else nothing would be tested"
    reader = reopen()
    assert reader.count({"gone": True}) == index.count({"gone": True}) == len(GONE)
    REMOVALS[removal](index)
    index.compact()
    assert left(index.path, wanted) == []
    assert "gone" not in stored(index.path).decode("latin-1")
    assert left(index.path, kept) == list(kept)
    assert [record.id for record in reader.scan({"gone": True})] == GONE, "it still has its files"
    reader.refresh()
    assert reader.count({"gone": True}) == 0
    assert [record.id for record in index.scan()] == KEPT
    index.close()
    assert left(index.path, wanted) == []


@pytest.mark.parametrize("stage", STAGES)
def test_what_was_replaced_is_nowhere(filled: Callable[..., VectorIndex], stage: str) -> None:
    index = filled("ivf", stage)
    STAGES[stage](index)
    vectors = {k: v for k, v in traces(index, GONE).items() if "vector" in k}
    texts = [f"The text of {name}. ".encode() for name in GONE]
    notes = [f"note of {name}".encode() for name in GONE]
    assert left(index.path, vectors) == list(vectors), "else nothing would be tested"
    for salt in (", new", ", newer"):
        index.upsert(ids=GONE, vectors=rows_of(GONE, salt)["vectors"], texts=[f"text{salt}"] * 40)
        vectors |= (
            {}
            if salt == ", newer"
            else {f"{k}{salt}": v for k, v in traces(index, GONE).items() if "vector" in k}
        )
    index.compact()
    everything = stored(index.path)
    assert left(index.path, vectors) == []
    assert not any(data in everything for data in [*texts, *notes, b"text, new\xc0"])
    assert all(name.encode() in everything for name in GONE)


def test_what_is_put_in_during_a_compaction_and_removed_is_gone_with_the_next(
    filled: Callable[..., VectorIndex],
) -> None:
    index = filled("ivf", "folded")
    wanted: dict[str, bytes] = {}

    def meanwhile(stage: str, done: int, total: int | None) -> None:
        if not wanted:
            index.add(**rows_of(["late-0", "late-1"]))
            wanted.update(traces(index, ["late-0", "late-1"]))
            index.remove(["late-0", "late-1", *GONE])

    index.remove(["kept-000"])
    index.compact(progress=meanwhile)
    assert wanted
    index.compact()
    assert left(index.path, wanted) == []
    assert b"gone-" not in stored(index.path)


@pytest.mark.parametrize("stage", ["in the log", "folded"])
def test_nothing_is_left_of_an_index_that_was_emptied(
    filled: Callable[..., VectorIndex], stage: str
) -> None:
    index = filled("ivf", stage)
    STAGES[stage](index)
    wanted = traces(index, [*KEPT, *GONE])
    index.remove([*KEPT, *GONE])
    index.compact()
    assert left(index.path, wanted) == []
    names = {file.name for file in index.path.iterdir()}
    assert names == {"MANIFEST", "LOCK", *(log.name for log in index._store.state.manifest.logs)}


# -- files that somebody still has open --------------------------------------------------------


def deleted(path: Path, pid: int | str = "self") -> list[str]:
    """Return the files of an index that a process has mapped, though they were removed."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line.split("/")[-1] for line in lines if f" {path}/" in line and "(deleted)" in line]


needs_maps = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")


@needs_maps
def test_an_old_generation_is_let_go(
    filled: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    """By the writer when it is compacted, by a reader when it steps; nobody needs to search."""
    index = filled("ivf", "folded")
    index.optimize()
    waiting, following = reopen(), reopen(refresh="auto")
    for handle in (index, waiting, following):
        handle.search(np.ones(DIM))
        handle.count({"gone": True})
    index.remove(GONE)
    index.compact()
    assert len(following) == len(KEPT)
    assert {name.split("-")[0] for name in deleted(index.path)} >= {"vectors", "rows", "ids"}
    waiting.refresh()
    following.search(np.ones(DIM))
    assert deleted(index.path) == []


@needs_maps
def test_many_generations_leave_nothing_open(
    create: Callable[..., VectorIndex], reopen: Callable[..., VectorIndex]
) -> None:
    index = create(spec="ivf")
    index.add(**rows_of(KEPT))
    reader = reopen(refresh="auto")
    counts = []
    for number in range(10):
        index.upsert(**rows_of(KEPT[number : number + 10], f", {number}"))
        (index.compact if number % 2 else index.optimize)()
        assert reader.search(np.ones(DIM), k=5) == index.search(np.ones(DIM), k=5)
        reader.count({"note": "none"})
        index.count({"note": "none"})
        assert deleted(index.path) == []
        maps = Path("/proc/self/maps").read_text().count(f" {index.path}/")
        counts.append((len(os.listdir("/proc/self/fd")), maps))  # noqa: PTH208
    assert counts[-4:-2] == counts[-2:]


@needs_maps
def test_a_fold_in_the_background_lets_go_with_the_next_call(
    create: Callable[..., VectorIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_FIRST_ROWS", 50)
    monkeypatch.setattr(maintenance, "_LEAST_ROWS", 20)
    index = create(spec="ivf", maintenance="background")
    index.add(**rows_of(KEPT))
    index.search(np.ones(DIM))
    index._maintenance._join()
    index.search(np.ones(DIM))
    index.add(**rows_of(GONE))
    index._maintenance._join()
    assert index.info().generation > 4
    index.remove(GONE[:1])
    index._maintenance._join()
    index.remove(GONE[1:2])
    assert deleted(index.path) == []


@pytest.mark.skipif(not permitted(), reason="this process may not have mounts of its own")
def test_the_disk_has_the_space_when_the_last_reader_has_let_go(tmp_path: Path) -> None:
    """Readers in processes of their own: one steps, one follows by itself, one is killed."""
    child = [sys.executable, str(CHILDREN / "space.py"), str(tmp_path)]
    done = subprocess.run(
        ["unshare", "--mount", *child], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    rows = 8000 * 256 * 4 >> 10
    assert used["full"] - used["start"] > rows
    assert used["held"] > used["full"], "two readers have not stepped"
    assert used["held by one"] > rows
    assert used["killed"] - used["start"] < 200


# -- orphans -----------------------------------------------------------------------------------

KILLED = """
import os, sys
from vecindex import VectorIndex
from vecindex.index.rebase import Rebase
from vecindex.store.store import Store
def die(*_, **__):
    os.kill(os.getpid(), 9)
setattr({"Rebase": Rebase, "Store": Store}[sys.argv[2]], sys.argv[3], die)
with VectorIndex.open(sys.argv[1], "r+", maintenance="manual") as index:
    index.remove([f"gone-{number:03d}" for number in range(40)])
    index.compact()
"""
POINTS = [("Rebase", "commit"), ("Store", "_write_dead")]


@pytest.fixture
def reader_process(path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    script = """
import sys
from vecindex import VectorIndex
with VectorIndex.open(sys.argv[1]) as index:
    for line in sys.stdin:
        print(sum(1 for _ in index.scan(vectors=True)), flush=True)
"""
    made = []

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", script, str(path)]
        made.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str]) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return int(process.stdout.readline())


@pytest.mark.parametrize("point", POINTS, ids=".".join)
def test_orphans_of_a_killed_operation_go_at_the_next_open(
    filled: Callable[..., VectorIndex],
    reader_process: Callable[[], subprocess.Popen[str]],
    point: tuple[str, str],
) -> None:
    index = filled("ivf", "folded")
    index.optimize()
    index.close()
    before = {file.name for file in index.path.iterdir()}
    readers = [reader_process() for _ in range(2)]
    assert [ask(reader) for reader in readers] == [160, 160]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(index.path), *point], check=False)
    assert killed.returncode == -signal.SIGKILL
    orphans = {file.name for file in index.path.iterdir()} - before
    assert orphans
    readers[0].kill()
    with VectorIndex.open(index.path) as reader:  # it changes nothing
        assert orphans <= {file.name for file in index.path.iterdir()}
        assert len(reader) == 120
    with VectorIndex.open(index.path, "r+", maintenance="manual") as writer:
        named = writer._store.state.manifest.names() | {"MANIFEST", "LOCK"}
        assert {file.name for file in index.path.iterdir()} == named
        writer.compact()
        assert b"gone-" not in stored(index.path)
        assert [record.id for record in writer.scan()] == KEPT
    assert ask(readers[1]) == 160, "a reader keeps what it has, whatever is removed"
