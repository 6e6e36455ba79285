"""HNSW: a graph over the mapped rows, or over codes of its own."""

from __future__ import annotations

from functools import lru_cache
from itertools import takewhile
from typing import Any, ClassVar

import numpy as np

from vecindex.ann.base import CALIBRATED_K, RESCORE_LADDERS, Watch, WriteBytes, wrong_params
from vecindex.ann.flat_codes import QUANTIZERS, training_rows
from vecindex.ann.lost import link_lost_rows
from vecindex.ann.native import check_type_code, faiss, flat_view, read_view, to_bytes
from vecindex.ann.native_search import NativeIndex
from vecindex.ann.rescored import Best, Rescored, Wanted
from vecindex.ann.threads import use_threads
from vecindex.ann.walk import walker
from vecindex.arrays import Float32Array, Int64Array, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import HnswParams, HnswSpec, Params

_TYPE_CODES = {"float32": b"IHNf", "bf16": b"IHNs", "sq8": b"IHNs", "sq4": b"IHNs"}
_CHUNK = 4096  # rows linked between two looks at the clock: about a second on two cores
_PIECE = 1 << 24  # bytes given to a file at once
_RANGE_ROWS = 16_384  # tell the ranges of 4-bit codes
_OUTSIDE = 0.005  # share of values below, and above, the range of 4-bit codes; least squared error
_EF_LADDER = (
    10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024, 1536,
    2048, 4096
)  # fmt: skip


@lru_cache(maxsize=512)
def _search_params(ef_search: int) -> Any:
    return faiss.SearchParametersHNSW(efSearch=ef_search)


class Hnsw(Rescored, NativeIndex):
    """A finished graph, read from its bytes.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (bytes,)
        The graph as `write` gave it, of bytes known to be undamaged. Kept, not copied.
    vectors : MappedRows
        The rows, at least as many as the graph links. Kept, not copied.
    codes : str
        `"float32"`: the graph is put upon the rows; otherwise it has codes of its own.

    Attributes
    ----------
    rows : int
        Rows that the graph links.
    buffer, vectors
        As given; not to be changed, nor is `index`, FAISS's own object.

    Raises
    ------
    CorruptIndexError
        If the bytes are no HNSW graph over such rows.
    """

    kind: ClassVar[str] = "hnsw"
    repeats: ClassVar[bool] = False
    scan = None

    def __init__(self, buffer: UInt8Array, vectors: MappedRows, codes: str = "float32") -> None:
        check_type_code(buffer, _TYPE_CODES[codes], self.kind)
        graph, reader = read_view(buffer)
        _check(graph, vectors, codes)
        flat = None
        if codes == "float32":
            flat = flat_view(vectors)
            graph.storage = flat  # not the proxy's any more
            graph.own_fields = True
        # FAISS holds bare pointers into these.
        super().__init__(graph, (flat, reader))
        self.buffer, self.vectors, self.codes = buffer, vectors, codes
        try:
            self._walker = walker(graph, codes)
        except ValueError as error:
            raise CorruptIndexError(f"the graph cannot be walked: {error}") from error

    @property
    def size_bytes(self) -> int:
        """Bytes of the graph and its codes; the rows are not part of it."""
        return self.buffer.nbytes

    @property
    def spec(self) -> HnswSpec:
        """How the graph was linked."""
        hnsw = self.index.hnsw
        return HnswSpec(hnsw.nb_neighbors(1), hnsw.efConstruction, self.codes)

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, best first as far as codes tell; see `Structure`."""
        if not isinstance(params, HnswParams):
            raise wrong_params(self.kind, params)
        if self._walker is not None:
            return self._walker.find(queries, slots, params.ef_search, threads)
        return self.search(queries, slots, _search_params(params.ef_search), threads)

    def best(self, wanted: Wanted, params: Params, threads: int | None = None) -> Best:
        """Return the best of the candidates, by their scores; see `Structure`."""
        if self._walker is None or not wanted.compiled or not isinstance(params, HnswParams):
            return super().best(wanted, params, threads)
        return self._walker.best(wanted, params.ef_search, threads)

    def grid(self) -> tuple[tuple[Params, ...], ...]:
        """Return `ef_search` from 10 upwards, as far as it is below the number of rows."""
        first, *others = _EF_LADDER
        if self.codes == "float32":
            ladder: tuple[int | None, ...] = (None,)
        else:
            ladder = RESCORE_LADDERS[self.codes]
        return tuple(
            tuple(
                HnswParams(ef, rescore)
                for rescore in ladder
                if rescore is None or rescore * CALIBRATED_K <= 2 * ef  # more were hardly looked at
            )
            for ef in (first, *takewhile(self.rows.__gt__, others))
        )

    def widen(self, params: Params, k: int) -> Params:
        """Return the parameters for k rows that keep what was calibrated for ten.

        The walk keeps the `ef_search` best rows that it saw, and must keep clearly more than are
        wanted. Two more for each row more than ten kept the recall on real embeddings, for
        k from 11 to 100 and any `ef_search`; growing in proportion to k cost three times that.
        """
        if not isinstance(params, HnswParams):
            raise wrong_params(self.kind, params)
        if k <= CALIBRATED_K:
            return params
        return HnswParams(params.ef_search + 2 * (k - CALIBRATED_K), params.rescore)

    def exhaustive(self, params: Params) -> bool:
        """Return False: a walk may miss a row with any parameters."""
        return False

    def scans(self, params: Params) -> bool:
        """Return False: a walk is no scan."""
        return False

    def write(self, write: WriteBytes) -> None:
        """Give the graph's bytes to `write`, piece by piece; its errors pass unchanged."""
        view = self.buffer.data.toreadonly()
        for start in range(0, len(view), _PIECE):
            write(view[start : start + _PIECE])


