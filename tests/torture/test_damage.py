"""Damaged files: a right answer, or an error that names file and offset; never a wrong answer.

Each byte of each small file but the caches is damaged once here, and
`python -m tests.torture.fuzz damage` flips every bit.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.torture.samples import (
    Answers,
    ask,
    check_structure,
    copied,
    make_full,
    names,
    rows,
)
from vecindex import VectorIndex
from vecindex.errors import CorruptIndexError
from vecindex.store.files import Directory
from vecindex.store.store import Store

WHERE_IT_IS = re.compile(r"(MANIFEST|[a-z]+-\d+\.\w+) is (missing|damaged at offset \d+)")
THOROUGH = 16  # places of each file, whose damage meets every kind of question
CACHES = ("structure", "columns", "queries")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "full.vx"
    make_full(path, indexed=24)
    return path


def answers(path: Path) -> Answers:
    with VectorIndex.open(path) as index:
        check_structure(index)
        return ask(index)


def right_or_refused(path: Path, right: Answers) -> bool:
    """Return whether the answer was right; otherwise it must be a proper refusal."""
    try:
        found = answers(path)
    except CorruptIndexError as error:
        assert WHERE_IT_IS.search(str(error)), error
        return False
    assert found == right
    return True


def content(path: Path) -> list[tuple[bytes, bytes]]:
    """Return records and rows as the store shows them; no more than that, so it is quick."""
    store = Store.open(Directory(path), writable=False, sync=True)
    found = []
    for part, dead in zip(store.state.parts, store.state.dead, strict=True):
        part.check_rows()
        ids = part.ids(np.arange(part.count))
        live = np.ones(part.count, bool) if dead is None else ~dead
        kept = zip(ids, part.scan_records(), part.vectors, live.tolist(), strict=True)
        found += [(repr(i).encode() + r, v.tobytes()) for i, r, v, alive in kept if alive]
    return found


def test_each_byte_of_each_file(full: Path, tmp_path: Path) -> None:
    path, choose = copied(full, tmp_path / "x.vx"), random.Random(5)
    right, whole = content(path), answers(path)
    refused = {}
    for name in names(path):
        file = path / name
        good = file.read_bytes()
        places = range(len(good))
        thorough = set(choose.sample(places, min(len(good), THOROUGH)))
        for place in places:
            damaged = bytearray(good)
            damaged[place] ^= 1 << choose.randrange(8)
            file.write_bytes(damaged)
            if place in thorough:
                refused[name] = not right_or_refused(path, whole)
                continue
            if name.startswith(CACHES):  # `content` does not read them
                continue
            try:
                assert content(path) == right
            except CorruptIndexError as error:
                assert WHERE_IT_IS.search(str(error)), error
        file.write_bytes(good)
    assert answers(path) == whole
    kinds = {name.partition("-")[0] for name, was in refused.items() if was}
    assert kinds == {"MANIFEST", "vectors", "rows", "ids", "dead", "log"}  # the rest are caches


def test_each_length_of_each_file(full: Path, tmp_path: Path) -> None:
    path, choose = copied(full, tmp_path / "x.vx"), random.Random(6)
    right, whole = content(path), answers(path)
    for name in names(path):
        file = path / name
        good = file.read_bytes()
        for length in sorted(choose.sample(range(len(good)), min(len(good), 100))):
            file.write_bytes(good[:length])
            try:
                assert content(path) == right
            except CorruptIndexError as error:
                assert WHERE_IT_IS.search(str(error)), error
        assert not right_or_refused(path, whole) or name.startswith(CACHES)
        file.write_bytes(good + b"\0" * 64)
        right_or_refused(path, whole)
        file.write_bytes(good)


def test_each_file_missing(full: Path, tmp_path: Path) -> None:
    whole = answers(full)
    for name in names(full):
        path = copied(full, tmp_path / "x.vx")
        (path / name).unlink()
        if name == "MANIFEST":
            with pytest.raises(OSError, match="not a vecindex index"):
                VectorIndex.open(path)
        else:
            cache = name.startswith(CACHES)
            assert right_or_refused(path, whole) == cache, name


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another index of the same shape, whose files have the same names and sizes."""
    path = tmp_path_factory.mktemp("damage") / "other.vx"
    make_full(path, indexed=24)
    return path


def test_each_file_swapped_with_another_index(full: Path, other: Path, tmp_path: Path) -> None:
    """The logs differ in nothing but the owner of their frames."""
    whole = answers(full)
    for name in names(full):
        path = copied(full, tmp_path / "x.vx")
        shutil.copy(other / name, path / name)
        taken = right_or_refused(path, whole)
        assert not (taken and name.startswith(("MANIFEST", "log"))), name


def test_a_log_of_another_index_is_no_torn_write(tmp_path: Path) -> None:
    """Nor may a writer cut it, even where nothing is known to be synced."""
    made = []
    for name in "ab":
        index = VectorIndex.create(tmp_path / name, maintenance="manual", durability="os")
        index.add(**rows(0, 3))
        copied(tmp_path / name, tmp_path / f"crashed {name}")
        made.append(index)
    shutil.copy(tmp_path / "crashed b" / "log-1.vxl", tmp_path / "crashed a")
    for mode in ("r", "r+"):
        with pytest.raises(CorruptIndexError, match="offset 0: this is the log of another index"):
            VectorIndex.open(tmp_path / "crashed a", mode)
    for index in made:
        index.close()


