"""Flat structures over codes: a fast scan over 4 bits, or a scan over 1 or 2 bytes a dimension."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from vecindex.ann import codebook
from vecindex.ann.base import RESCORE_LADDERS, Watch, WriteBytes, wrong_params
from vecindex.ann.native import check_type_code, faiss, read_view, write_index
from vecindex.ann.native_search import NativeIndex
from vecindex.ann.rescored import Best, Rescored, Wanted
from vecindex.ann.scan import Scan
from vecindex.ann.threads import use_threads
from vecindex.arrays import Float32Array, Int64Array, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import FlatParams, FlatSpec, Params

_SCAN_CODE = b"IPfs"
_SQ_CODE = b"IxSQ"
_TRAILER_BYTES = 8  # after FAISS's bytes: int64, little-endian, the rows at the last training
_CHUNK = 16_384
_SQ_TRAINING_ROWS = 65_536
QUANTIZERS = {
    "bf16": faiss.ScalarQuantizer.QT_bf16,
    "sq8": faiss.ScalarQuantizer.QT_8bit,
    "sq4": faiss.ScalarQuantizer.QT_4bit,
}
"""FAISS's scalar quantizers by our names of the codes."""


class _Flat(Rescored):
    """What flat structures share: parameters."""

    kind: ClassVar[str] = "flat"
    repeats: ClassVar[bool] = False
    codes: str

    def grid(self) -> tuple[tuple[Params, ...], ...]:
        """Return one group: `rescore` by rising cost."""
        return (tuple(FlatParams(rescore) for rescore in RESCORE_LADDERS[self.codes]),)

    def widen(self, params: Params, k: int) -> Params:
        """Return the parameters themselves: `rescore` counts in k."""
        if not isinstance(params, FlatParams):
            raise wrong_params(self.kind, params)
        return params

    def exhaustive(self, params: Params) -> bool:
        """Return False: codes may hide a row."""
        return False

    def scans(self, params: Params) -> bool:
        """Return whether there is a fast scan, which every search then is."""
        return self.codes == "pq4"


class FlatScan(_Flat):
    """4-bit codes of all rows.

    Parameters
    ----------
    scan : Scan
        Of all rows.
    trained : int
        The number of rows when the codes' words were made.
    """

    codes = "pq4"

    def __init__(self, scan: Scan, trained: int) -> None:
        self.scan, self.trained = scan, trained
        self.rows = scan.count

    @property
    def size_bytes(self) -> int:
        """Bytes of the codes."""
        return self.scan.size_bytes

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, best first by their codes; see `Structure`."""
        if not isinstance(params, FlatParams):
            raise wrong_params(self.kind, params)
        return self.scan.find(queries, slots, threads)

    def best(self, wanted: Wanted, params: Params, threads: int | None = None) -> Best:
        """Return the best of the candidates, by their scores; see `Structure`."""
        if not isinstance(params, FlatParams):
            raise wrong_params(self.kind, params)
        return self.scan.best(wanted, threads)

    def write(self, write: WriteBytes) -> None:
        """Give the codes' bytes to `write`, piece by piece; its errors pass unchanged."""
        write_index(self.scan.index, write)
        write(memoryview(self.trained.to_bytes(_TRAILER_BYTES, "little")))

    @classmethod
    def read(cls, buffer: UInt8Array, vectors: MappedRows) -> FlatScan:
        """Return the structure that `write` gave as bytes known to be undamaged."""
        end = buffer.nbytes - _TRAILER_BYTES
        scan = read_scan(buffer[:end], vectors)
        return cls(scan, int.from_bytes(buffer[end:].tobytes(), "little"))


def read_scan(buffer: UInt8Array, vectors: MappedRows) -> Scan:
    """Return the scan in FAISS's bytes, after checking that it fits the rows."""
    check_type_code(buffer, _SCAN_CODE, "pq4")
    index, reader = read_view(buffer)
    count, dim = vectors.rows.shape
    blocks = -(-index.ntotal // index.bbs)
    whole = index.codes.size() == blocks * index.bbs * index.code_size
    if index.d != dim + -dim % 8 or index.ntotal > count or not whole:
        raise CorruptIndexError(
            f"the codes are of {index.ntotal} rows of dimension {index.d}, "
            f"but there are {count} rows of dimension {dim}"
        )
    return Scan(index, keep=(buffer, reader))


class FlatSq(_Flat, NativeIndex):
    """One or two bytes a dimension of all rows."""

    scan = None

    def __init__(self, index: Any, keep: tuple[Any, ...] = ()) -> None:
        super().__init__(index, keep)
        names = {value: name for name, value in QUANTIZERS.items()}
        if index.sq.qtype not in names or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise CorruptIndexError("the codes are of an unknown kind")
        self.codes = names[index.sq.qtype]

    @property
    def size_bytes(self) -> int:
        """Bytes of the codes."""
        return self.rows * int(self.index.code_size)

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, best first by their codes; see `Structure`."""
        if not isinstance(params, FlatParams):
            raise wrong_params(self.kind, params)
        return self.search(queries, min(slots, self.rows), None, threads)

    @classmethod
    def read(cls, buffer: UInt8Array, vectors: MappedRows) -> FlatSq:
        """Return the structure that `write` gave as bytes known to be undamaged."""
        check_type_code(buffer, _SQ_CODE, cls.kind)
        index, reader = read_view(buffer)
        count, dim = vectors.rows.shape
        if index.d != dim or index.ntotal > count:
            raise CorruptIndexError(
                f"the codes are of {index.ntotal} rows of dimension {index.d}, "
                f"but there are {count} rows of dimension {dim}"
            )
        return cls(index, (buffer, reader))


def build_flat(
    spec: FlatSpec, vectors: MappedRows, base: object, threads: int | None, watch: Watch
) -> FlatScan | FlatSq:
    """Return codes of all rows.

    Parameters
    ----------
    spec : FlatSpec
        Which codes; not `"float32"`, which needs no structure.
    vectors : MappedRows
        The rows.
    base : object
        An earlier structure. The words of 4-bit codes are kept until there are more than twice
        the rows that they were made from.
    threads : int or None
        None takes all cores.
    watch : Watch
        Progress and stop.

    Returns
    -------
    FlatScan or FlatSq
        The same codes for any number of threads.
    """
    rows = vectors.rows
    use_threads(threads)
    watch.check()
    if spec.codes != "pq4":
        index = faiss.IndexScalarQuantizer(
            rows.shape[1], QUANTIZERS[spec.codes], faiss.METRIC_INNER_PRODUCT
        )
        index.train(training_rows(rows))
        for chunk in watch.chunks(0, len(rows), _CHUNK):
            index.add(rows[chunk])
        return FlatSq(index)
    words, trained = None, len(rows)
    if isinstance(base, FlatScan) and len(rows) <= 2 * base.trained:
        words, trained = codebook.empty_like(base.scan.index), base.trained
    words = words or codebook.train(rows, threads)
    return FlatScan(Scan.build(words, rows, threads, watch), trained)


def training_rows(rows: Float32Array) -> Float32Array:
    """Return rows spread over all of them: ranges of scalar quantizers need no more."""
    step = -(-len(rows) // _SQ_TRAINING_ROWS) or 1
    return np.ascontiguousarray(rows[::step])