def build_hnsw(
    spec: HnswSpec, vectors: MappedRows, base: Hnsw | None, threads: int | None, watch: Watch
) -> Hnsw:
    """Return a graph over all rows, made anew or from a private copy of `base`.

    Parameters
    ----------
    spec : HnswSpec
        How to link.
    vectors : MappedRows
        The rows.
    base : Hnsw or None
        A graph over the first of these rows; not modified, and not used if its spec is another.
    threads : int or None
        None takes all cores.
    watch : Watch
        Progress and stop.

    Returns
    -------
    Hnsw
        The same graph for any number of threads.

    Raises
    ------
    BuildInterrupted
        If `watch` says stop.

    Notes
    -----
    FAISS adds rows to a graph only together with their vectors, so a copy of all vectors, or
    of their codes, is in memory during the build. What FAISS linked is completed by
    `link_lost_rows`.
    """
    use_threads(threads)
    # The ranges of sq8 are those of the rows that they were made from.
    if base is not None and (base.spec != spec or spec.codes == "sq8"):
        base = None
    graph = _linked(spec, vectors, base, watch)
    link_lost_rows(graph, 0 if base is None else base.rows, threads, watch)
    return graph


def _linked(spec: HnswSpec, vectors: MappedRows, base: Hnsw | None, watch: Watch) -> Hnsw:
    """Return a graph as FAISS links it."""
    if spec.codes in ("bf16", "sq8"):
        return _link_codes(spec, vectors, base, watch)
    graph = _link(spec, vectors.rows, base, watch)
    if spec.codes == "float32":
        return Hnsw(to_bytes(graph, faiss.IO_FLAG_SKIP_STORAGE), vectors)
    return Hnsw(to_bytes(_with_codes(spec, graph, vectors.rows)), vectors, spec.codes)