def test_an_older_manifest_with_newer_files(tmp_path: Path) -> None:
    path = tmp_path / "x.vx"
    steps = [
        lambda index: index.add(**rows(0, 20)),
        lambda index: index.optimize(),
        lambda index: index.add(**rows(100, 5)),
        lambda index: index._maintenance.seal(),
        lambda index: index.remove(["id 1"]),
        lambda index: index._store.freeze(),
        lambda index: index.add(**rows(200, 5)),
    ]
    manifests = []
    with VectorIndex.create(path, spec="flat", maintenance="manual") as index:
        for step in steps:
            step(index)
            manifests.append((path / "MANIFEST").read_bytes())
        newest = ask(index)
    refused = 0
    for old in dict.fromkeys(manifests):
        copied(path, tmp_path / "old.vx")
        (tmp_path / "old.vx" / "MANIFEST").write_bytes(old)
        refused += not right_or_refused(tmp_path / "old.vx", newest)
        try:
            VectorIndex.open(tmp_path / "old.vx", "r+").close()
        except CorruptIndexError:
            assert names(tmp_path / "old.vx") == names(path)  # nothing was removed
    assert refused >= 3


def test_blocks_of_records_that_changed_places(tmp_path: Path) -> None:
    """Their own checksums hold, so only the manifest's tell."""
    path = tmp_path / "x.vx"
    with VectorIndex.create(path, spec="flat", maintenance="manual") as index:
        index.add(ids=list(range(1000, 1064)), vectors=np.eye(64), texts=["same size " * 800] * 64)
        index.optimize()
        (name,) = (name for name in names(path) if name.startswith("rows"))
    data = bytearray((path / name).read_bytes())
    table = np.frombuffer(data, "<u8", 5, len(data) - 4 - 5 * 8).tolist()
    first, second = (slice(*table[i : i + 2]) for i in (0, 1))
    data[first], data[second] = data[second], data[first]
    (path / name).write_bytes(data)
    with VectorIndex.open(path) as index, pytest.raises(CorruptIndexError, match="offset 0"):
        index.get([1000])


@pytest.fixture(scope="module", params=["flat/pq4", "hnsw"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "large.vx"
    with VectorIndex.create(path, spec=request.param, maintenance="manual") as index:
        index.add(**rows(0, 6000, dim=32))
        index.optimize()
        index.add(**rows(10_000, 300, dim=32))
        index._maintenance.seal()
        index.add(**rows(20_000, 100, dim=32))
    return path


def damage(data: bytearray, choose: random.Random) -> None:
    """Do what disks and people do to a large file."""
    sector = 512
    count = max(1, len(data) // sector)
    start = choose.randrange(count) * sector
    end = min(len(data), start + sector * choose.choice([1, 8, 64]))
    kind = choose.randrange(4)
    if kind == 0:
        data[start:end] = bytes(end - start)
    elif kind == 1:
        data[start:end] = choose.randbytes(end - start)
    elif kind == 2:  # written to the wrong place
        source = choose.randrange(count) * sector
        data[start:end] = data[source : source + end - start].ljust(end - start, b"\0")
    else:
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def test_random_damage_to_large_files(large: Path, tmp_path: Path) -> None:
    path, choose = copied(large, tmp_path / "x.vx"), random.Random(7)
    with VectorIndex.open(path) as index:
        vectors = {r.id: (r.vector.tobytes(), r.text) for r in index.scan(vectors=True)}
    refused = 0
    for _ in range(60):
        file = path / choose.choice(names(path))
        good = file.read_bytes()
        data = bytearray(good)
        damage(data, choose)
        if data == good:
            continue
        file.write_bytes(data)
        try:
            with VectorIndex.open(path) as index:
                check_structure(index)  # first, while nothing is checked yet
                found = {r.id: (r.vector.tobytes(), r.text) for r in index.scan(vectors=True)}
                assert found == vectors
        except CorruptIndexError as error:
            refused += 1
            assert WHERE_IT_IS.search(str(error)), error
        if file.name != "MANIFEST":
            problems = VectorIndex.repair(path, dry_run=True).problems
            assert {problem.file for problem in problems} == {file.name}
        file.write_bytes(good)
    assert 20 < refused < 60


def test_verify_and_dry_run_find_everything(full: Path, tmp_path: Path) -> None:
    path = copied(full, tmp_path / "x.vx")
    spoiled = [name for name in names(path) if name != "MANIFEST"]
    readable = [n for n in spoiled if not n.startswith(("log", "dead", "ids"))]
    for name in spoiled:
        data = bytearray((path / name).read_bytes())
        data[-70 if name.startswith("vectors") else 70 % len(data)] ^= 1
        if name in readable:
            (path / name).write_bytes(data)
    with VectorIndex.open(path) as index:
        found = index.verify().problems
    assert {problem.file for problem in found} == set(readable)
    rebuildable = {p.file.partition("-")[0] for p in found if p.rebuildable}
    assert rebuildable == {"structure", "columns"}
    for name in spoiled:
        data = bytearray((path / name).read_bytes())
        data[5 % len(data)] ^= 1
        (path / name).write_bytes(data)
    with pytest.raises(CorruptIndexError):
        VectorIndex.open(path)
    found = VectorIndex.repair(path, dry_run=True).problems
    assert {problem.file for problem in found} == set(spoiled)
    told = " ".join(problem.what for problem in found)
    for lost in ("lost: rows 0 to 23", "which rows were removed", "queries", "operation"):
        assert lost in told
