"""What an interrupted writer leaves behind is found, named, or cleared away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_rows import content, rows_of

from vecindex import VectorIndex
from vecindex.errors import CorruptIndexError, IndexPathError
from vecindex.store.files import Appender, Directory
from vecindex.store.manifest import Manifest
from vecindex.store.rewrite import Source
from vecindex.store.store import Store

ORPHANS = [
    "log-77.vxl",
    "rows-77.vxr",
    "vectors-77.f32",
    "ids-77.vxi",
    "dead-77.vxd",
    "structure-77.faiss",
    "MANIFEST.tmp",
]
FOREIGN = ["notes.txt", "rows-77.bak", "rows-x.vxr", "MANIFEST.old", "log-7.vxl.gz"]


def test_files_that_belong_to_nobody_are_removed_by_the_next_writer_only(
    create: Callable[..., Store], reopen: Callable[..., Store], path: Path
) -> None:
    store = create()
    store.put(*rows_of(["a"]))
    store.close()
    ours = {file.name for file in path.iterdir()}
    for name in ORPHANS + FOREIGN:
        (path / name).write_bytes(b"left")
    reader = reopen()
    assert list(content(reader.state)) == ["a"]
    assert {file.name for file in path.iterdir()} == ours | {*ORPHANS, *FOREIGN}
    writer = reopen(writable=True)
    assert {file.name for file in path.iterdir()} == ours | {*FOREIGN}, "others' files stay"
    assert writer.notes == []
    assert list(content(writer.state)) == ["a"]
    writer.put(*rows_of(["b"]))
    assert reader.refresh()
    assert list(content(reader.state)) == ["a", "b"]


def test_an_unfinished_rewrite_is_forgotten(
    create: Callable[..., Store], reopen: Callable[..., Store], path: Path
) -> None:
    store = create()
    store.put(*rows_of(["a", "b"]))
    state = store.freeze()
    store.rewrite([Source(state.tail, None)], lambda: None)
    store.put(*rows_of(["c"]))
    expected = content(store.state)
    store.close()
    assert len(list(path.glob("rows-*"))) == 1
    assert content(reopen().state) == expected
    writer = reopen(writable=True)
    assert content(writer.state) == expected
    assert not list(path.glob("rows-*"))
    writer.put(*rows_of(["d"]))
    numbers = [int(file.stem.split("-")[1]) for file in path.glob("log-*")]
    assert max(numbers) < writer.next_number()


class EndError(BaseException):
    """The process ends here, as far as the files are concerned."""


STEPS = [
    (Directory, "create"),
    (Directory, "sync"),
    (Directory, "remove"),
    (Appender, "append"),
    (Appender, "sync"),
    (Path, "replace"),
]


@pytest.mark.parametrize(
    ("owner", "name"), STEPS, ids=lambda value: getattr(value, "__name__", value)
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_create_can_be_done_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, when: str
) -> None:
    manifest = Manifest(generation=0, dim=4, spec={"kind": "flat"}, target_recall=0.95)
    interrupted = 0
    for number in range(10):
        shutil.rmtree(path, ignore_errors=True)
        calls = 0
        real = getattr(owner, name)

        def step(*arguments: Any, number: int = number, real: Any = real) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 == number and when == "before":
                raise EndError
            result = real(*arguments)
            if calls - 1 == number:
                raise EndError
            return result

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, step)
            try:
                Store.create(Directory(path), manifest, sync=True).close()
            except EndError:
                interrupted += 1
            else:
                break
        if (path / "MANIFEST").exists():
            store = Store.open(Directory(path), writable=True, sync=True)
        else:
            with pytest.raises(IndexPathError, match="not a vecindex index"):
                Store.open(Directory(path), writable=True, sync=True)
            store = Store.create(Directory(path), manifest, sync=True)
        store.put(*rows_of(["a"]))
        store.close()
        store = Store.open(Directory(path), writable=False, sync=True)
        assert list(content(store.state)) == ["a"]
        store.close()
        assert {file.name for file in path.iterdir()} == {"LOCK", "MANIFEST", "log-1.vxl"}
    assert interrupted


@pytest.mark.parametrize("kind", ["rows", "vectors", "ids", "dead"])
@pytest.mark.parametrize("damage", ["missing", "shorter", "longer"])
def test_a_file_that_is_not_as_the_manifest_says_is_named(
    path: Path, kind: str, damage: str
) -> None:
    with VectorIndex.create(path, spec="hnsw", maintenance="manual") as index:
        ids, _, vectors = rows_of(range(40))
        index.add(ids=ids, vectors=vectors)
        index.optimize()
        index.remove([3])
        index.add(ids=["new"], vectors=vectors[:1])
        index.optimize()
    (file,) = path.glob(f"{kind}-*")
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "shorter" else data + b"\0")
    says = "is missing, though MANIFEST names it" if damage == "missing" else "bytes, expected"
    before = sorted(path.iterdir())
    for mode in ("r", "r+"):
        with pytest.raises(CorruptIndexError, match=f"{file.name}.*{says}"):
            VectorIndex.open(path, mode)  # type: ignore[arg-type]
    assert sorted(path.iterdir()) == before, "nothing is cleared away beside damage"
    file.write_bytes(data)
    with VectorIndex.open(path, "r+") as index:
        assert len(index) == 40
        assert index.verify().ok


def test_damaged_marks_of_removed_rows_are_named(path: Path) -> None:
    with VectorIndex.create(path, spec="hnsw", maintenance="manual") as index:
        ids, _, vectors = rows_of(range(40))
        index.add(ids=ids, vectors=vectors)
        index.optimize()
        index.remove([3])
        index.add(ids=["new"], vectors=vectors[:1])
        index.optimize()
    (file,) = path.glob("dead-*")
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptIndexError, match=f"{file.name} is damaged at offset 0"):
        VectorIndex.open(path)