def _link_codes(spec: HnswSpec, vectors: MappedRows, base: Hnsw | None, watch: Watch) -> Hnsw:
    """Return a graph that was linked by the codes of all rows, which are part of it."""
    rows = vectors.rows
    if base is None:
        graph = _empty(spec, rows.shape[1])
        graph.train(training_rows(rows))
    else:
        graph = faiss.deserialize_index(base.buffer)
    graph.hnsw.rng = faiss.RandomGenerator(12345 + graph.ntotal)
    for chunk in watch.chunks(graph.ntotal, len(rows), _CHUNK):
        graph.add(rows[chunk])
    return Hnsw(to_bytes(graph), vectors, spec.codes)


def _empty(spec: HnswSpec, dim: int) -> Any:
    """Return an empty graph over codes."""
    graph = faiss.IndexHNSWSQ(dim, QUANTIZERS[spec.codes], spec.m, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = spec.ef_construction
    return graph


def _link(spec: HnswSpec, rows: Float32Array, base: Hnsw | None, watch: Watch) -> Any:
    """Return a graph that was linked by the rows themselves, with a copy of them as storage."""
    storage = faiss.IndexFlatIP(rows.shape[1])
    storage.codes.resize(rows.nbytes)  # reserves the memory once; emptied it is kept
    storage.codes.resize(0)
    if base is None:
        graph = faiss.IndexHNSWFlat(rows.shape[1], spec.m, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = spec.ef_construction
    else:
        graph = faiss.deserialize_index(base.buffer)
        storage.add(rows[: base.rows])
    if graph.storage is not None:
        graph.storage.this.own(True)  # the storage that it came with goes when the proxy does
    graph.storage = storage  # not the proxy's any more
    graph.own_fields = True
    # Levels are drawn from here on; not the same draws again in each extension.
    graph.hnsw.rng = faiss.RandomGenerator(12345 + graph.ntotal)
    for chunk in watch.chunks(graph.ntotal, len(rows), _CHUNK):
        graph.add(rows[chunk])
    return graph


def _with_codes(spec: HnswSpec, graph: Any, rows: Float32Array) -> Any:
    """Return a graph with the links of another one and codes of the rows, ranges made anew."""
    coded = _empty(spec, rows.shape[1])
    storage = faiss.downcast_index(coded.storage)
    faiss.copy_array_to_vector(
        _ranges(rows[:: -(-len(rows) // _RANGE_ROWS) or 1]), storage.sq.trained
    )
    storage.is_trained = True
    storage.add(rows)
    coded.hnsw = graph.hnsw
    coded.ntotal, coded.is_trained = len(rows), True
    return coded


def _ranges(rows: Float32Array) -> Float32Array:
    """Return the lower ends of all dimensions' ranges for 4 bits, then their lengths.

    FAISS's own training by quantiles gives other ranges each time. Of its 16 steps the last begins
    where the range ends, so the range is shorter by one.
    """
    low, high = np.quantile(rows, (_OUTSIDE, 1 - _OUTSIDE), axis=0)
    return np.concatenate([low, (high - low) * 15 / 16]).astype(np.float32)


def _check(graph: Any, vectors: MappedRows, codes: str) -> None:
    count, dim = vectors.rows.shape
    levels = graph.hnsw.levels.size()
    if graph.d != dim or graph.ntotal > count or levels != graph.ntotal:
        raise CorruptIndexError(
            f"the graph links {graph.ntotal} rows ({levels} levels) of dimension {graph.d}, "
            f"but there are {count} rows of dimension {dim}"
        )
    if graph.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise CorruptIndexError("the graph has another metric")
    if graph.ntotal and graph.hnsw.entry_point < 0:  # FAISS itself refuses too great a one
        raise CorruptIndexError("the graph starts at no row")
    if codes == "float32":
        if graph.storage is not None:
            raise CorruptIndexError("the graph has vectors of its own")
        return
    own = None if graph.storage is None else faiss.downcast_index(graph.storage)
    if own is None or (own.sq.qtype, own.ntotal) != (QUANTIZERS[codes], graph.ntotal):
        raise CorruptIndexError(f"the graph has no {codes} codes of its rows")
