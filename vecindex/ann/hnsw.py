"""HNSW: a graph over the mapped rows, which holds links only and no vectors of its own."""

from __future__ import annotations

from functools import lru_cache
from itertools import takewhile
from typing import Any, ClassVar

import numpy as np

from vecindex.ann.base import CALIBRATED_K, Watch, WriteBytes, wrong_params
from vecindex.ann.native import check_type_code, faiss, flat_view, pointer, read_view, to_bytes
from vecindex.ann.threads import in_pieces, use_threads
from vecindex.arrays import Float32Array, Int64Array, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import HnswParams, HnswSpec, Params

_TYPE_CODE = b"IHNf"
_CHUNK = 4096  # rows linked between two looks at the clock: about a second on two cores
_PIECE = 1 << 24  # bytes given to a file at once
_EF_LADDER = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)


@lru_cache(maxsize=512)
def _search_params(ef_search: int) -> Any:
    return faiss.SearchParametersHNSW(efSearch=ef_search)


class Hnsw:
    """A finished graph, read from its bytes and put upon the rows that it links.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (bytes,)
        The graph as `write` gave it, of bytes known to be undamaged. Kept, not copied.
    vectors : MappedRows
        The rows, at least as many as the graph links. Kept, not copied.

    Attributes
    ----------
    rows : int
        Rows that the graph links.
    buffer, vectors
        As given; not to be changed, nor is `graph`, FAISS's own object.

    Raises
    ------
    CorruptIndexError
        If the bytes are no HNSW graph over such rows.
    """

    kind: ClassVar[str] = "hnsw"

    def __init__(self, buffer: UInt8Array, vectors: MappedRows) -> None:
        check_type_code(buffer, _TYPE_CODE, self.kind)
        graph, self._reader = read_view(buffer)
        _check(graph, vectors)
        self._flat = flat_view(vectors)
        graph.storage = self._flat
        graph.own_fields = False
        # FAISS holds bare pointers into these.
        self.buffer, self.vectors, self.graph = buffer, vectors, graph
        self._search = graph.search_c
        self.rows: int = graph.ntotal

    @property
    def size_bytes(self) -> int:
        """Bytes of the graph; the rows are not part of it."""
        return self.buffer.nbytes

    @property
    def spec(self) -> HnswSpec:
        """How the graph was linked."""
        hnsw = self.graph.hnsw
        return HnswSpec(hnsw.nb_neighbors(1), hnsw.efConstruction)

    def propose(
        self, queries: Float32Array, k: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows, shape (q, k), best first, -1 pads; see `Structure`."""
        if not isinstance(params, HnswParams):
            raise wrong_params(self.kind, params)
        rows = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        wanted = _search_params(params.ef_search)

        def search(part: slice) -> None:
            """Search for some of the queries, on the thread that calls."""
            asked = queries[part]
            self._search(
                len(asked), pointer(asked), k, pointer(scores[part]), pointer(rows[part]), wanted
            )

        in_pieces(search, len(queries), threads)
        return rows

    def grid(self) -> tuple[Params, ...]:
        """Return `ef_search` from 16 upwards, as far as it is below the number of rows."""
        first, *others = _EF_LADDER
        return tuple(HnswParams(ef) for ef in (first, *takewhile(self.rows.__gt__, others)))

    def widen(self, params: Params, k: int) -> Params:
        """Return the parameters for k candidates that keep what was calibrated for ten.

        The walk keeps the `ef_search` best rows that it saw, and must keep clearly more than are
        wanted. Two more for each candidate more than ten kept the recall on real embeddings, for
        k from 11 to 100 and any `ef_search`; growing in proportion to k cost three times that.
        """
        if not isinstance(params, HnswParams):
            raise wrong_params(self.kind, params)
        if k <= CALIBRATED_K:
            return params
        return HnswParams(params.ef_search + 2 * (k - CALIBRATED_K))

    def exhaustive(self, params: Params) -> bool:
        """Return False: a walk may miss a row with any parameters."""
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
    FAISS adds rows to a graph only together with their vectors, so a copy of all vectors is in
    memory during the build.
    """
    count, dim = vectors.rows.shape
    use_threads(threads)
    if base is not None and base.spec != spec:
        base = None
    storage = faiss.IndexFlatIP(dim)
    storage.codes.resize(vectors.rows.nbytes)  # reserves the memory once; emptied it is kept
    storage.codes.resize(0)
    graph = _growing(spec, dim, storage, base)
    if base is not None:
        storage.add(vectors.rows[: base.rows])
    # Levels are drawn from here on; not the same draws again in each extension.
    graph.hnsw.rng = faiss.RandomGenerator(12345 + graph.ntotal)
    for chunk in watch.chunks(graph.ntotal, count, _CHUNK):
        graph.add(vectors.rows[chunk])
    return Hnsw(to_bytes(graph, faiss.IO_FLAG_SKIP_STORAGE), vectors)


def _growing(spec: HnswSpec, dim: int, storage: Any, base: Hnsw | None) -> Any:
    """Return a graph that can be added to, with `storage` for its vectors."""
    if base is None:
        graph = faiss.IndexHNSWFlat(dim, spec.m, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = spec.ef_construction
        graph.storage.this.own(True)  # the storage that it came with goes when the proxy does
    else:
        graph = faiss.deserialize_index(base.buffer)
    graph.own_fields = False
    graph.storage = storage
    return graph


def _check(graph: Any, vectors: MappedRows) -> None:
    count, dim = vectors.rows.shape
    levels = graph.hnsw.levels.size()
    if graph.d != dim or graph.ntotal > count or levels != graph.ntotal:
        raise CorruptIndexError(
            f"the graph links {graph.ntotal} rows ({levels} levels) of dimension {graph.d}, "
            f"but there are {count} rows of dimension {dim}"
        )
    if graph.metric_type != faiss.METRIC_INNER_PRODUCT or graph.storage is not None:
        raise CorruptIndexError("the graph has another metric, or vectors of its own")
