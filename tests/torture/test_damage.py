"""Damaged files: a right answer, or an error that names file and offset; never a wrong answer.

Here is a sample of the cases; `python -m tests.torture damage` tries every one of them.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.torture.damage import (
    CACHES,
    INSTANCES,
    SPECS,
    WHERE_IT_IS,
    cases,
    hurt_once,
    judge,
    made,
    make_large,
    mend_once,
    shown,
    try_all,
)
from tests.torture.samples import Answers, ask, check_structure, copied, make_full, names, rows
from vecindex import VectorIndex
from vecindex.errors import CorruptIndexError

STRIDE = 331  # of all cases, one of so many; a prime, so that every bit of a byte has its turn


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "full.vx"
    make_full(path, indexed=24)
    return path


def right_or_refused(path: Path, right: Answers) -> bool:
    """Return whether the answer was right; otherwise it must be a proper refusal."""
    try:
        with VectorIndex.open(path) as index:
            check_structure(index)
            found = ask(index)
    except CorruptIndexError as error:
        assert WHERE_IT_IS.search(str(error)), error
        return False
    assert found == right
    return True


def answers(path: Path) -> Answers:
    with VectorIndex.open(path) as index:
        return ask(index)


@pytest.mark.parametrize("instance", INSTANCES)
def test_bits_and_lengths_of_each_file(instance: str) -> None:
    with made(instance) as (path, right):
        refused = set()
        for name in names(path):
            every = cases(path, name)
            outcomes = try_all(path, right, [*every[::STRIDE], *every[-3:]])
            refused |= {name.partition("-")[0]} if outcomes["refused"] else set()
        assert answers(path) == right, "the bytes were put back"
    kinds = {"MANIFEST", "vectors", "rows", "ids", "dead", "log"}  # the rest are caches
    assert refused == (kinds if instance != "flat" else kinds - {"dead", "log"})


def test_bytes_behind_the_end(full: Path, tmp_path: Path) -> None:
    path = copied(full, tmp_path / "x.vx")
    right = answers(path)
    for name in names(path):
        good = (path / name).read_bytes()
        for more in (b"\0" * 64, good):
            (path / name).write_bytes(good + more)
            if name.startswith("log"):  # as after a crash: dropped, and no problem
                assert right_or_refused(path, right)
            else:
                judge(path, name, right)
        (path / name).write_bytes(good)


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


@pytest.mark.parametrize("spec", SPECS)
def test_random_damage_to_large_files(spec: str, tmp_path: Path) -> None:
    path, choose = tmp_path / "x.vx", random.Random(7)
    make_large(path, spec)
    with VectorIndex.open(path) as index:
        right = shown(index)
    outcomes = [hurt_once(path, right, choose) for _ in range(15)]
    assert {"right", "refused"} <= set(outcomes)
    lost = [
        mend_once(copied(path, tmp_path / "mended.vx"), right, choose, files) for files in (1, 1, 3)
    ]
    assert all(count < len(right) for count in lost)


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
