"""Files of somebody who means harm, with all checksums right; opened with `trusted=False`."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.torture import fuzz, hostile
from tests.torture.samples import QUERIES, WHERE, ask, copied, make_full, names, rows
from tests.torture.targets import TARGETS
from vecindex import VectorIndex
from vecindex.errors import CorruptIndexError, EmbedderError, InputError, MetadataError
from vecindex.store.codec import RecordPacker, unpack_record
from vecindex.store.untrusted import admit_record


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "full.vx"
    make_full(path)
    return path


@pytest.fixture
def path(full: Path, tmp_path: Path) -> Path:
    return copied(full, tmp_path / "x.vx")


def untrusted(path: Path) -> VectorIndex:
    return VectorIndex.open(path, trusted=False)


def file_of(path: Path, kind: str) -> Path:
    return path / next(name for name in names(path) if name.startswith(kind))


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is for Linux only")
def test_a_short_fuzz_of_each_reader(tmp_path: Path) -> None:
    for target, outcome in fuzz.run(list(TARGETS), runs=60, seed=1, cache=tmp_path).items():
        assert not outcome.crashes, outcome.told
        assert outcome.executions >= 60
        assert outcome.corpus > len(TARGETS[target].seeds()), "nothing new was reached"


def test_caches_are_not_touched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vecindex import ann
    from vecindex.store import masks

    with VectorIndex.open(path) as index:
        right = ask(index)
    for name in names(path):
        if name.startswith(("structure", "columns", "queries")):
            (path / name).unlink()
            (path / name).symlink_to("/dev/zero")
    for module, name in ((ann, "load"), (masks, "read_columns")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("parsed"))
    with untrusted(path) as index:
        assert ask(index) == right
        assert index.search(QUERIES[0], k=3).plan.method == "exact"
        assert index.search(QUERIES[0], k=3, where=WHERE).plan.method == "exact"
        assert index.info().notes == (
            "opened as untrusted: structure and columns are not used, search is exact",
        )
        assert index.verify().ok


def test_it_can_only_be_read(path: Path) -> None:
    before = {name: (path / name).read_bytes() for name in names(path)}
    with pytest.raises(InputError, match="can only be read"):
        VectorIndex.open(path, "r+", trusted=False)
    with untrusted(path) as index:
        index.refresh()
    assert {name: (path / name).read_bytes() for name in names(path)} == before


@pytest.mark.parametrize("kind", ["MANIFEST", "vectors", "rows", "ids", "dead", "log"])
@pytest.mark.parametrize("how", ["link", "pipe", "directory"])
def test_only_plain_files_are_read(path: Path, tmp_path: Path, kind: str, how: str) -> None:
    file = file_of(path, kind)
    file.rename(tmp_path / "elsewhere")
    if how == "link":
        file.symlink_to(tmp_path / "elsewhere")
    elif how == "pipe":
        os.mkfifo(file)  # opened like a file, it would block for ever
    else:
        file.mkdir()
    with pytest.raises(CorruptIndexError, match="is no plain file"):
        untrusted(path)


NAMES = ["/etc/passwd", "../x.vx/log-1.vxl", "..", ".", "", "log-1.vxl\n", "sub/log-1.vxl",
         "log-1.vxl\0", "LOCK", "MANIFEST", 5, None, b"log-1.vxl"]  # fmt: skip


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("field", ["log", "vectors", "records", "ids", "dead", "structure"])
def test_names_cannot_leave_the_directory(path: Path, field: str, name: Any, trusted: bool) -> None:
    body = hostile.manifest_of(path)
    entry = {
        "log": body["logs"][-1], "dead": body["dead"], "structure": body["structure"]["file"],
    }.get(field) or body["segments"][0][field]  # fmt: skip
    entry[0] = name
    hostile.forge(path, body)
    with pytest.raises(CorruptIndexError):
        VectorIndex.open(path, trusted=trusted)


def test_a_name_of_another_kind_of_file(path: Path) -> None:
    body = hostile.manifest_of(path)
    body["segments"][0]["vectors"][0] = body["segments"][0]["records"][0]
    hostile.forge(path, body)
    with pytest.raises(CorruptIndexError, match="the name rows-"):
        untrusted(path)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"k": value}
    return value


@pytest.mark.parametrize("depth", [64, 66, 1000, 100_000])
def test_depth(tmp_path: Path, depth: int) -> None:
    """What can be written can be read; deeper is refused, far deeper by msgpack itself."""
    path = tmp_path / "x.vx"
    with VectorIndex.create(path, maintenance="manual") as index:
        index.add(ids=["a"], vectors=np.eye(8)[:1])
    (name,) = (name for name in names(path) if name.startswith("log"))
    ((fields, body, vectors),) = hostile.read_frames((path / name).read_bytes())
    body["records"][0] = b"\x93\xa1a\xc0" + b"\x81\xa1k" * depth + b"\x01"
    hostile.bless(path, name, hostile.write_frame(fields, body, vectors))
    if depth == 64:
        with untrusted(path) as index:
            assert index.get(["a"])[0].metadata == nested(64)
    else:
        with pytest.raises(CorruptIndexError, match=r"log-1.vxl is damaged at offset 0"):
            untrusted(path)


@pytest.mark.parametrize("end", [b"\x01", b"\x80", b"\x90"])
def test_what_is_let_in_could_have_been_written(end: bytes) -> None:
    """The innermost value is a number, an empty dict or an empty list."""
    let_in, written = [], []
    for depth in range(60, 70):
        record = b"\x93\xa1a\xc0" + b"\x81\xa1k" * depth + end
        with suppress(ValueError):
            admit_record(record)
            let_in.append(depth)
        with suppress(MetadataError):
            RecordPacker().pack(0, "a", None, unpack_record(record).metadata)
            written.append(depth)
    assert let_in == written
    assert len(written) in (5, 6)


CHILD = """
import re, sys
from vecindex import VectorIndex
from vecindex.errors import CorruptIndexError
peak = lambda: int(re.search(r"VmPeak:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
before = peak()
try:
    VectorIndex.open(sys.argv[1], trusted=False).close()
except CorruptIndexError:
    print(peak() - before)
"""


def bomb(counts: int, bytes_left: int) -> bytes:
    """Return msgpack that claims arrays of many entries within each other."""
    return (b"\xdd" + struct.pack(">I", counts)) * 900 + b"\xc0" * bytes_left


@pytest.mark.parametrize("where", ["manifest", "log", "record"])
def test_counts_are_not_believed(path: Path, where: str) -> None:
    """Room for a million entries at each of 900 depths would be 7 GB."""
    data = bomb(1_000_000, 1_000_000)
    if where == "record":
        name = file_of(path, "log").name
        frames = hostile.read_frames((path / name).read_bytes())
        frames[0][1]["records"][0] = data
        hostile.bless(path, name, b"".join(hostile.write_frame(*frame) for frame in frames))
    else:
        target = path / "MANIFEST" if where == "manifest" else file_of(path, "log")
        fields, _, _ = hostile.read_frames(target.read_bytes())[0]
        frame = bytearray(hostile.write_frame(fields, None, np.empty((0, 0), np.float32)))
        body = data + bytes(-len(data) % 64)
        struct.pack_into("<QQ", frame, 24, 64 + len(body), len(data))
        struct.pack_into("<I", frame, 52, hostile.zlib.crc32(body))
        struct.pack_into("<I", frame, 60, hostile.zlib.crc32(frame[:60]))
        target.write_bytes(bytes(frame[:64]) + body)
        if where == "log":
            hostile.bless(path, target.name, target.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200 << 20


def test_rows_are_not_believed(path: Path) -> None:
    """Numbers that no file is large enough for."""
    for rows_claimed in (2**40 - 1, 10**9, 41, 39, 0, -1):
        body = hostile.manifest_of(path)
        body["segments"][0]["rows"] = rows_claimed
        hostile.forge(path, body)
        for trusted in (False, True):
            with pytest.raises(CorruptIndexError):
                VectorIndex.open(path, trusted=trusted).close()


def test_rows_that_are_no_unit_rows(path: Path) -> None:
    name = file_of(path, "vectors").name
    data = bytearray((path / name).read_bytes())
    for value in (np.nan, np.inf, 100.0):
        struct.pack_into("<f", data, 64 + 8 * 4 * 2, value)
        hostile.bless(path, name, bytes(data))
        with pytest.raises(CorruptIndexError, match=f"{name}: row 2 is no unit row"):
            untrusted(path)


def test_ids_that_lead_elsewhere(path: Path) -> None:
    """Two keys change places in the table, though not in the records."""
    name = file_of(path, "ids").name
    data = (path / name).read_bytes()
    changed = data.replace(b"\xa4id 8", b"\xa4id X").replace(b"\xa4id 9", b"\xa4id 8")
    hostile.bless(path, name, changed.replace(b"\xa4id X", b"\xa4id 9"))
    with pytest.raises(CorruptIndexError, match="ids-"):
        untrusted(path)


def test_an_id_in_two_segments(tmp_path: Path) -> None:
    path = tmp_path / "x.vx"
    with VectorIndex.create(path, maintenance="manual") as index:
        for _ in range(2):
            index.upsert(**rows(0, 3))
            index._maintenance.seal()
        index.upsert(**rows(0, 1))
    untrusted(path).close()
    body = hostile.manifest_of(path)
    assert len(body["segments"]) == 2
    body["dead"] = None
    hostile.forge(path, body)
    with pytest.raises(CorruptIndexError, match="an id is there twice"):
        untrusted(path)


def test_an_operation_with_an_id_twice(path: Path) -> None:
    name = file_of(path, "log").name
    frames = hostile.read_frames((path / name).read_bytes())
    body = frames[0][1]
    body["ids"][1], body["records"][1] = body["ids"][0], body["records"][0]
    hostile.bless(path, name, b"".join(hostile.write_frame(*frame) for frame in frames))
    with pytest.raises(CorruptIndexError, match=r"log-\d+.vxl is damaged at offset 0: .* ids"):
        untrusted(path)


def test_no_embedder_is_restored(path: Path) -> None:
    body = hostile.manifest_of(path)
    body["embedder"] = {"name": "st:somebody/anything", "dim": 8, "revision": None}
    hostile.forge(path, body)
    with untrusted(path) as index, pytest.raises(EmbedderError, match=r"untrusted.*not restored"):
        index.search("a question")


def test_each_new_state_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.vx"
    with VectorIndex.create(path, maintenance="manual") as writer, untrusted(path) as reader:
        writer.add(**rows(0, 5))
        assert reader.refresh()
        writer.optimize("flat/pq4")
        writer.add(**rows(10, 5))
        assert reader.refresh()
        assert (len(reader), reader.info().structure) == (10, None)
        records = file_of(path, "rows")
        data = bytearray(records.read_bytes())
        writer.close()
        data[70] ^= 1
        records.unlink()
        hostile.bless(path, records.name, bytes(data))
        with pytest.raises(CorruptIndexError):
            reader.refresh()
        assert len(reader) == 10


def test_memory_is_a_small_multiple_of_the_files(tmp_path: Path) -> None:
    path = tmp_path / "x.vx"
    with VectorIndex.create(path, spec="flat", maintenance="manual") as index:
        index.add(**rows(0, 20_000))
        index.optimize()
    size = sum(file.stat().st_size for file in path.iterdir())
    child = (
        "import resource, sys\nfrom vecindex import VectorIndex\n"
        "import vecindex.store.store, numpy\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\nVectorIndex.open(sys.argv[1], trusted=False).close()\n"
        "print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8 * size + (32 << 20)


FOUND = {
    "a header of .npy that is no Python": ("sources", b"\x05" + b"\x93NUMPY\x01\0v\0{'d': (3, "),
    "notes that are nested too deep": ("notes", b"[" * 100_000),
}


@pytest.mark.parametrize(("target", "data"), FOUND.values(), ids=FOUND)
def test_what_the_fuzzer_found(target: str, data: bytes, tmp_path: Path) -> None:
    assert TARGETS[target].prepare(tmp_path)(data.ljust(140)) == "refused"


GUARDED = """
import sys
from pathlib import Path
from tests.torture.fuzz import OutsideError, guarded, limit_memory

work = Path(sys.argv[1])
with guarded(work) as watching:
    watching[0] = True
    (work / "inside").write_bytes(b"fine")
    for forbidden in (
        lambda: open("/etc/hosts"),
        lambda: open(work.parent / "outside", "w"),
        lambda: (work / "inside").rename(work.parent / "outside"),
        lambda: __import__("pickle").loads(b"cos\\nsystem\\n."),
        lambda: __import__("subprocess").run(["true"]),
    ):
        try:
            forbidden()
        except OutsideError:
            print("noticed")
limit_memory()
try:
    bytearray(1 << 30)
except MemoryError:
    print("noticed")
"""


def test_what_the_fuzzer_forbids_is_noticed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-c", GUARDED, str(work)]
    root = Path(fuzz.__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["noticed"] * 6, done.stderr
