"""Each row in two lists: which ones, how the lists are filled, and what it is good for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ann_data import DIM, ROWS, Builder, clustered

from vecindex.ann import codebook, ivf_build
from vecindex.ann.ivf import search_params
from vecindex.ann.ivf_pq import IvfPq, assign, fill
from vecindex.ann.native import faiss
from vecindex.arrays import Float32Array, Int64Array, unit_rows


def centroids(count: int, dim: int = DIM) -> Any:
    """Return FAISS's index of so many unit rows."""
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(clustered(count, seed=7, dim=dim))
    return quantizer


def losses(rows: Float32Array, centres: Float32Array) -> tuple[Int64Array, np.ndarray]:
    """Return each row's nearest list, and SOAR's loss of every list, by the book in float64."""
    x, c = rows.astype(np.float64), centres.astype(np.float64)
    first = (x @ c.T).argmax(axis=1)
    residuals = x[:, None] - c[None]  # (n, lists, dim)
    own = residuals[np.arange(len(x)), first]
    direction = own / np.linalg.norm(own, axis=1)[:, None]
    along = np.einsum("nld,nd->nl", residuals, direction)
    loss = (residuals**2).sum(axis=2) + along**2
    loss[np.arange(len(x)), first] = np.inf
    return first, loss


@pytest.mark.parametrize("dim", [DIM, 16])
@pytest.mark.parametrize("nlist", [2, 3, 16])
def test_the_two_lists_of_a_row(nlist: int, dim: int) -> None:
    rows = clustered(500, seed=1, dim=dim)
    quantizer = centroids(nlist, dim)
    first, second = assign(quantizer, rows)
    nearest, loss = losses(rows, quantizer.reconstruct_n(0, nlist))
    assert first.shape == second.shape == (500,)
    np.testing.assert_array_equal(first, nearest)
    assert (first != second).all()
    chosen = np.take_along_axis(loss, second[:, None], 1)[:, 0]
    np.testing.assert_allclose(chosen, loss.min(axis=1), rtol=0, atol=1e-5)
    assert (second == loss.argmin(axis=1)).mean() > 0.99


def test_the_second_list_is_not_simply_the_next(built: Builder) -> None:
    case = built("ivf/pq4", DIM)
    quantizer = case.structure.quantizer
    rows = case.vectors.rows
    first, second = assign(quantizer, rows)
    _, near = quantizer.search(rows, 16)
    np.testing.assert_array_equal(first, near[:, 0])
    assert (near[:, 1:] == second[:, None]).any(axis=1).all()  # one of the fifteen next
    assert 0.1 < (second == near[:, 1]).mean() < 0.95


def test_one_list_only() -> None:
    rows = clustered(50, seed=1)
    for lists in assign(centroids(1), rows):
        np.testing.assert_array_equal(lists, np.zeros(50))


def test_a_row_on_its_centroid() -> None:
    quantizer = centroids(5)
    rows = quantizer.reconstruct_n(0, 5)
    first, second = assign(quantizer, rows)
    np.testing.assert_array_equal(first, np.arange(5))
    assert (first != second).all()


def entries(index: Any) -> list[Int64Array]:
    """Return the rows in each list."""
    lists = index.invlists
    return [
        faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
        if lists.list_size(number)
        else np.empty(0, np.int64)
        for number in range(index.nlist)
    ]


@pytest.mark.parametrize("dim", [DIM, 10, 33])
def test_each_row_stands_in_its_two_lists(dim: int, built: Builder) -> None:
    case = built("ivf/pq4", dim)
    structure = case.structure
    assert isinstance(structure, IvfPq)
    lists = entries(structure.index)
    np.testing.assert_array_equal([len(rows) for rows in lists], structure.sizes)
    assert structure.sizes.sum() == structure.index.ntotal == 2 * ROWS
    np.testing.assert_array_equal(np.sort(np.concatenate(lists)), np.repeat(np.arange(ROWS), 2))
    first, second = assign(structure.quantizer, case.vectors.rows)
    for number, rows in enumerate(lists):
        assert set(rows) == set(np.flatnonzero((first == number) | (second == number)))
        assert len(set(rows.tolist())) == len(rows)


def test_all_lists_hold_the_codes_of_the_scan(built: Builder) -> None:
    case = built("ivf/pq4", 33)
    structure = case.structure
    asked = codebook.padded(case.queries)
    by_scan, scan_rows = structure.scan.index.search(asked, ROWS)
    by_lists, list_rows = structure.index.search(
        asked, 2 * ROWS, params=search_params(structure.nlist)
    )
    every = [np.empty((100, ROWS), np.float32) for _ in range(2)]
    np.put_along_axis(every[0], scan_rows, by_scan, 1)
    np.put_along_axis(every[1], list_rows, by_lists, 1)
    np.testing.assert_allclose(every[1], every[0], rtol=0, atol=0.05)  # tables are rounded apart
    assert np.abs(every[1] - every[0]).mean() < 0.01


def test_empty_lists() -> None:
    rows = clustered(100, seed=1)
    words = codebook.train(rows)
    words.add(rows)
    codes = faiss.vector_to_array(words.codes).reshape(100, words.code_size)
    quantizer = centroids(5)
    lists = np.stack([np.full(100, 1), np.full(100, 3)])
    index = fill(quantizer, words, codes, lists)
    assert [len(rows) for rows in entries(index)] == [0, 100, 0, 100, 0]
    for number in (1, 3):
        np.testing.assert_array_equal(np.sort(entries(index)[number]), np.arange(100))


def curve(
    quantizer: Any, lists: Int64Array, truth: Int64Array, queries: Float32Array
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and entries visited for 1, 2, ... lists, if all rows in them are found."""
    nlist = quantizer.ntotal
    _, probed = quantizer.search(queries, nlist)
    place = np.argsort(probed, axis=1)  # of each list among those visited
    reached = np.stack([np.take_along_axis(place, each[truth], 1) for each in lists]).min(axis=0)
    sizes = np.bincount(lists.ravel(), minlength=nlist)
    recall = np.array([(reached < nprobe).mean() for nprobe in range(1, nlist + 1)])
    return recall, np.cumsum(sizes[probed], axis=1).mean(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_second_list_is_good_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    every = (rng.normal(size=(12_500, 64)) / np.sqrt(np.arange(1, 65))) @ rng.normal(size=(64, 64))
    every = unit_rows(every)
    matrix, queries = every[:12_000], every[12_000:]
    quantizer = ivf_build._train(matrix, 64)
    truth = faiss.knn(queries, matrix, 10, metric=faiss.METRIC_INNER_PRODUCT)[1]
    lists = assign(quantizer, matrix)
    nearest_two = quantizer.search(matrix, 2)[1].T
    once, twice, plainly = (
        curve(quantizer, each, truth, queries) for each in (lists[:1], lists, nearest_two)
    )
    # A neighbour missed in one list stands in another one that is visited.
    assert (twice[0][:4] > once[0][:4] + 0.05).all()
    for target in (0.85, 0.9, 0.95):
        visited, by_distance_alone = (
            np.interp(target, recall, visits) for recall, visits in (twice, plainly)
        )
        assert visited < 0.96 * by_distance_alone
