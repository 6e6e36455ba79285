"""4-bit codes: read back out of FAISS's packed blocks, padded, and scanned in part."""

from __future__ import annotations

import numpy as np
import pytest
from ann_data import Mapper, clustered, share

from vecindex.ann import Scan, build, codebook, exact_search
from vecindex.ann.base import Watch
from vecindex.ann.codebook import BLOCK_ROWS, padded
from vecindex.ann.native import faiss
from vecindex.arrays import Float32Array, Int64Array, UInt8Array
from vecindex.spec import FlatSpec

DIMS = [3, 8, 10, 30, 32, 33, 40]


def scan_of(rows: Float32Array) -> tuple[Scan, UInt8Array]:
    """Return the scan of rows, and their codes as FAISS's plain index holds them."""
    words = codebook.train(rows)
    scan = Scan.build(words, rows, None, Watch())
    return scan, faiss.vector_to_array(words.codes).reshape(len(rows), words.code_size)


@pytest.mark.parametrize("dim", DIMS)
def test_padding_adds_only_zeros(dim: int) -> None:
    rows = clustered(20, seed=1, dim=dim)
    wide = padded(rows)
    assert wide.shape == (20, -(-dim // 8) * 8)
    assert wide.dtype == np.float32
    assert wide.flags.c_contiguous
    np.testing.assert_array_equal(wide[:, :dim], rows)
    assert not wide[:, dim:].any()
    if dim % 8 == 0:
        assert wide is rows


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("count", [16, 31, 32, 33, 100, 1000])
def test_unpacked_codes_are_faiss_own(dim: int, count: int) -> None:
    scan, codes = scan_of(clustered(count, seed=1, dim=dim))
    rng = np.random.default_rng(count)
    index = scan.index
    partial = np.arange(count - count % BLOCK_ROWS, count)  # of the last block
    for rows in (np.arange(count), rng.permutation(count), rng.integers(count, size=7), partial):
        found = codebook.unpack(index, rows)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, codes[rows])


def test_codes_are_the_nearest_words() -> None:
    rows = clustered(300, seed=1, dim=10)
    scan, codes = scan_of(rows)
    assert codes.shape == (300, 2)  # 16 dimensions, four a word, two words a byte
    pq = scan.index.pq
    table = faiss.vector_to_array(pq.centroids).reshape(pq.M, 16, 4)
    parts = padded(rows).reshape(300, pq.M, 4)
    distances = ((parts[:, :, None] - table[None]) ** 2).sum(axis=3)
    chosen = np.stack([codes & 15, codes >> 4], axis=2).reshape(300, pq.M)
    own = np.take_along_axis(distances, chosen[:, :, None].astype(int), 2)[:, :, 0]
    np.testing.assert_allclose(own, distances.min(axis=2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [10, 128])
def test_words_do_not_depend_on_the_threads(dim: int) -> None:
    rows = clustered(300, seed=1, dim=dim)
    wide = padded(rows)
    whole = faiss.IndexPQ(wide.shape[1], wide.shape[1] // 4, 4, faiss.METRIC_INNER_PRODUCT)
    whole.pq.cp.seed, whole.pq.cp.min_points_per_centroid = 1234, 1
    whole.pq.cp.niter = 10
    sample = np.random.default_rng(1234).choice(300, 300, replace=False)
    whole.train(wide[np.sort(sample)])
    for threads in (1, 2, 3):
        words = codebook.train(rows, threads)
        assert words.is_trained
        np.testing.assert_array_equal(
            faiss.vector_to_array(words.pq.centroids), faiss.vector_to_array(whole.pq.centroids)
        )


def test_codes_do_not_depend_on_the_rows_around_them() -> None:
    rows = clustered(200, seed=1, dim=33)
    scan, codes = scan_of(rows)
    fresh = codebook.empty_like(scan.index)
    alone = Scan.build(fresh, rows[50:90], 1, Watch())
    np.testing.assert_array_equal(codebook.unpack(alone.index, np.arange(40)), codes[50:90])
    again = codebook.from_codes(scan.index, codes[50:90])
    assert again.ntotal == 40
    np.testing.assert_array_equal(again.reconstruct_n(0, 40), fresh.reconstruct_n(0, 40))


def scores_of(scan: Scan, queries: Float32Array) -> Float32Array:
    """Return the scores of all codes, by code, as FAISS gives them; -inf where it gives none."""
    found, rows = scan.index.search(padded(queries), scan.count)
    scores = np.full((len(queries), scan.count + 1), -np.inf, np.float32)
    np.put_along_axis(scores, rows, found, 1)
    return scores[:, : scan.count]


@pytest.mark.parametrize("dim", [30, 32, 33])
@pytest.mark.parametrize("count", [1, 7, 32, 100, 777])
def test_a_subset_finds_what_all_find_among_its_rows(dim: int, count: int) -> None:
    scan, _ = scan_of(clustered(1000, seed=1, dim=dim))
    asked = clustered(40, seed=2, dim=dim)
    rows = np.sort(np.random.default_rng(count).choice(1000, count, replace=False))
    subset = scan.subset(rows)
    assert subset.count == count
    assert subset.size_bytes < scan.size_bytes * (count + BLOCK_ROWS) / 1000 + 8 * count + 1
    scores = scores_of(scan, asked)
    np.testing.assert_array_equal(scores_of(subset, asked), scores[:, rows])  # the same codes
    for slots in (1, 5, 60):
        found = subset.find(asked, slots)
        assert found.shape == (40, min(slots, count))
        assert_best(found, rows, scores)
        every = subset.find(asked, slots, 1)
        for i in range(5):
            np.testing.assert_array_equal(subset.find(asked[i : i + 1], slots)[0], found[i])
        np.testing.assert_array_equal(every, found)


def assert_best(found: Int64Array, allowed: Int64Array, scores: Float32Array) -> None:
    """Assert that these are the best of the allowed rows by their codes, ties aside."""
    width = found.shape[1]
    assert np.isin(found, allowed).all()
    assert all(len(set(row)) == width for row in found.tolist())
    best = -np.sort(-scores[:, allowed], axis=1)[:, :width]
    np.testing.assert_array_equal(np.take_along_axis(scores, found, 1), best)


def test_the_whole_scan_finds_the_best_codes() -> None:
    scan, _ = scan_of(clustered(1000, seed=1))
    asked = clustered(40, seed=2)
    assert_best(scan.find(asked, 50), np.arange(1000), scores_of(scan, asked))


@pytest.mark.parametrize("dim", [8, 16])
def test_no_row_stands_in_for_one_that_is_not_found(dim: int) -> None:
    """FAISS does not return a row whose code is the worst of all that there can be: a pad."""
    rows = clustered(500, seed=1, dim=dim)
    scan, _ = scan_of(rows)
    for number in range(100):
        opposite = np.ascontiguousarray(-rows[number : number + 1])
        some = np.array([number, number + 100, number + 300])
        found = [row for row in scan.subset(some).find(opposite, 10)[0].tolist() if row >= 0]
        assert len(set(found)) == len(found), f"row {number}"
        assert set(found) <= set(some.tolist())


def test_scores_of_codes_are_near_the_true_ones(mapped: Mapper) -> None:
    rows, asked = clustered(1000, seed=1), clustered(40, seed=2)
    structure = build(FlatSpec("pq4"), mapped(rows))
    assert structure.scan is not None
    truth = asked.astype(np.float64) @ rows.T.astype(np.float64)
    errors = scores_of(structure.scan, asked) - truth
    assert np.abs(errors).mean() < 0.12
    near = structure.scan.find(asked, 100)
    assert share(near, exact_search(rows, asked, 10)[1]) > 0.9


def test_a_layout_that_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, _ = scan_of(clustered(100, seed=1))
    monkeypatch.setattr(codebook, "_PLACE", np.roll(codebook._PLACE, 1))
    with pytest.raises(RuntimeError, match="unknown way"):
        scan.subset(np.arange(3, 50))
