"""What is written is read back without a copy, and nothing but that is read."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ann_data import (
    DIM,
    ROWS,
    SPECS,
    Builder,
    Case,
    Loader,
    Mapper,
    clustered,
    data,
    ends,
    read_mapped,
)

from vecindex.ann import flat_codes, hnsw, load, native, write
from vecindex.ann.flat_codes import FlatSq
from vecindex.ann.hnsw import Hnsw
from vecindex.ann.ivf import IvfSq
from vecindex.ann.ivf_pq import IvfPq
from vecindex.ann.native import faiss, flat_view
from vecindex.arrays import HEADER_BYTES, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import FlatSpec, HnswSpec, StructureSpec


def test_round_trip(case: Case, reloaded: Loader) -> None:
    structure, again = case.structure, reloaded(case.structure, case.spec, case.vectors)
    assert type(again) is type(structure)
    assert (again.kind, again.codes, again.rows, again.size_bytes, again.grid()) == (
        structure.kind,
        structure.codes,
        structure.rows,
        structure.size_bytes,
        structure.grid(),
    )
    assert getattr(again, "trained", None) == getattr(structure, "trained", None)
    for params in (case.good, *ends(structure)):
        for slots in (10, 100):
            np.testing.assert_array_equal(
                again.find(case.queries, slots, params),
                structure.find(case.queries, slots, params),
            )
        assert again.widen(params, 50) == structure.widen(params, 50)
    np.testing.assert_array_equal(data(again), data(structure))


def test_the_file_may_cover_fewer_rows(plain: Case, mapped: Mapper) -> None:
    more = mapped(np.vstack([plain.vectors.rows, clustered(500, seed=8)]))
    again = load(plain.spec, data(plain.structure), more)
    assert again.rows == ROWS
    np.testing.assert_array_equal(
        again.find(plain.queries, 40, plain.good),
        plain.structure.find(plain.queries, 40, plain.good),
    )


def test_everything_needed_is_kept_alive(plain: Case, mapped: Mapper, tmp_path: Path) -> None:
    expected = plain.structure.find(plain.queries, 40, plain.good)
    file = tmp_path / "structure"
    with file.open("wb") as out:
        write(plain.structure, out.write)
    again = load(plain.spec, read_mapped(file), mapped(plain.vectors.rows.copy()))
    file.unlink()
    gc.collect()
    [np.full(10**6, 255, np.uint8) for _ in range(20)]  # would land where something was freed
    np.testing.assert_array_equal(again.find(plain.queries, 40, plain.good), expected)


def test_nothing_large_is_copied(plain: Case) -> None:
    loaded = load(plain.spec, data(plain.structure), plain.vectors)
    if isinstance(loaded, Hnsw):
        assert not loaded.index.hnsw.neighbors.is_owned
    if loaded.codes == "float32":
        assert loaded.size_bytes < plain.vectors.rows.nbytes
    if loaded.kind == "hnsw" and loaded.codes == "float32":
        assert loaded.index.storage.ntotal == ROWS
    if isinstance(loaded, FlatSq):
        assert not loaded.index.codes.is_owned
    if isinstance(loaded, IvfSq | IvfPq):
        assert loaded.index.ntotal == ROWS * (1 + loaded.repeats)


def test_the_view_is_the_mapped_rows(mapped: Mapper) -> None:
    vectors = mapped(clustered(50, seed=3))
    before = vectors.rows.copy()
    view = flat_view(vectors)
    assert faiss.rev_swig_ptr(view.codes.data(), 1).ctypes.data == vectors.rows.ctypes.data
    np.testing.assert_array_equal(view.reconstruct_n(0, 50), before)
    np.testing.assert_array_equal(vectors.rows, before)
    assert bytes(vectors.buffer[:8]) == b"\xab" * 8  # only the end of the header is ours


def test_a_layout_that_faiss_does_not_have(mapped: Mapper, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = mapped(clustered(50, seed=3))
    other = MappedRows(vectors.rows.copy(), vectors.buffer)
    with pytest.raises(RuntimeError, match="did not map"):
        flat_view(other)
    monkeypatch.setattr(native, "HEADER_BYTES", 40)
    with pytest.raises(RuntimeError, match="does not fit"):
        flat_view(vectors)


def type_codes(structure: UInt8Array, case: Case) -> list[int]:
    """Return where FAISS's type codes stand in a structure's bytes."""
    if case.name != "ivf/pq4":
        return [0]
    return [0, int(structure[-16:-8].view("<i8")[0])]  # of the scan, and of the lists


@pytest.mark.parametrize("code", [b"IxFl", b"ilod", b"IxMp", b"\0\0\0\0"])
def test_type_codes_are_checked(plain: Case, code: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data(plain.structure)
    for place in type_codes(whole, plain):
        damaged = whole.copy()
        damaged[place : place + 4] = list(code)
        if place == 0:
            with monkeypatch.context() as patch:
                patch.setattr(faiss, "read_index", lambda *_: pytest.fail("FAISS saw it"))
                with pytest.raises(CorruptIndexError, match="type code"):
                    load(plain.spec, damaged, plain.vectors)
        else:
            with pytest.raises(CorruptIndexError, match="type code"):
                load(plain.spec, damaged, plain.vectors)


@pytest.mark.parametrize("other", [*SPECS, "flat"])
def test_bytes_of_another_structure(plain: Case, other: str, built: Builder) -> None:
    if other != plain.name:
        spec = SPECS.get(other, FlatSpec())
        with pytest.raises(CorruptIndexError):
            load(spec, data(plain.structure), plain.vectors)


def test_fewer_rows(case: Case, mapped: Mapper) -> None:
    fewer = mapped(case.vectors.rows[: ROWS - 1].copy())
    with pytest.raises(CorruptIndexError, match="but there are"):
        load(case.spec, data(case.structure), fewer)


@pytest.mark.parametrize("more", [-23, -1, 1, 2, 8])
def test_rows_of_another_dimension(case: Case, more: int, mapped: Mapper) -> None:
    own = case.vectors.rows.shape[1]
    dim = own + more
    same_codes = case.spec.codes == "pq4" and -(-dim // 8) == -(-own // 8)  # padded, they suit both
    if dim > 0 and not same_codes:
        other = mapped(clustered(ROWS, seed=1, dim=dim))
        with pytest.raises(CorruptIndexError, match="but there are"):
            load(case.spec, data(case.structure), other)


def test_truncated_bytes(plain: Case) -> None:
    whole = data(plain.structure)
    size = len(whole)
    ends = {*range(49), *range(size - 60, size), *np.linspace(49, size - 60, 60, dtype=int)}
    for end in sorted(ends):
        with pytest.raises(CorruptIndexError):
            load(plain.spec, whole[:end].copy(), plain.vectors)


@pytest.mark.parametrize("more", [1, 8, 16, 24, 1000])
def test_too_many_bytes(plain: Case, more: int) -> None:
    whole = data(plain.structure)
    for tail in (whole[-more:], np.zeros(more, np.uint8)):
        with pytest.raises(CorruptIndexError):
            load(plain.spec, np.concatenate([whole, tail]), plain.vectors)


NLIST = 76  # of the lists in one dimension
BOUNDS = -24 - 4 * ROWS - 8 * (NLIST + 1)  # where the ends of the lists stand, from the end
MEMBERS = -24 - 4 * ROWS
NUMBERS = -24


@pytest.mark.parametrize(
    ("place", "kind", "values"),
    [
        (BOUNDS, "<i8", [1]),  # the first list begins late
        (BOUNDS + 8, "<i8", [ROWS]),  # a list ends before it begins
        (MEMBERS - 8, "<i8", [ROWS - 1]),  # the last list ends early
        (MEMBERS, "<i4", [ROWS]),  # a row that does not exist
        (MEMBERS, "<i4", [-1]),
        (NUMBERS, "<i8", [NLIST + 1]),
        (NUMBERS, "<i8", [0]),
        (NUMBERS, "<i8", [NLIST, ROWS - 2]),
        (NUMBERS, "<i8", [NLIST, -1]),
        (NUMBERS, "<i8", [1 << 62, 1 << 62]),
    ],
)
def test_lists_that_do_not_add_up(place: int, kind: str, values: list[int], built: Builder) -> None:
    case = built("ivf", DIM)
    assert case.structure.nlist == NLIST
    damaged, raw = data(case.structure).copy(), np.array(values, kind).view(np.uint8)
    place += len(damaged)
    assert not np.array_equal(damaged[place : place + len(raw)], raw)
    damaged[place : place + len(raw)] = raw
    with pytest.raises(CorruptIndexError):
        load(case.spec, damaged, case.vectors)


def test_lists_of_other_codes(built: Builder) -> None:
    """Put the scan of one structure before the lists of another."""
    mine, other = data(built("ivf/pq4", DIM).structure), data(built("ivf/pq4", 10).structure)
    scan, lists = (
        mine[: type_codes(mine, built("ivf/pq4", DIM))[1]],
        other[type_codes(other, built("ivf/pq4", 10))[1] : -16],
    )
    mixed = np.concatenate([scan, lists, mine[-16:]])
    with pytest.raises(CorruptIndexError, match="do not fit"):
        load(SPECS["ivf/pq4"], mixed, built("ivf/pq4", DIM).vectors)


def test_a_graph_with_its_own_vectors_or_metric(mapped: Mapper) -> None:
    vectors = mapped(clustered(50, seed=3))
    full = faiss.IndexHNSWFlat(32, 4, faiss.METRIC_INNER_PRODUCT)
    full.add(vectors.rows)
    with pytest.raises(CorruptIndexError, match="vectors of its own"):
        load(HnswSpec(), faiss.serialize_index(full), vectors)
    other = faiss.IndexHNSWFlat(32, 4, faiss.METRIC_L2)
    other.add(vectors.rows)
    with pytest.raises(CorruptIndexError, match="another metric"):
        load(HnswSpec(), native.to_bytes(other, faiss.IO_FLAG_SKIP_STORAGE), vectors)


@pytest.mark.parametrize("codes", ["float32", "bf16", "sq8", "sq4"])
def test_a_graph_that_starts_nowhere(codes: str, built: Builder) -> None:
    case = built("hnsw" if codes == "float32" else f"hnsw/{codes}", DIM)
    graph = faiss.deserialize_index(data(case.structure))
    graph.hnsw.entry_point = -1
    damaged = native.to_bytes(graph, faiss.IO_FLAG_SKIP_STORAGE * (codes == "float32"))
    with pytest.raises(CorruptIndexError, match="starts at no row"):
        load(case.spec, damaged, case.vectors)


@pytest.mark.parametrize("codes", ["bf16", "sq8", "sq4"])
def test_codes_of_another_metric(codes: str, mapped: Mapper) -> None:
    vectors = mapped(clustered(50, seed=3))
    kind = flat_codes.QUANTIZERS[codes]
    flat = faiss.IndexScalarQuantizer(DIM, kind, faiss.METRIC_L2)
    graph = faiss.IndexHNSWSQ(DIM, kind, 4, faiss.METRIC_L2)
    cases: list[tuple[Any, StructureSpec]] = [(graph, HnswSpec(codes=codes))]
    if codes != "sq4":
        cases.append((flat, FlatSpec(codes)))
    for index, spec in cases:
        index.train(vectors.rows)
        index.add(vectors.rows)
        with pytest.raises(CorruptIndexError):
            load(spec, native.to_bytes(index), vectors)


@pytest.mark.parametrize("after", [0, 1])
def test_errors_of_the_file_pass_unchanged(
    plain: Case, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_PIECE", 1000)
    monkeypatch.setattr(hnsw, "_PIECE", 1000)
    full = OSError(28, "no space left")
    written = []

    def fail(view: memoryview) -> int:
        if len(written) == after:
            raise full
        written.append(bytes(view))
        return len(view)

    with pytest.raises(OSError, match="no space left") as caught:
        write(plain.structure, fail)
    assert caught.value is full
    assert len(data(plain.structure)) >= plain.structure.size_bytes - 8 * ROWS  # it is whole


def test_large_structures_are_written_in_pieces(
    plain: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data(plain.structure)
    monkeypatch.setattr(native, "_PIECE", 1000)
    monkeypatch.setattr(hnsw, "_PIECE", 1000)
    pieces: list[bytes] = []
    write(plain.structure, lambda view: pieces.append(bytes(view)))
    assert len(pieces) > 1
    assert b"".join(pieces) == whole.tobytes()


def test_the_header_fits() -> None:
    assert len(faiss.serialize_index(faiss.IndexFlatIP(32))) <= HEADER_BYTES
