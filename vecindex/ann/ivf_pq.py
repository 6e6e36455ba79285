"""IVF over 4-bit codes, each row in two lists, beside a scan of all rows' codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecindex.ann import codebook
from vecindex.ann.base import RESCORE_LADDERS, Watch, WriteBytes
from vecindex.ann.fast_scan import lists_scan
from vecindex.ann.flat_codes import read_scan
from vecindex.ann.ivf import Lists, list_sizes, search_params
from vecindex.ann.native import check_length, check_type_code, faiss, read_view, write_index
from vecindex.ann.native_search import NativeIndex
from vecindex.ann.rescored import Best, Wanted
from vecindex.ann.scan import Scan
from vecindex.arrays import Float32Array, Int64Array, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import IvfParams, Params

_TYPE_CODE = b"IwPf"
_NPROBES = (4, 6, 8, 10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 58, 70, 84, 100, 120, 144, 172, 206)
_FEW = (5, 8, 10, 12, 15, 20, 25, 30, 40)  # values of `rescore` to calibrate lists with
_CHUNK = 16_384  # rows put into lists between two looks at the clock
_BLOCK_ROWS = 64  # of a list; twenty lists take a sixth less time than in blocks of 32
_ORTHOGONALITY = 1.0  # weight of the part of a residual that runs along the first one


class IvfPq(Lists, NativeIndex):
    """Lists of 4-bit codes, searched by a fast scan of the lists nearest to the query.

    Parameters
    ----------
    index : faiss.IndexIVFPQFastScan
        Finished; holds each row twice.
    scan : Scan
        Of all rows, by the same codes. It serves where lists do not: for filters, for very high
        recall, and around rows that were removed.
    trained : int
        The number of rows when centroids and words were trained.

    Notes
    -----
    A row near the border between lists is missed when only one of them is visited. So each row
    stands in two: of its nearest list, and of the list whose residual is short and does not point
    the same way, so that a query that misses the one is likely to visit the other. On 195,099
    sentence embeddings visiting a twelfth of the entries then found what took a quarter before.

    References
    ----------
    Sun et al., "SOAR: improved indexing for approximate nearest neighbor search", 2023.
    """

    codes = "pq4"
    repeats = True

    def __init__(self, index: Any, scan: Scan, trained: int, keep: tuple[Any, ...] = ()) -> None:
        super().__init__(index, keep)
        self.scan, self.trained = scan, trained
        self.quantizer = faiss.downcast_index(index.quantizer)
        self.rows = scan.count
        self.nlist = int(index.nlist)
        self.sizes = list_sizes(index)
        centroids = self.quantizer.reconstruct_n(0, self.nlist)
        self._fast = lists_scan(index, centroids, self.sizes)

    @property
    def size_bytes(self) -> int:
        """Bytes of the lists, the centroids and the scan."""
        entries = int(self.sizes.sum()) * (int(self.index.code_size) + 8)
        return entries + self.nlist * 4 * int(self.index.d) + self.scan.size_bytes

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, best first by their codes; see `Structure`."""
        nprobe = self.own(params).nprobe
        if nprobe >= self.nlist:
            return self.scan.find(queries, slots, threads)
        asked = codebook.padded(queries)
        if self._fast is not None:
            return self._fast.find(asked, slots, nprobe, threads)
        return self.search(asked, slots, search_params(nprobe), threads)

    def best(self, wanted: Wanted, params: Params, threads: int | None = None) -> Best:
        """Return the best of the candidates, by their scores; see `Structure`."""
        nprobe = self.own(params).nprobe
        if nprobe >= self.nlist:
            return self.scan.best(wanted, threads)
        if self._fast is None or not wanted.compiled:
            return super().best(wanted, params, threads)
        return self._fast.best(wanted, nprobe, threads)

    def grid(self) -> tuple[tuple[Params, ...], ...]:
        """Return a scan of all codes, then `nprobe` up to a quarter of the lists.

        Between a quarter and all, the scan is better.

        Lists miss rows that more candidates do not bring back, so their `rescore` stays low.
        """
        few = (tuple(IvfParams(n, r) for r in _FEW) for n in _NPROBES if n <= self.nlist // 4)
        return (tuple(IvfParams(self.nlist, r) for r in RESCORE_LADDERS[self.codes]), *few)

    def write(self, write: WriteBytes) -> None:
        """Give the bytes of scan and lists to `write`, piece by piece; its errors pass."""
        size = 0

        def count(view: memoryview) -> object:
            """Pass the bytes on and add their number up."""
            nonlocal size
            size += view.nbytes
            return write(view)

        write_index(self.scan.index, count)
        write_index(self.index, write)
        write(memoryview(np.array([size, self.trained], "<i8").tobytes()))

    @classmethod
    def read(cls, buffer: UInt8Array, vectors: MappedRows) -> IvfPq:
        """Return the structure that `write` gave as bytes known to be undamaged.

        Raises
        ------
        CorruptIndexError
            If the bytes are no such structure over such rows.
        """
        check_length(buffer, 16)
        size, trained = np.frombuffer(buffer[-16:].tobytes(), "<i8").tolist()
        if not 0 < size < buffer.nbytes - 16:
            raise CorruptIndexError(f"the scan cannot have {size} bytes")
        scan = read_scan(buffer[:size], vectors)
        lists = buffer[size:-16]
        check_type_code(lists, _TYPE_CODE, cls.kind)
        index, reader = read_view(lists)
        centroids, words = index.quantizer, scan.index
        fits = (index.d, index.pq.M) == (words.d, words.pq.M) and centroids.d == index.d
        if index.by_residual or not fits or centroids.ntotal != index.nlist:
            raise CorruptIndexError("the lists do not fit the codes")
        return cls(index, scan, trained, (buffer, reader))


def assign(quantizer: Any, rows: Float32Array, watch: Watch | None = None) -> Int64Array:
    """Return the two lists of each row.

    Parameters
    ----------
    quantizer : faiss.IndexFlatIP
        The centroids, of the padded dimension.
    rows : ndarray of float32, shape (n, dim)
        Unit rows.
    watch : Watch or None
        Progress and stop.

    Returns
    -------
    ndarray of int64, shape (2, n)
        The nearest list, and the best of the fifteen nearest others; the same if there is one
        list only.

    Raises
    ------
    BuildInterrupted
        If `watch` says stop.
    """
    centroids = quantizer.reconstruct_n(0, quantizer.ntotal)
    # Once for all rows: NumPy's threads go on spinning after a product, beside those of FAISS.
    with np.errstate(all="ignore"):  # BLAS may raise flags for lanes beyond the matrix
        between = centroids @ centroids.T
    lists: Int64Array = np.empty((2, len(rows)), np.int64)
    for chunk in (watch or Watch()).chunks(0, len(rows), _CHUNK):
        near, nearest = quantizer.search(codebook.padded(rows[chunk]), min(16, len(centroids)))
        lists[:, chunk] = nearest[:, 0], _second(near, nearest, between)
    return lists


def _second(near: Float32Array, lists: Int64Array, between: Float32Array) -> Int64Array:
    """Return the second list of each row, of the nearest ones and its products with them."""
    if len(between) == 1:
        return lists[:, 0]
    lengths = np.diagonal(between)
    to_first = near[:, :1]
    # For unit rows x and centroids c, d: |x-d|^2, and (x-c)(x-d) along the first residual.
    squares = 1 - 2 * near + lengths[lists]
    along = 1 - near - to_first + between[lists[:, :1], lists]
    loss = squares + _ORTHOGONALITY * along**2 / np.maximum(squares[:, :1], 1e-12)
    loss[:, 0] = np.inf
    second: Int64Array = np.take_along_axis(lists, loss.argmin(axis=1)[:, None], 1)[:, 0]
    return second


def fill(quantizer: Any, words: Any, codes: UInt8Array, lists: Int64Array) -> Any:
    """Return FAISS's lists of the given codes.

    Parameters
    ----------
    quantizer : faiss.IndexFlatIP
        The centroids, of the words' dimension.
    words : faiss.IndexPQ
        What the codes mean.
    codes : ndarray of uint8, shape (n, words.code_size)
        One a row.
    lists : ndarray of int64, shape (c, n)
        The lists that each row belongs to.

    Returns
    -------
    faiss.IndexIVFPQFastScan
        Owns nothing of its arguments but a pointer to `quantizer`.
    """
    plain = faiss.IndexIVFPQ(
        quantizer, words.d, quantizer.ntotal, words.pq.M, 4, faiss.METRIC_INNER_PRODUCT
    )
    plain.by_residual = False
    plain.pq = words.pq
    plain.is_trained = True
    entries = lists.ravel()
    rows = np.argsort(entries, kind="stable") % len(codes)
    ordered = codes[rows]
    ends = np.cumsum(np.bincount(entries, minlength=quantizer.ntotal)).tolist()
    start = 0
    for number, end in enumerate(ends):
        if end > start:
            plain.invlists.add_entries(
                number, end - start, faiss.swig_ptr(rows[start:end]),
                faiss.swig_ptr(ordered[start:end]),
            )  # fmt: skip
        start = end
    plain.ntotal = len(rows)
    return faiss.IndexIVFPQFastScan(plain, _BLOCK_ROWS)
