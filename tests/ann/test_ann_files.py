"""What is written is read back without a copy, and nothing but that is read."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from ann_data import Loader, Mapper, answer, clustered, read_mapped

from vecindex.ann import Structure, build, load, write
from vecindex.ann.hnsw import Hnsw
from vecindex.ann.native import faiss, flat_view
from vecindex.arrays import HEADER_BYTES, Float32Array, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import HnswSpec


def data(structure: Structure) -> UInt8Array:
    """Return the structure's bytes."""
    pieces: list[bytes] = []
    write(structure, lambda view: pieces.append(bytes(view)))
    return np.frombuffer(b"".join(pieces), np.uint8)


def test_round_trip(
    structure: Structure, vectors: MappedRows, queries: Float32Array, reloaded: Loader
) -> None:
    again = reloaded(structure, vectors)
    assert (again.kind, again.rows, again.size_bytes, again.grid()) == (
        structure.kind,
        structure.rows,
        structure.size_bytes,
        structure.grid(),
    )
    for params in structure.grid()[:6]:
        for mine, other in zip(
            answer(again, vectors.rows, queries, 10, params),
            answer(structure, vectors.rows, queries, 10, params),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(data(again), data(structure))


def test_the_file_may_cover_fewer_rows(
    structure: Structure, mapped: Mapper, vectors: MappedRows, queries: Float32Array
) -> None:
    more = mapped(np.vstack([vectors.rows, clustered(500, seed=8)]))
    again = load(structure.kind, data(structure), more)
    params = structure.grid()[3]
    assert again.rows == 6000
    np.testing.assert_array_equal(
        again.propose(queries, 10, params), structure.propose(queries, 10, params)
    )


def test_everything_needed_is_kept_alive(
    structure: Structure, mapped: Mapper, vectors: MappedRows, queries: Float32Array, tmp_path: Path
) -> None:
    params = structure.grid()[3]
    expected = structure.propose(queries, 10, params)
    file = tmp_path / "structure"
    with file.open("wb") as out:
        write(structure, out.write)
    again = load(structure.kind, read_mapped(file), mapped(vectors.rows.copy()))
    file.unlink()
    gc.collect()
    [np.full(10**6, 255, np.uint8) for _ in range(20)]  # would land where something was freed
    np.testing.assert_array_equal(again.propose(queries, 10, params), expected)


def test_nothing_large_is_copied(vectors: MappedRows, structures: dict[str, Structure]) -> None:
    loaded = load("hnsw", data(structures["hnsw"]), vectors)
    assert isinstance(loaded, Hnsw)
    assert not loaded.graph.hnsw.neighbors.is_owned
    assert loaded.graph.storage.ntotal == len(vectors.rows)
    assert loaded.size_bytes < vectors.rows.nbytes


def test_the_view_is_the_mapped_rows(mapped: Mapper) -> None:
    vectors = mapped(clustered(50, seed=3))
    before = vectors.rows.copy()
    view = flat_view(vectors)
    assert faiss.rev_swig_ptr(view.codes.data(), 1).ctypes.data == vectors.rows.ctypes.data
    np.testing.assert_array_equal(view.reconstruct_n(0, 50), before)
    np.testing.assert_array_equal(vectors.rows, before)
    assert bytes(vectors.buffer[:8]) == b"\xab" * 8  # only the end of the header is ours


def test_a_layout_that_faiss_does_not_have(mapped: Mapper, monkeypatch: pytest.MonkeyPatch) -> None:
    from vecindex.ann import native

    vectors = mapped(clustered(50, seed=3))
    other = MappedRows(vectors.rows.copy(), vectors.buffer)
    with pytest.raises(RuntimeError, match="did not map"):
        flat_view(other)
    monkeypatch.setattr(native, "HEADER_BYTES", 40)
    with pytest.raises(RuntimeError, match="does not fit"):
        flat_view(vectors)


@pytest.mark.parametrize("code", [b"IxFI", b"ilod", b"IxMp", b"\0\0\0\0"])
def test_type_codes_are_checked(
    structure: Structure, vectors: MappedRows, code: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = data(structure).copy()
    damaged[:4] = list(code)
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("FAISS saw it"))
    with pytest.raises(CorruptIndexError, match="type code"):
        load(structure.kind, damaged, vectors)
    with pytest.raises(CorruptIndexError, match="type code"):
        load(structure.kind, damaged[:2], vectors)


def test_a_structure_of_another_kind(structures: dict[str, Structure], vectors: MappedRows) -> None:
    with pytest.raises(CorruptIndexError, match="type code"):
        load("hnsw", data(structures["ivf"]), vectors)
    with pytest.raises(CorruptIndexError, match="type code"):
        load("ivf", data(structures["hnsw"]), vectors)
    with pytest.raises(CorruptIndexError, match="unknown structure 'pickle'"):
        load("pickle", data(structures["hnsw"]), vectors)


def test_a_structure_over_other_rows(structure: Structure, mapped: Mapper) -> None:
    fewer = mapped(clustered(5999, seed=1))
    narrower = mapped(clustered(6000, seed=1, dim=31))
    for other in (fewer, narrower):
        with pytest.raises(CorruptIndexError, match="but there are"):
            load(structure.kind, data(structure), other)


def test_bytes_too_few_or_too_many(structure: Structure, vectors: MappedRows) -> None:
    whole = data(structure)
    for other in (np.append(whole, whole[:16]), whole[:-16]):
        with pytest.raises(CorruptIndexError):
            load(structure.kind, np.ascontiguousarray(other), vectors)


def test_a_graph_with_its_own_vectors_or_metric(mapped: Mapper) -> None:
    vectors = mapped(clustered(50, seed=3))
    full = faiss.IndexHNSWFlat(32, 4, faiss.METRIC_INNER_PRODUCT)
    full.add(vectors.rows)
    with pytest.raises(CorruptIndexError, match="another metric, or vectors of its own"):
        load("hnsw", faiss.serialize_index(full), vectors)
    other = faiss.IndexHNSWFlat(32, 4, faiss.METRIC_L2)
    other.add(vectors.rows)
    writer = faiss.VectorIOWriter()
    faiss.write_index(other, writer, faiss.IO_FLAG_SKIP_STORAGE)
    with pytest.raises(CorruptIndexError, match="another metric"):
        load("hnsw", faiss.vector_to_array(writer.data), vectors)


@pytest.mark.parametrize("after", [0, 1])
def test_errors_of_the_file_pass_unchanged(
    structure: Structure, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"vecindex.ann.{structure.kind}._PIECE", 100_000)
    full = OSError(28, "no space left")
    written = []

    def fail(view: memoryview) -> int:
        if len(written) == after:
            raise full
        written.append(bytes(view))
        return len(view)

    with pytest.raises(OSError, match="no space left") as caught:
        write(structure, fail)
    assert caught.value is full
    assert len(data(structure)) >= structure.size_bytes  # the structure is whole


def test_large_graphs_are_written_in_pieces(
    vectors: MappedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vecindex.ann import hnsw

    structure = build(HnswSpec(4, 10), vectors)
    whole = data(structure)
    monkeypatch.setattr(hnsw, "_PIECE", 1000)
    sizes: list[int] = []
    write(structure, lambda view: sizes.append(len(view)))
    assert max(sizes) == 1000
    assert sum(sizes) == len(whole)


def test_the_header_fits() -> None:
    assert len(faiss.serialize_index(faiss.IndexFlatIP(32))) <= HEADER_BYTES
