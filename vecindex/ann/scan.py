"""A fast scan over 4-bit codes, of all rows or of any of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecindex.ann import codebook
from vecindex.ann.base import Watch
from vecindex.ann.fast_scan import flat_scan
from vecindex.ann.native import faiss
from vecindex.ann.native_search import NativeIndex
from vecindex.ann.rescored import Best, Wanted, best_of
from vecindex.ann.threads import use_threads
from vecindex.arrays import Float32Array, Int64Array, UInt8Array

_CHUNK = 16_384  # rows encoded between two looks at the clock


class Scan(NativeIndex):
    """4-bit codes of rows, packed for scanning.

    Parameters
    ----------
    index : faiss.IndexPQFastScan
        Finished; not changed any more by anyone.
    rows : ndarray of int64, shape (index.ntotal,), or None
        The row numbers of its codes; None if these are all rows in order.
    keep : tuple
        Whatever the index points into.

    Notes
    -----
    195,099 rows of 384 dimensions take 9.4 MB and 0.2 ms, in memory that the processor's caches
    can hold; the rows themselves take 300 MB and 12 ms.
    """

    def __init__(
        self, index: Any, rows: Int64Array | None = None, keep: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(index, keep)
        self._rows = rows
        self._fast = flat_scan(index, rows)
        self.count: int = index.ntotal

    @classmethod
    def build(cls, words: Any, rows: Float32Array, threads: int | None, watch: Watch) -> Scan:
        """Return the scan of all rows; `words`, a trained, empty `faiss.IndexPQ`, is filled."""
        use_threads(threads)
        words.pq.sync_transposed_centroids()  # encoding takes a third less time
        for chunk in watch.chunks(0, len(rows), _CHUNK):
            words.add(codebook.padded(rows[chunk]))
        return cls(faiss.IndexPQFastScan(words, codebook.BLOCK_ROWS))

    @property
    def size_bytes(self) -> int:
        """Bytes of codes and row numbers."""
        return int(self.index.codes.size()) + (0 if self._rows is None else self._rows.nbytes)

    def find(self, queries: Float32Array, slots: int, threads: int | None = None) -> Int64Array:
        """Return the best rows by their codes.

        Parameters
        ----------
        queries : ndarray of float32, shape (q, dim)
            C-contiguous unit rows.
        slots : int
            Rows wanted, at least 1.
        threads : int or None
            None takes one for a single query and all cores for a batch.

        Returns
        -------
        ndarray of int64, shape (q, min(slots, count))
            Row numbers, best first as far as codes tell; -1 pads.
        """
        asked, slots = codebook.padded(queries), min(slots, self.count)
        if self._fast is not None:
            return self._fast.find(asked, slots, 1, threads)
        rows = self.search(asked, slots, None, threads)
        if self._rows is None:
            return rows
        # A row whose code is the worst possible is not found: -1, also where all are asked for.
        named: Int64Array = np.where(rows >= 0, self._rows[rows], -1)
        return named

    def best(self, wanted: Wanted, threads: int | None = None) -> Best:
        """Return the best of what `find` returns, by their scores."""
        if self._fast is None or not wanted.compiled:
            return best_of(self.find(wanted.queries, wanted.slots, threads), wanted)
        slots = min(wanted.slots, self.count)
        return self._fast.best(wanted._replace(slots=slots), 1, threads)

    def subset(self, rows: Int64Array) -> Scan:
        """Return a scan of chosen rows only, with copies of their codes.

        Parameters
        ----------
        rows : ndarray of int64, shape (c,)
            Row numbers of this scan, which must be one of all rows; c is at least 1.

        Returns
        -------
        Scan
            Searching it takes time in proportion to c. Making it takes about 0.5 us a row.
        """
        return self.others(self.codes(rows), rows)

    def others(self, codes: UInt8Array, rows: Int64Array | None = None) -> Scan:
        """Return a scan of other rows, with given codes in these words, shape (c, bytes)."""
        plain = codebook.from_codes(self.index, codes)
        return Scan(faiss.IndexPQFastScan(plain, codebook.BLOCK_ROWS), rows)

    def codes(self, rows: Int64Array) -> UInt8Array:
        """Return the codes of chosen rows, shape (c, bytes of a code); c is at least 1."""
        self._check_layout(int(rows[0]))
        return codebook.unpack(self.index, rows)

    def _check_layout(self, row: int) -> None:
        """Have FAISS pack again what we read of the row's block, and compare."""
        size = self.index.bbs
        first = row // size * size
        codes = codebook.unpack(self.index, np.arange(first, min(first + size, self.count)))
        again = faiss.IndexPQFastScan(codebook.from_codes(self.index, codes), size)
        packed, repacked = (
            faiss.rev_swig_ptr(index.codes.get(), index.codes.size())
            for index in (self.index, again)
        )
        block_bytes = size * self.index.M2 // 2
        start = first // size * block_bytes
        if not np.array_equal(packed[start : start + block_bytes], repacked):
            raise RuntimeError(f"FAISS {faiss.__version__} packs 4-bit codes in an unknown way")


class Encoder:
    """Codes of rows that come one after another, in the words of a scan.

    Parameters
    ----------
    words : Scan
        Not changed.
    """

    def __init__(self, words: Scan) -> None:
        self._index = codebook.empty_like(words.index)
        self._index.pq.sync_transposed_centroids()
        self.count = 0
        """Rows so far."""

    def add(self, rows: Float32Array) -> None:
        """Encode more rows, shape (n, dim); takes about 3 us each."""
        use_threads(1)
        self._index.add(codebook.padded(rows))
        self.count = self._index.ntotal

    def add_codes(self, codes: UInt8Array) -> None:
        """Put in more rows whose codes in these words are known (`Scan.codes`)."""
        if len(codes):
            self._index.add_sa_codes(codes)
        self.count = self._index.ntotal

    def codes(self) -> UInt8Array:
        """Return a copy of the codes so far, shape (count, bytes of a code)."""
        codes: UInt8Array = faiss.vector_to_array(self._index.codes)
        return codes.reshape(self.count, self._index.code_size)

    def scan(self) -> Scan:
        """Return a scan of the rows so far; takes about 0.1 us each."""
        return Scan(faiss.IndexPQFastScan(self._index, codebook.BLOCK_ROWS))
