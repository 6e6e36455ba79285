"""IVF: rows in lists around the centroids of a spherical k-means."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from vecindex.ann.base import CALIBRATED_K, WriteBytes, wrong_params
from vecindex.ann.native import check_type_code, faiss, pointer, read_view
from vecindex.ann.threads import in_pieces
from vecindex.arrays import Float32Array, Int64Array, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import IvfParams, Params

_TYPE_CODE = b"IwFl"
_TRAILER_BYTES = 8  # after FAISS's bytes: int64, little-endian, the rows at the last training
_PIECE = 1 << 22  # bytes given to a file at once


@lru_cache(maxsize=512)
def _search_params(nprobe: int) -> Any:
    return faiss.SearchParametersIVF(nprobe=nprobe)


class Ivf:
    """Inverted lists with their own copy of the rows.

    Parameters
    ----------
    index : faiss.IndexIVFFlat
        Finished; not changed any more by anyone.
    trained : int
        The number of rows when the centroids were trained.
    keep : tuple
        Whatever the index points into.
    """

    kind: ClassVar[str] = "ivf"

    def __init__(self, index: Any, trained: int, keep: tuple[Any, ...] = ()) -> None:
        self._index, self._keep = index, keep
        self._search = index.search_c
        self.trained = trained
        self.rows: int = index.ntotal
        self.nlist: int = index.nlist

    @classmethod
    def read(cls, buffer: UInt8Array, vectors: MappedRows) -> Ivf:
        """Return the lists that `write` gave as bytes, which are kept and not copied.

        Parameters
        ----------
        buffer : ndarray of uint8, shape (bytes,)
            Known to be undamaged.
        vectors : MappedRows
            The rows that the lists shall fit, at least as many.

        Returns
        -------
        Ivf
            Ready for searching.

        Raises
        ------
        CorruptIndexError
            If the bytes are no such lists over such rows.
        """
        check_type_code(buffer, _TYPE_CODE, cls.kind)
        end = buffer.nbytes - _TRAILER_BYTES
        index, reader = read_view(buffer[:end])
        _check(index, vectors)
        trained = int.from_bytes(buffer[end:].tobytes(), "little")
        return cls(index, trained, (buffer, reader))

    @cached_property
    def sizes(self) -> Int64Array:
        """Rows of each list, shape (nlist,)."""
        lists = self._index.invlists
        return np.array([lists.list_size(i) for i in range(self.nlist)], np.int64)

    @cached_property
    def _surely(self) -> Int64Array:
        """Rows that the smallest 1, 2, ... lists hold together."""
        return np.cumsum(np.sort(self.sizes))

    @property
    def size_bytes(self) -> int:
        """Bytes of the lists and the centroids, rows included."""
        row_bytes = int(self._index.code_size)
        return self.rows * (row_bytes + 8) + self.nlist * row_bytes

    @property
    def index(self) -> Any:
        """FAISS's own object, not to be changed."""
        return self._index

    def propose(
        self, queries: Float32Array, k: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, shape (q, k), best first, -1 pads; see `Structure`."""
        if not isinstance(params, IvfParams):
            raise wrong_params(self.kind, params)
        rows = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        wanted = _search_params(params.nprobe)

        def search(part: slice) -> None:
            """Search for some of the queries, on the thread that calls."""
            asked = queries[part]
            self._search(
                len(asked), pointer(asked), k, pointer(scores[part]), pointer(rows[part]), wanted
            )

        in_pieces(search, len(queries), threads)
        return rows

    def grid(self) -> tuple[Params, ...]:
        """Return `nprobe` 1, 2, 3, 4, 6, 8, 12, ... up to all lists, which is exact."""
        steps = {factor << shift for shift in range(self.nlist.bit_length()) for factor in (1, 3)}
        return tuple(
            IvfParams(nprobe)
            for nprobe in sorted({s for s in steps if s < self.nlist} | {self.nlist})
        )

    def widen(self, params: Params, k: int) -> Params:
        """Return the parameters for k candidates that keep what was calibrated for ten.

        The k nearest rows spread over more lists as k grows, but much slower than k itself: on
        real embeddings `nprobe` had to grow by about the third root of k to keep the recall; the
        power 0.4 is on the safe side. Also, the lists visited may be the smallest ones: so many
        are visited that these hold k rows together.
        """
        if not isinstance(params, IvfParams):
            raise wrong_params(self.kind, params)
        if k <= CALIBRATED_K:
            return params
        wider = math.ceil(params.nprobe * (k / CALIBRATED_K) ** 0.4)
        filled = int(np.searchsorted(self._surely, k)) + 1
        return IvfParams(min(max(wider, filled), self.nlist))

    def exhaustive(self, params: Params) -> bool:
        """Return whether every list is visited."""
        return isinstance(params, IvfParams) and params.nprobe >= self.nlist

    def write(self, write: WriteBytes) -> None:
        """Give the lists' bytes to `write`, piece by piece; its errors pass unchanged."""
        pieces = _Pieces(write)
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(pieces))
        pieces.flush()
        write(memoryview(self.trained.to_bytes(_TRAILER_BYTES, "little")))


class _Pieces:
    """Gathers FAISS's many small writes into large ones."""

    def __init__(self, write: WriteBytes) -> None:
        self._write = write
        self._held = bytearray()

    def __call__(self, data: bytes) -> int:
        self._held += data
        if len(self._held) >= _PIECE:
            self.flush()
        return len(data)

    def flush(self) -> None:
        held, self._held = self._held, bytearray()
        self._write(memoryview(held).toreadonly())


def _check(index: Any, vectors: MappedRows) -> None:
    count, dim = vectors.rows.shape
    if index.d != dim or index.ntotal > count or index.quantizer.ntotal != index.nlist:
        raise CorruptIndexError(
            f"the lists hold {index.ntotal} rows of dimension {index.d} around "
            f"{index.quantizer.ntotal} of {index.nlist} centroids, "
            f"but there are {count} rows of dimension {dim}"
        )
    if index.metric_type != faiss.METRIC_INNER_PRODUCT or index.code_size != 4 * dim:
        raise CorruptIndexError("the lists have another metric, or other codes")
