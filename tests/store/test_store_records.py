"""Records files, vectors files: what was written, by row, and the bytes by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import msgpack
import numpy as np
import pytest
from sample_rows import rows_of

from vecindex.errors import CorruptIndexError
from vecindex.store.files import BLOCK_BYTES, Directory, FileEntry
from vecindex.store.records import RECORDS_PER_BLOCK, RecordsFile, write_records
from vecindex.store.vectors import VectorsFile, write_vectors


def written(directory: Directory, records: list[bytes]) -> RecordsFile:
    entry = write_records(directory, "rows-1.vxr", iter(records), len(records))
    assert entry.size == directory.size("rows-1.vxr")
    return RecordsFile(directory, entry, len(records))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 32, 33, 1000])
def test_any_number_of_records(directory: Directory, count: int) -> None:
    rng = np.random.default_rng(count)
    records = [rng.bytes(int(size)) for size in rng.integers(0, 60, size=count)]
    file = written(directory, records)
    assert list(file.scan()) == records
    assert file.get(np.arange(count)) == records
    order = rng.integers(0, count, size=40)
    assert file.get(order) == [records[i] for i in order]
    assert file.get(np.array([], dtype=np.int64)) == []


def test_empty_and_huge_records(directory: Directory) -> None:
    records = [b"", b"x" * 3_000_000, b"", b"y", *[b""] * 20, b"z" * 700_000]
    file = written(directory, records)
    assert list(file.scan()) == records
    assert file.get(np.array([24, 1, 0, 1])) == [records[24], records[1], b"", records[1]]


def test_record_bytes_are_as_documented(directory: Directory) -> None:
    _, records, _ = rows_of(list(range(20)))
    written(directory, records)
    data = directory.read("rows-1.vxr")
    assert struct.unpack_from("<4sHHQ", data) == (b"VXR\n", 1, RECORDS_PER_BLOCK, 20)
    assert struct.unpack_from("<I", data, 60)[0] == zlib.crc32(data[:60])
    offsets = np.frombuffer(data[-28:-4], "<u8").tolist()
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[-28:-4])
    assert (offsets[0], offsets[-1]) == (64, len(data) - 28)
    found = []
    for start, stop, count in zip(offsets[:-1], offsets[1:], (16, 4), strict=True):
        crc, size = struct.unpack_from("<II", data, start)
        rest = data[start + 8 : stop]
        assert (size, crc) == (len(rest), zlib.crc32(rest))
        ends = [0, *np.frombuffer(rest, "<u4", count=count).tolist()]
        payload = rest[count * 4 :]
        found += [payload[ends[i] : ends[i + 1]] for i in range(count)]
    assert found == records
    assert msgpack.unpackb(found[17]) == [17, "text 17", {"n": 17}]


def test_a_flipped_byte_is_an_error_never_another_record(directory: Directory) -> None:
    _, records, _ = rows_of(list(range(20)))
    file = written(directory, records)
    path, good = directory.path / "rows-1.vxr", directory.read("rows-1.vxr")
    noticed = 0
    for offset in range(len(good)):
        damaged = bytearray(good)
        damaged[offset] ^= 0x08
        path.write_bytes(damaged)
        again = RecordsFile(directory, file.file.entry, 20)
        assert again.file.bad_blocks() == [0], "verify finds it wherever it is"
        try:
            assert list(again.scan()) == records
            assert again.get(np.arange(20)) == records
        except CorruptIndexError as error:
            assert "rows-1.vxr is damaged at offset" in str(error)
            noticed += 1
    assert noticed >= len(good) - 64 - 4


def test_a_file_for_another_number_of_records_is_refused(directory: Directory) -> None:
    entry = written(directory, [b"a", b"b"]).file.entry
    with pytest.raises(CorruptIndexError, match="too small for 99999 records"):
        RecordsFile(directory, entry, 99_999)


def test_a_failing_source_of_records_leaves_no_open_file(directory: Directory) -> None:
    def records() -> object:
        yield b"a"
        raise RuntimeError("source failed")

    with pytest.raises(RuntimeError, match="source failed"):
        write_records(directory, "rows-1.vxr", records(), 2)  # type: ignore[arg-type]
    directory.remove("rows-1.vxr")
    assert written(directory, [b"b"]).get(np.array([0])) == [b"b"]


# -- vectors -------------------------------------------------------------------------------


def write_matrix(directory: Directory, matrix: np.ndarray, chunk: int = 7) -> FileEntry:
    chunks = [matrix[start : start + chunk] for start in range(0, len(matrix), chunk)]
    return write_vectors(directory, "vectors-1.f32", chunks, matrix.shape)


@pytest.mark.parametrize("shape", [(1, 1), (20, 3), (50, 16), (3, 1000)], ids=str)
def test_vectors_can_be_read_with_numpy_alone(
    directory: Directory, tmp_path: Path, shape: tuple[int, int]
) -> None:
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    entry = write_matrix(directory, matrix)
    path = tmp_path / "vectors-1.f32"
    by_hand = np.memmap(path, "<f4", mode="r", offset=64).reshape(-1, shape[1])
    np.testing.assert_array_equal(by_hand, matrix)
    data = path.read_bytes()
    assert struct.unpack_from("<4sHHQI", data) == (b"VXV\n", 1, 0, *shape)
    assert struct.unpack_from("<I", data, 60)[0] == zlib.crc32(data[:60])
    blocks = [data[i : i + BLOCK_BYTES] for i in range(0, len(data), BLOCK_BYTES)]
    assert np.frombuffer(entry.crcs, "<u4").tolist() == [zlib.crc32(block) for block in blocks]
    file = VectorsFile(directory, entry, shape)
    np.testing.assert_array_equal(file.rows, matrix)
    with pytest.raises(ValueError, match="read-only"):
        file.rows[0, 0] = 1


def test_the_header_can_be_used_in_memory_only(directory: Directory) -> None:
    matrix = np.ones((4, 4), dtype=np.float32)
    entry = write_matrix(directory, matrix)
    before = directory.read("vectors-1.f32")
    file = VectorsFile(directory, entry, (4, 4))
    file.mapped.buffer[:64] = 7
    assert directory.read("vectors-1.f32") == before
    file.check_rows()
    assert VectorsFile(directory, entry, (4, 4)).file.bad_blocks() == []


def test_damaged_blocks_are_noticed_when_their_rows_are_used(directory: Directory) -> None:
    dim = 96
    rows = 3 * BLOCK_BYTES // (dim * 4)
    matrix = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    entry = write_matrix(directory, matrix, 500)
    path = directory.path / "vectors-1.f32"
    damaged = bytearray(path.read_bytes())
    damaged[BLOCK_BYTES + 1000] ^= 1
    path.write_bytes(damaged)
    file = VectorsFile(directory, entry, matrix.shape)
    bad = (BLOCK_BYTES + 1000 - 64) // (dim * 4)
    good = np.array([0, 5, rows - 1])
    file.check_rows(good)
    for asked in ([bad], [0, bad, rows - 1], [BLOCK_BYTES // (dim * 4) + 3]):
        with pytest.raises(CorruptIndexError, match=f"at offset {BLOCK_BYTES}: .*block 1"):
            file.check_rows(np.array(asked))
    # A row that begins in the good block and ends in the damaged one.
    straddling = (BLOCK_BYTES - 64) // (dim * 4)
    with pytest.raises(CorruptIndexError):
        file.check_rows(np.array([straddling]))
    with pytest.raises(CorruptIndexError):
        file.check_rows()
    file.check_rows(good)
    assert file.file.bad_blocks() == [BLOCK_BYTES]


def test_a_vectors_file_of_another_shape_is_refused(directory: Directory) -> None:
    entry = write_matrix(directory, np.ones((4, 4), dtype=np.float32))
    for shape in ((5, 4), (4, 3), (3, 4)):
        with pytest.raises(CorruptIndexError, match="cannot hold"):
            VectorsFile(directory, entry, shape)


def test_checksums_that_do_not_fit_the_size_are_refused(directory: Directory) -> None:
    entry = write_matrix(directory, np.ones((4, 4), dtype=np.float32))
    with pytest.raises(CorruptIndexError, match="wrong number of checksums"):
        VectorsFile(directory, FileEntry(entry.name, entry.size, entry.crcs * 2), (4, 4))
    with pytest.raises(CorruptIndexError, match="block 0"):
        VectorsFile(directory, FileEntry(entry.name, entry.size, b"\0" * 4), (4, 4)).check_rows()
