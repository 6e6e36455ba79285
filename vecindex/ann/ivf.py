"""IVF: rows in lists around the centroids of a spherical k-means."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from vecindex.ann.base import CALIBRATED_K, RESCORE_LADDERS, WriteBytes, wrong_params
from vecindex.ann.flat_codes import QUANTIZERS
from vecindex.ann.native import (
    check_length,
    check_type_code,
    faiss,
    pointer,
    read_view,
    to_bytes,
    write_index,
)
from vecindex.ann.native_search import NativeIndex
from vecindex.ann.rescored import Rescored
from vecindex.ann.scores import score_rows
from vecindex.ann.threads import in_pieces
from vecindex.arrays import Float32Array, Int64Array, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.forks import lazily
from vecindex.spec import IvfParams, Params

_FLAT_CODE = b"IxFI"
_SQ_CODE = b"IwSq"
TRAILER_BYTES = 8
"""After FAISS's bytes: int64, little-endian, the rows at the last training."""


@lru_cache(maxsize=512)
def search_params(nprobe: int) -> Any:
    """Return FAISS's form of the parameters."""
    return faiss.SearchParametersIVF(nprobe=nprobe)


class Lists(Rescored):
    """What structures of lists share: parameters, and how full the lists are.

    Attributes
    ----------
    nlist : int
        Their number.
    sizes : ndarray of int64, shape (nlist,)
        Entries of each.
    """

    kind: ClassVar[str] = "ivf"
    repeats: bool = False
    codes: str
    nlist: int
    sizes: Int64Array

    @lazily
    def _surely(self) -> Int64Array:
        """Entries that the smallest 1, 2, ... lists hold together."""
        return np.cumsum(np.sort(self.sizes))

    def nprobes(self) -> list[int]:
        """Return 1, 2, 3, 4, 6, 8, 12, ... up to all lists."""
        steps = {factor << shift for shift in range(self.nlist.bit_length()) for factor in (1, 3)}
        return sorted({step for step in steps if step < self.nlist} | {self.nlist})

    def grid(self) -> tuple[tuple[Params, ...], ...]:
        """Return `nprobe` by rising cost, each with `rescore` by rising cost."""
        ladder = RESCORE_LADDERS[self.codes]
        exact = self.codes == "float32"
        return tuple(
            tuple(IvfParams(nprobe, None if exact else rescore) for rescore in ladder)
            for nprobe in self.nprobes()
        )

    def widen(self, params: Params, k: int) -> Params:
        """Return the parameters for k rows that keep what was calibrated for ten.

        The k nearest rows spread over more lists as k grows, but much slower than k itself: on
        real embeddings `nprobe` had to grow by about the third root of k to keep the recall; the
        power 0.4 is on the safe side. Also, the lists visited may be the smallest ones: so many
        are visited that these hold k rows together.
        """
        params = self.own(params)
        if k <= CALIBRATED_K:
            return params
        wider = math.ceil(params.nprobe * (k / CALIBRATED_K) ** 0.4)
        filled = int(np.searchsorted(self._surely, k * (1 + self.repeats))) + 1
        return IvfParams(min(max(wider, filled), self.nlist), params.rescore)

    def exhaustive(self, params: Params) -> bool:
        """Return whether every list is visited, and rows are scored exactly there."""
        return self.codes == "float32" and self.own(params).nprobe >= self.nlist

    def scans(self, params: Params) -> bool:
        """Return whether there is a fast scan, and all lists are visited."""
        return self.codes == "pq4" and self.own(params).nprobe >= self.nlist

    def own(self, params: Params) -> IvfParams:
        """Return the parameters, which must be of lists."""
        if not isinstance(params, IvfParams):
            raise wrong_params(self.kind, params)
        return params


