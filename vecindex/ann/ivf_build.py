"""Training and filling of IVF lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vecindex.ann.base import Watch
from vecindex.ann.ivf import Ivf
from vecindex.ann.native import faiss
from vecindex.ann.threads import use_threads
from vecindex.arrays import Float32Array, MappedRows
from vecindex.spec import IvfSpec

_CHUNK = 16_384  # rows put into lists between two looks at the clock
_LEAST_PER_LIST = 39  # training rows a centroid; FAISS warns below
_MOST_PER_LIST = 64  # more train longer and gain nothing measurable
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
        About twice the square root of `rows`, but so few that each list has 39 to train on.
    """
    if spec.nlist is not None:
        return max(1, min(spec.nlist, rows))
    return max(1, min(2 * math.isqrt(rows), rows // _LEAST_PER_LIST))


def build_ivf(
    spec: IvfSpec, vectors: MappedRows, base: Ivf | None, threads: int | None, watch: Watch
) -> Ivf:
    """Return lists over all rows, trained anew or with the centroids of `base`.

    Parameters
    ----------
    spec : IvfSpec
        How many lists.
    vectors : MappedRows
        The rows, which are copied into the lists.
    base : Ivf or None
        Lists over the first of these rows; not modified. Their centroids stay until there are
        more than twice the rows that these were trained with.
    threads : int or None
        None takes all cores.
    watch : Watch
        Progress and stop.

    Returns
    -------
    Ivf
        The same lists for any number of threads.

    Raises
    ------
    BuildInterrupted
        If `watch` says stop.
    """
    rows = vectors.rows
    use_threads(threads)
    watch.check()
    if base is None or len(rows) > 2 * base.trained or base.nlist != lists_for(spec, base.trained):
        index, trained = _train(rows, lists_for(spec, len(rows))), len(rows)
    else:
        index, trained = _copy(base), base.trained
    for chunk in watch.chunks(index.ntotal, len(rows), _CHUNK):
        index.add(rows[chunk])
    return Ivf(index, trained)


def _train(rows: Float32Array, nlist: int) -> Any:
    """Return empty lists around centroids made from a seeded sample of the rows."""
    dim = rows.shape[1]
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(quantizer, dim, nlist, faiss.METRIC_INNER_PRODUCT)
    if len(rows) == 0:  # nothing to train with: any centroid will do
        quantizer.add(np.eye(1, dim, dtype=np.float32))
        index.is_trained = True
        return index
    index.cp.spherical = True
    index.cp.seed = _SEED
    index.cp.min_points_per_centroid = 1  # a given nlist may be large: no warning on stderr
    index.cp.max_points_per_centroid = _MOST_PER_LIST
    count = min(len(rows), _MOST_PER_LIST * nlist)
    sample = np.random.default_rng(_SEED).choice(len(rows), count, replace=False)
    index.train(rows[np.sort(sample)])
    return index


def _copy(base: Ivf) -> Any:
    """Return lists of their own memory with the content of `base`, which may be mapped."""
    source = base.index
    quantizer = faiss.IndexFlatIP(source.d)
    quantizer.add(source.quantizer.reconstruct_n(0, source.nlist))
    index = faiss.IndexIVFFlat(quantizer, source.d, source.nlist, faiss.METRIC_INNER_PRODUCT)
    # FAISS's own clone of mapped lists stays mapped, and kills the process when added to.
    lists = source.invlists
    for number, size in enumerate(base.sizes.tolist()):
        index.invlists.add_entries(number, size, lists.get_ids(number), lists.get_codes(number))
    index.ntotal = source.ntotal
    return index
