"""Scans of 4-bit codes by code of our own, where that was compiled; FAISS scans otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from vecindex.ann import codebook, compiled
from vecindex.ann.native import faiss
from vecindex.ann.rescored import Best, Wanted, compiled_best
from vecindex.ann.threads import in_pieces
from vecindex.arrays import Float32Array, Int64Array, UInt8Array

_BLOCK = 64  # rows whose codes are scanned at once; a block of FAISS's holds so many or a multiple
_MOST_LISTS = (1 << 16) - 1

Block = tuple[int, int, int]
"""A list: the addresses of its packed codes and of its row numbers, and how many there are."""


class FastScan:
    """Scans lists of codes that one FAISS index holds.

    Parameters
    ----------
    index : faiss.IndexFastScan or faiss.IndexIVFFastScan
        Finished. Its arrays are read where they are: the caller keeps it alive.
    lists : sequence of (int, int, int)
        Where codes and row numbers are in memory, and how many; rows without numbers, address 0,
        are counted from 0.
    centroids : ndarray of float32, shape (len(lists), index.d), or None
        None for one list.

    Notes
    -----
    A scan takes as long as FAISS's, but what comes with it is less: FAISS needs 2 us for each list
    and 15 us for each call beside the scanning, this 0.1 and 3.
    """

    def __init__(
        self, index: Any, lists: Sequence[Block], centroids: Float32Array | None = None
    ) -> None:
        assert compiled.scan is not None
        pq = index.pq
        words = faiss.vector_to_array(pq.centroids).reshape(pq.M, 1 << pq.nbits, pq.dsub)
        codes, ids, sizes = zip(*lists, strict=True)
        coded, scales = np.empty((0, 0), np.uint8), np.empty(0, np.float32)
        if centroids is not None:
            coded, scales = _coded(centroids)
        self._lists = compiled.scan.Lists(
            np.ascontiguousarray(words.transpose(0, 2, 1)),
            coded,
            scales,
            np.array(codes, np.uint64),
            np.array(ids, np.uint64),
            np.array(sizes, np.int64),
            index.d,
            pq.M,
            index.bbs,
        )

    def find(
        self, queries: Float32Array, slots: int, nprobe: int, threads: int | None
    ) -> Int64Array:
        """Return the best `slots` rows of the `nprobe` nearest lists, -1 pads.

        Parameters
        ----------
        queries : ndarray of float32, shape (q, index.d)
            C-contiguous.
        slots, nprobe : int
            At least 1; `nprobe` at most the number of lists.
        threads : int or None
            None takes one for a single query and all cores for a batch.

        Returns
        -------
        ndarray of int64, shape (q, slots)
            Best first; of equal ones that first whose list is nearer, then which stands first.
        """
        found = np.empty((len(queries), slots), np.int64)
        in_pieces(
            lambda part: self._lists.find(queries[part], nprobe, found[part]), len(queries), threads
        )
        return found

    def best(self, wanted: Wanted, nprobe: int, threads: int | None) -> Best:
        """Return the best of these, by their scores; queries are not yet padded."""
        asked, (_, dim) = codebook.padded(wanted.queries), wanted.queries.shape
        return compiled_best(
            lambda part, *arrays: self._lists.best(
                asked[part], nprobe, wanted.slots, dim, wanted.queries[part], *arrays
            ),
            wanted,
            threads,
        )


def _coded(centroids: Float32Array) -> tuple[UInt8Array, Float32Array]:
    """Return centroids in 8 bits a dimension, and what a step means: to rank them needs no more."""
    low, high = centroids.min(axis=0), centroids.max(axis=0)
    scales = (high - low) / 255
    codes = np.rint((centroids - low) / np.where(scales > 0, scales, 1))
    return codes.astype(np.uint8), scales


def flat_scan(index: Any, rows: Int64Array | None = None) -> FastScan | None:
    """Return what scans a `faiss.IndexPQFastScan` in place of FAISS, None if nothing can.

    `rows` are the row numbers of its codes, C-contiguous; the caller keeps them alive.
    """
    if not _usable(index):
        return None
    codes = faiss.rev_swig_ptr(index.codes.get(), index.codes.size())
    return FastScan(
        index, [(codes.ctypes.data, 0 if rows is None else rows.ctypes.data, index.ntotal)]
    )


def lists_scan(index: Any, centroids: Float32Array, sizes: Int64Array) -> FastScan | None:
    """Return what scans a `faiss.IndexIVFPQFastScan` in place of FAISS, None if nothing can."""
    if not _usable(index) or len(sizes) > _MOST_LISTS:
        return None
    lists = index.invlists
    blocks = [
        (int(lists.get_codes(number) or 0), int(lists.get_ids(number) or 0), int(size))
        for number, size in enumerate(sizes)
    ]
    return FastScan(index, blocks, centroids)


def _usable(index: Any) -> bool:
    if compiled.scan is None or not index.ntotal or index.bbs % _BLOCK:
        return False
    return _packs_as_expected(index.bbs)


@lru_cache
def _packs_as_expected(block_rows: int) -> bool:
    """Return whether this FAISS packs codes as `codebook.unpack`, and the scan, read them."""
    rng = np.random.default_rng(0)
    count, quantizers = 2 * block_rows + 5, 4
    words = faiss.IndexPQ(4 * quantizers, quantizers, 4, faiss.METRIC_INNER_PRODUCT)
    codes = rng.integers(256, size=(count, quantizers // 2), dtype=np.uint8)
    packed = faiss.IndexPQFastScan(codebook.from_codes(words, codes), block_rows)
    return bool(np.array_equal(codebook.unpack(packed, np.arange(count)), codes))
