"""Build, write and load structures by kind."""

from __future__ import annotations

from vecindex.ann.base import Progress, ShouldStop, Structure, Watch, WriteBytes
from vecindex.ann.flat_codes import FlatScan, FlatSq, build_flat
from vecindex.ann.hnsw import Hnsw, build_hnsw
from vecindex.ann.ivf import Ivf, IvfSq
from vecindex.ann.ivf_build import build_ivf
from vecindex.ann.ivf_pq import IvfPq
from vecindex.arrays import MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError
from vecindex.spec import HnswSpec, IvfSpec, StructureSpec


def build(
    spec: StructureSpec,
    vectors: MappedRows,
    *,
    threads: int | None = None,
    base: Structure | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Structure:
    """Return a structure over all rows.

    Parameters
    ----------
    spec : FlatSpec, HnswSpec or IvfSpec
        What to build; not flat without codes, which needs no structure.
    vectors : MappedRows
        The rows; kept by the structure, not copied (see `build_hnsw` for the time of the build).
    threads : int or None
        None takes all cores.
    base : Structure or None
        An earlier structure of the same spec over the first of these rows. A private copy of it
        is extended where that serves as well as a new build; `base` is not modified.
    progress : callable or None
        Called with rows done and rows in total.
    should_stop : callable or None
        Polled between chunks of some thousand rows; True ends the build.

    Returns
    -------
    Structure
        Covers all rows.

    Raises
    ------
    BuildInterrupted
        If `should_stop` said so. Nothing is left behind, as after any other exception.
    """
    watch = Watch(progress, should_stop)
    if base is not None and base.rows > len(vectors.rows):
        base = None
    if isinstance(spec, HnswSpec):
        return build_hnsw(spec, vectors, base if isinstance(base, Hnsw) else None, threads, watch)
    if isinstance(spec, IvfSpec):
        return build_ivf(spec, vectors, base, threads, watch)
    return build_flat(spec, vectors, base, threads, watch)


def write(structure: Structure, write: WriteBytes) -> None:
    """Give the structure's bytes to `write`, piece by piece.

    Parameters
    ----------
    structure : Structure
        Not modified.
    write : callable
        Takes a memoryview, valid during the call only. What it raises passes unchanged.
    """
    structure.write(write)


def load(spec: StructureSpec, buffer: UInt8Array, vectors: MappedRows) -> Structure:
    """Return the structure whose bytes `write` gave.

    Parameters
    ----------
    spec : FlatSpec, HnswSpec or IvfSpec
        What was built.
    buffer : ndarray of uint8, shape (bytes,)
        The bytes, usually a read-only mapping. The caller has checked that they are undamaged:
        FAISS has no checksum of its own. Kept, not copied.
    vectors : MappedRows
        The rows, at least as many as the structure covers. Kept, not copied.

    Returns
    -------
    Structure
        Ready for searching.

    Raises
    ------
    CorruptIndexError
        If the bytes are of another type, or do not belong to these rows.
    """
    if isinstance(spec, HnswSpec):
        return Hnsw(buffer, vectors, spec.codes)
    readers = _LISTS if isinstance(spec, IvfSpec) else _FLATS
    if spec.codes not in readers:
        raise CorruptIndexError(f"there is no structure of {spec}")
    structure = readers[spec.codes].read(buffer, vectors)
    if structure.codes != spec.codes:
        raise CorruptIndexError(f"the structure has codes {structure.codes}, not {spec.codes}")
    return structure


_LISTS: dict[str, type[Ivf] | type[IvfSq] | type[IvfPq]] = {
    "float32": Ivf,
    "bf16": IvfSq,
    "sq8": IvfSq,
    "pq4": IvfPq,
}
_FLATS: dict[str, type[FlatScan] | type[FlatSq]] = {
    "bf16": FlatSq,
    "sq8": FlatSq,
    "pq4": FlatScan,
}
