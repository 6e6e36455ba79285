"""Product quantization with 4 bits a sub-quantizer: training, encoding, reading packed codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecindex.ann.native import faiss
from vecindex.ann.threads import in_pieces
from vecindex.arrays import Float32Array, Int64Array, UInt8Array

_BITS = 4
_DIMS = 4  # dimensions a sub-quantizer
_PAIR = 2 * _DIMS  # a scan takes sub-quantizers two at a time
_TRAINING_ROWS = (
    4096  # 256 for each of the 16 words of a sub-quantizer; more gain nothing measurable
)
_ITERATIONS = 10  # FAISS's 25 take 0.3 s more for 384 dimensions; the error falls by half a percent
_SEED = 1234
BLOCK_ROWS = 128
"""Rows of one block of codes: on AVX512 a scan takes a seventh less time than by FAISS's 32."""

_LANE = 32  # rows whose codes of two sub-quantizers stand together
# Of a lane's two halves of 16 rows, one is in the low nibbles and one in the high ones, in this
# order: Faiss, `pq4_fast_scan.cpp`. (Its `CodePackerPQ4` reads blocks of 32 rows only.)
_ORDER = np.array([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15])
_PLACE = np.argsort(_ORDER)


def padded(rows: Float32Array) -> Float32Array:
    """Return the rows with zeros added until their dimension suits; the rows themselves if it does.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        Not modified.

    Returns
    -------
    ndarray of float32, shape (n, dim rounded up to a multiple of 8)
        C-contiguous. Zeros change no inner product.
    """
    missing = -rows.shape[1] % _PAIR
    if not missing:
        return rows
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, missing))))


def train(rows: Float32Array, threads: int | None = None) -> Any:
    """Return an empty `faiss.IndexPQ` whose words are made from a seeded sample of the rows.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, dim)
        At least one; not modified.
    threads : int or None
        None takes all cores.

    Returns
    -------
    faiss.IndexPQ
        Trained, of the padded dimension; the same for any number of threads.
    """
    count = min(len(rows), _TRAINING_ROWS)
    chosen = np.random.default_rng(_SEED).choice(len(rows), count, replace=False)
    sample = padded(rows[np.sort(chosen)])
    words = 1 << _BITS
    if count < words:  # fewer rows than words: each is one, several times
        sample = np.resize(sample, (words, sample.shape[1]))
    dim = sample.shape[1]
    index = faiss.IndexPQ(dim, dim // _DIMS, _BITS, faiss.METRIC_INNER_PRODUCT)
    centroids = np.empty((index.pq.M, words * _DIMS), np.float32)

    def train_some(quantizers: slice) -> None:
        """Make the words of some sub-quantizers, which know nothing of each other."""
        columns = slice(_DIMS * quantizers.start, _DIMS * quantizers.stop)
        count = quantizers.stop - quantizers.start
        part = faiss.ProductQuantizer(_DIMS * count, count, _BITS)
        part.cp.seed, part.cp.niter = _SEED, _ITERATIONS
        part.cp.min_points_per_centroid = 1
        part.cp.max_points_per_centroid = _TRAINING_ROWS // words
        part.train(np.ascontiguousarray(sample[:, columns]))
        centroids[quantizers] = faiss.vector_to_array(part.centroids).reshape(count, -1)

    in_pieces(train_some, index.pq.M, threads)  # each is too small a task for several threads
    faiss.copy_array_to_vector(centroids.ravel(), index.pq.centroids)
    index.is_trained = True
    return index


def empty_like(index: Any) -> Any:
    """Return an empty `faiss.IndexPQ` with the words of another quantizer's index."""
    fresh = faiss.IndexPQ(index.d, index.pq.M, _BITS, faiss.METRIC_INNER_PRODUCT)
    fresh.pq = index.pq
    fresh.is_trained = True
    return fresh


def from_codes(words: Any, codes: UInt8Array) -> Any:
    """Return a `faiss.IndexPQ` of given codes, shape (n, code_size), with the words of another."""
    index = empty_like(words)
    faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), index.codes)
    index.ntotal = len(codes)
    return index


def unpack(scan: Any, rows: Int64Array) -> UInt8Array:
    """Return the codes of chosen rows of a `faiss.IndexPQFastScan`.

    Parameters
    ----------
    scan : faiss.IndexPQFastScan
        Not modified.
    rows : ndarray of int64, shape (c,)
        Row numbers.

    Returns
    -------
    ndarray of uint8, shape (c, code_size)
        As `faiss.IndexPQ` holds them: two sub-quantizers a byte, the first in the low nibble.
    """
    packed = faiss.rev_swig_ptr(scan.codes.get(), scan.codes.size())
    blocks = packed.reshape(-1, scan.M2 // 2, scan.bbs // _LANE, 2, _LANE // 2)
    block, inside = np.divmod(rows, scan.bbs)
    lane, inside = np.divmod(inside, _LANE)
    nibbles = blocks[block, :, lane, :, _PLACE[inside % 16]].reshape(len(rows), scan.M2)
    nibbles >>= (4 * (inside // 16)).astype(np.uint8)[:, None]
    nibbles &= 15
    codes: UInt8Array = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    return codes