class Ivf(Lists):
    """Lists of row numbers; the rows themselves are the mapped ones.

    Parameters
    ----------
    quantizer : faiss.IndexFlatIP
        The centroids.
    members : ndarray of int32, shape (rows,)
        Row numbers, list after list, rising in each.
    bounds : ndarray of int64, shape (nlist + 1,)
        Where the lists begin and end in `members`.
    trained : int
        The number of rows when the centroids were trained.
    vectors : MappedRows
        The rows. Kept, not copied.
    keep : tuple
        Whatever the centroids point into.
    """

    codes = "float32"
    scan = None

    def __init__(
        self,
        quantizer: Any,
        members: np.ndarray[Any, np.dtype[np.int32]],
        bounds: Int64Array,
        trained: int,
        vectors: MappedRows,
        keep: tuple[Any, ...] = (),
    ) -> None:
        self._keep = keep
        self.quantizer, self.members, self.bounds = quantizer, members, bounds
        self.trained, self._matrix = trained, vectors.rows
        self.rows = len(members)
        self.nlist: int = quantizer.ntotal
        self.sizes = np.diff(bounds)

    @property
    def size_bytes(self) -> int:
        """Bytes of the centroids and the lists."""
        return self.nlist * 4 * int(self.quantizer.d) + self.members.nbytes + self.bounds.nbytes

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, best first; see `Structure`."""
        nprobe = min(self.own(params).nprobe, self.nlist)
        probes = np.empty((len(queries), nprobe), np.int64)
        near = np.empty((len(queries), nprobe), np.float32)
        found = np.full((len(queries), slots), -1, np.int64)

        def search(part: slice) -> None:
            """Search for some of the queries, on the thread that calls."""
            asked = queries[part]
            self.quantizer.search_c(
                len(asked), pointer(asked), nprobe, pointer(near[part]), pointer(probes[part])
            )
            for number in range(part.start, part.stop):
                rows = self._rows_of(probes[number])
                scores = score_rows(self._matrix, queries[number : number + 1], rows[None])[0]
                best = np.argsort(-scores)[:slots] if len(rows) <= slots else _best(scores, slots)
                found[number, : len(best)] = rows[best]

        in_pieces(search, len(queries), threads)
        return found

    def _rows_of(self, lists: Int64Array) -> Int64Array:
        """Return the rows of some lists."""
        starts, sizes = self.bounds[lists], self.sizes[lists]
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1]) + np.repeat(starts - ends + sizes, sizes)
        rows: Int64Array = self.members[places].astype(np.int64)
        return rows

    def write(self, write: WriteBytes) -> None:
        """Give the lists' bytes to `write`, piece by piece; its errors pass unchanged."""
        write(to_bytes(self.quantizer).data.toreadonly())
        write(self.bounds.data.cast("B").toreadonly())
        write(self.members.data.cast("B").toreadonly())
        numbers = np.array([self.nlist, self.rows, self.trained], "<i8")
        write(memoryview(numbers.tobytes()))

    @classmethod
    def read(cls, buffer: UInt8Array, vectors: MappedRows) -> Ivf:
        """Return the lists that `write` gave as bytes known to be undamaged.

        Raises
        ------
        CorruptIndexError
            If the bytes are no such lists over such rows.
        """
        check_type_code(buffer, _FLAT_CODE, cls.kind)
        check_length(buffer, 24)
        nlist, rows, trained = np.frombuffer(buffer[-24:].tobytes(), "<i8").tolist()
        start = buffer.nbytes - 24 - 4 * rows - 8 * (nlist + 1)
        if nlist < 1 or rows < 0 or start < 0:
            raise CorruptIndexError(f"the lists cannot hold {rows} rows in {nlist} lists")
        centroids = buffer[:start].copy()
        index, reader = read_view(centroids)
        _check(index, vectors, nlist, rows)
        bounds = np.frombuffer(buffer[start : start + 8 * (nlist + 1)].tobytes(), "<i8")
        members = buffer[start + 8 * (nlist + 1) : -24].copy().view("<i4")
        if bounds[0] != 0 or bounds[-1] != rows or (np.diff(bounds) < 0).any():
            raise CorruptIndexError("the lists do not follow one another")
        if rows and not 0 <= members.min() <= members.max() < rows:
            raise CorruptIndexError("the lists hold rows that do not exist")
        return cls(index, members, bounds, trained, vectors, (centroids, reader))


def _best(scores: Float32Array, count: int) -> Int64Array:
    """Return the places of the best scores, best first."""
    near = np.argpartition(scores, -count)[-count:]
    best: Int64Array = near[np.argsort(-scores[near])]
    return best


class IvfSq(Lists, NativeIndex):
    """Lists of codes of one or two bytes a dimension.

    Parameters
    ----------
    index : faiss.IndexIVFScalarQuantizer
        Finished.
    trained : int
        The number of rows when the centroids were trained.
    keep : tuple
        Whatever the index points into.
    """

    scan = None

    def __init__(self, index: Any, trained: int, keep: tuple[Any, ...] = ()) -> None:
        super().__init__(index, keep)
        names = {value: name for name, value in QUANTIZERS.items()}
        if index.sq.qtype not in names or index.by_residual:
            raise CorruptIndexError("the lists have codes of an unknown kind")
        self.codes = names[index.sq.qtype]
        self.quantizer = faiss.downcast_index(index.quantizer)
        self.trained, self.nlist = trained, int(index.nlist)
        self.sizes = list_sizes(index)

    @property
    def size_bytes(self) -> int:
        """Bytes of the codes, the row numbers and the centroids."""
        return self.rows * (int(self.index.code_size) + 8) + self.nlist * 4 * int(self.index.d)

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, best first by their codes; see `Structure`."""
        return self.search(queries, slots, search_params(self.own(params).nprobe), threads)

    def write(self, write: WriteBytes) -> None:
        """Give the lists' bytes to `write`, piece by piece; its errors pass unchanged."""
        write_index(self.index, write)
        write(memoryview(self.trained.to_bytes(TRAILER_BYTES, "little")))

    @classmethod
    def read(cls, buffer: UInt8Array, vectors: MappedRows) -> IvfSq:
        """Return the lists that `write` gave as bytes known to be undamaged."""
        check_type_code(buffer, _SQ_CODE, cls.kind)
        end = buffer.nbytes - TRAILER_BYTES
        index, reader = read_view(buffer[:end])
        _check(index.quantizer, vectors, index.nlist, index.ntotal)
        return cls(index, int.from_bytes(buffer[end:].tobytes(), "little"), (buffer, reader))


def list_sizes(index: Any) -> Int64Array:
    """Return the entries of each list of a FAISS index, shape (nlist,)."""
    return np.array([index.invlists.list_size(i) for i in range(index.nlist)], np.int64)


def _check(quantizer: Any, vectors: MappedRows, nlist: int, rows: int) -> None:
    count, dim = vectors.rows.shape
    if quantizer.d != dim or rows > count or quantizer.ntotal != nlist:
        raise CorruptIndexError(
            f"the lists hold {rows} rows of dimension {quantizer.d} around "
            f"{quantizer.ntotal} of {nlist} centroids, "
            f"but there are {count} rows of dimension {dim}"
        )
    if quantizer.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise CorruptIndexError("the lists have another metric")
