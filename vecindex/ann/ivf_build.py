"""Training and filling of IVF lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vecindex.ann import codebook
from vecindex.ann.base import Watch
from vecindex.ann.flat_codes import QUANTIZERS, FlatScan, training_rows
from vecindex.ann.ivf import Ivf, IvfSq
from vecindex.ann.ivf_pq import IvfPq, assign, fill
from vecindex.ann.native import faiss
from vecindex.ann.scan import Scan
from vecindex.ann.threads import use_threads
from vecindex.arrays import Float32Array, MappedRows
from vecindex.spec import IvfSpec

_CHUNK = 16_384  # rows put into lists between two looks at the clock
_LEAST_PER_LIST = 39  # training rows a centroid; FAISS warns below
_MOST_PER_LIST = 48  # more train longer and gain nothing measurable
_ITERATIONS = 8
_SEED = 1234


def lists_for(spec: IvfSpec, rows: int) -> int:
    """Return the number of lists for so many rows, at least 1.

    Parameters
    ----------
    spec : IvfSpec
        A given `nlist` is taken as it is, as far as there are rows.
    rows : int
        Rows to train with.

    Returns
    -------
    int
        About twice the square root of `rows`, for 4-bit codes about the power of two next to the
        square root; but so few that each list has 39 to train on.
    """
    if spec.nlist is not None:
        return max(1, min(spec.nlist, rows))
    wanted = 2 * math.isqrt(rows)
    if spec.codes == "pq4":
        wanted = 1 << max(0, round(math.log2(max(1, 1.2 * math.sqrt(rows)))))
    return max(1, min(wanted, rows // _LEAST_PER_LIST))


def build_ivf(
    spec: IvfSpec, vectors: MappedRows, base: object, threads: int | None, watch: Watch
) -> Ivf | IvfSq | IvfPq:
    """Return lists over all rows, trained anew or with the centroids and codes of `base`.

    Parameters
    ----------
    spec : IvfSpec
        How many lists, and of what.
    vectors : MappedRows
        The rows.
    base : object
        A structure over the first of these rows; not modified. If it is of the same kind, its
        centroids stay until there are more than twice the rows that these were trained with. A
        scan of all rows becomes that of lists of 4-bit codes.
    threads : int or None
        None takes all cores.
    watch : Watch
        Progress and stop.

    Returns
    -------
    Ivf, IvfSq or IvfPq
        The same lists for any number of threads.

    Raises
    ------
    BuildInterrupted
        If `watch` says stop.
    """
    rows = vectors.rows
    use_threads(threads)
    watch.check()
    usable = _usable(spec, base, len(rows))
    trained = len(rows) if usable is None else usable.trained
    if usable is None:
        quantizer = _train(rows, lists_for(spec, len(rows)))
    else:
        quantizer = _centroids(usable.quantizer)
    if spec.codes == "pq4":
        if isinstance(base, FlatScan) and base.rows == len(rows):
            return _build_pq(rows, quantizer, base.scan, base.trained, watch)
        words = codebook.empty_like(usable.index) if isinstance(usable, IvfPq) else None
        words = codebook.train(rows, threads) if words is None else words
        scan = Scan.build(words, rows, threads, watch)
        use_threads(threads)
        return _build_pq(rows, quantizer, scan, trained, watch)
    if spec.codes != "float32":
        return _build_sq(spec, rows, quantizer, trained, watch)
    lists = np.empty(len(rows), np.int64)
    for chunk in watch.chunks(0, len(rows), _CHUNK):
        lists[chunk] = quantizer.search(rows[chunk], 1)[1][:, 0]
    members = np.argsort(lists, kind="stable").astype(np.int32)
    sizes = np.bincount(lists, minlength=quantizer.ntotal)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Ivf(quantizer, members, bounds, trained, vectors)


def _usable(spec: IvfSpec, base: object, rows: int) -> Ivf | IvfSq | IvfPq | None:
    """Return the earlier structure if its centroids may stay."""
    if not isinstance(base, Ivf | IvfSq | IvfPq) or base.codes != spec.codes:
        return None
    same = base.nlist == lists_for(spec, base.trained)
    return base if same and rows <= 2 * base.trained else None


def _train(rows: Float32Array, nlist: int) -> Any:
    """Return centroids made from a seeded sample of the rows."""
    dim = rows.shape[1]
    quantizer = faiss.IndexFlatIP(dim)
    if len(rows) == 0:  # nothing to train with: any centroid will do
        quantizer.add(np.eye(1, dim, dtype=np.float32))
        return quantizer
    clustering = faiss.Clustering(dim, nlist)
    clustering.niter = _ITERATIONS
    clustering.spherical = True
    clustering.seed = _SEED
    clustering.min_points_per_centroid = 1  # a given nlist may be large: no warning on stderr
    clustering.max_points_per_centroid = _MOST_PER_LIST
    count = min(len(rows), _MOST_PER_LIST * nlist)
    sample = np.random.default_rng(_SEED).choice(len(rows), count, replace=False)
    clustering.train(rows[np.sort(sample)], quantizer)
    return quantizer


def _centroids(quantizer: Any) -> Any:
    """Return the same centroids in memory of their own."""
    copy = faiss.IndexFlatIP(quantizer.d)
    copy.add(quantizer.reconstruct_n(0, quantizer.ntotal))
    return copy


def _build_sq(
    spec: IvfSpec, rows: Float32Array, quantizer: Any, trained: int, watch: Watch
) -> IvfSq:
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, rows.shape[1], quantizer.ntotal, QUANTIZERS[spec.codes],
        faiss.METRIC_INNER_PRODUCT, False,
    )  # fmt: skip
    index.sq.train(training_rows(rows))
    index.is_trained = True
    for chunk in watch.chunks(0, len(rows), _CHUNK):
        index.add(rows[chunk])
    return IvfSq(index, trained, (quantizer,))


def _build_pq(rows: Float32Array, quantizer: Any, scan: Scan, trained: int, watch: Watch) -> IvfPq:
    """Return lists of the scan's codes."""
    if quantizer.d != scan.index.d:
        centroids = codebook.padded(quantizer.reconstruct_n(0, quantizer.ntotal))
        quantizer = faiss.IndexFlatIP(centroids.shape[1])
        quantizer.add(centroids)
    lists = assign(quantizer, rows, watch)
    codes = codebook.unpack(scan.index, np.arange(len(rows)))
    return IvfPq(fill(quantizer, scan.index, codes, lists), scan, trained, (quantizer,))
