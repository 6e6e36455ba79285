"""FAISS at arm's length: the module itself, raw pointers, bytes in and bytes out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
    __cpu_features__ as _features,  # FAISS asks it, too
)

from vecindex.arrays import HEADER_BYTES, MappedRows, UInt8Array
from vecindex.errors import CorruptIndexError


def _core() -> str:
    """Return OpenBLAS's name of a processor that has what this one has, "" if it is left to it."""
    if _features.get("AVX512_SKX"):
        return "SkylakeX"
    return "Haswell" if _features.get("AVX2") and _features.get("FMA3") else ""


_settings = {
    # OpenMP's threads wait for each other by spinning, unless it is told otherwise. On a machine
    # with other work to do, training codes then took 25 s instead of 0.7 s.
    "OMP_WAIT_POLICY": "passive",
    # FAISS's wheels bring an OpenBLAS of 2021, which takes newer processors for ones that have SSE3
    # only: on a Xeon of 2023 a product of matrices took 4.5 times as long.
    "OPENBLAS_CORETYPE": _core(),
}
_settings = {name: value for name, value in _settings.items() if value and name not in os.environ}
os.environ.update(_settings)  # read when the libraries are loaded
import faiss as _faiss  # noqa: E402 - see above

for _name in _settings:
    del os.environ[_name]  # not for the processes that this one starts

faiss: Any = _faiss
"""FAISS without its type stubs: they reject calls that work, and type `search` as Any anyway."""

pointer: Any = faiss.swig_ptr
"""Raw pointer to a contiguous array's data; the caller keeps the array alive during the call."""

# A second line behind the store's checksums. Process-wide, so set once and not tight: no vector
# in a file of ours has more bytes, and no list more entries.
faiss.set_deserialization_vector_byte_limit(1 << 40)
faiss.set_deserialization_loop_limit(1 << 28)

_NTOTAL_OFFSET = 8  # after the type code and the dimension: int64
_COUNT_BYTES = 8  # the last field of an empty index's bytes: uint64, the number of floats


def flat_view(vectors: MappedRows) -> Any:
    """Return an `IndexFlatIP` whose vectors are the mapped rows themselves, not a copy.

    Parameters
    ----------
    vectors : MappedRows
        At least one row. The index's header is put right before the first row, inside the
        mapping's free bytes; the same bytes each time, so that several views may share it.

    Returns
    -------
    faiss.IndexFlatIP
        Valid as long as the caller keeps `vectors` alive. Must not be added to.

    Raises
    ------
    RuntimeError
        If this build of FAISS lays out its files in another way than expected.
    """
    count, dim = vectors.rows.shape
    header = flat_header(count, dim)
    start = HEADER_BYTES - len(header)
    if start < 0:
        raise RuntimeError(f"FAISS header of {len(header)} bytes does not fit {HEADER_BYTES}")
    vectors.buffer[start:HEADER_BYTES] = header
    index, _ = read_view(vectors.buffer[start : HEADER_BYTES + vectors.rows.nbytes])
    in_place = not index.codes.is_owned and (
        not count or _address(index) == vectors.rows.ctypes.data
    )
    if not in_place or (index.ntotal, index.d) != (count, dim):
        raise RuntimeError(f"FAISS {faiss.__version__} did not map {count} rows of {dim} in place")
    return index


def flat_header(count: int, dim: int) -> UInt8Array:
    """Return the bytes that stand before the rows in a file of an `IndexFlatIP`."""
    header = to_bytes(faiss.IndexFlatIP(dim))
    header[_NTOTAL_OFFSET : _NTOTAL_OFFSET + 8].view(np.int64)[0] = count
    header[-_COUNT_BYTES:].view(np.uint64)[0] = count * dim
    return header


def _address(index: Any) -> int:
    """Return where the index's codes are in memory."""
    return int(faiss.rev_swig_ptr(index.codes.data(), 1).ctypes.data)


_PIECE = 1 << 22  # bytes given to a file at once


def write_index(index: Any, write: Callable[[memoryview], object]) -> None:
    """Give the index's serialised bytes to `write`, piece by piece; its errors pass unchanged."""
    held = bytearray()

    def take(data: bytes) -> int:
        """Gather FAISS's many small writes into large ones."""
        nonlocal held
        held += data
        if len(held) >= _PIECE:
            full, held = held, bytearray()
            write(memoryview(full).toreadonly())
        return len(data)

    faiss.write_index(index, faiss.PyCallbackIOWriter(take))
    write(memoryview(held).toreadonly())


def to_bytes(index: Any, flags: int = 0) -> UInt8Array:
    """Return the index's serialised bytes as a new array; `flags` are FAISS's `IO_FLAG_*`."""
    writer = faiss.VectorIOWriter()
    faiss.write_index(index, writer, flags)
    data: UInt8Array = faiss.vector_to_array(writer.data)
    return data


def view_of(vector: Any, kind: type[Any]) -> np.ndarray[Any, Any]:
    """Return a vector of FAISS's as a writable array over its own memory, kept by the caller."""
    view: np.ndarray[Any, Any] = faiss.rev_swig_ptr(vector.data(), vector.size())
    return view.view(kind)


def read_view(buffer: UInt8Array) -> tuple[Any, Any]:
    """Return the index that the bytes hold, its large arrays being views of them, and its reader.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (bytes,)
        Contiguous. The caller keeps it alive as long as the index.

    Returns
    -------
    tuple of (faiss.Index, faiss.ZeroCopyIOReader)
        The caller keeps the reader alive, too.

    Raises
    ------
    CorruptIndexError
        If FAISS cannot read the bytes, or does not need all of them.
    """
    reader = faiss.ZeroCopyIOReader(pointer(buffer), buffer.nbytes)
    try:
        index = faiss.read_index(reader)
    except (RuntimeError, MemoryError) as error:
        raise CorruptIndexError(f"FAISS cannot read the structure: {_first_line(error)}") from error
    if reader.rp_ != buffer.nbytes:
        raise CorruptIndexError(
            f"the structure ends at byte {reader.rp_}, but the file has {buffer.nbytes}"
        )
    return index, reader


def check_length(buffer: UInt8Array, least: int) -> None:
    """Raise `CorruptIndexError` if there are fewer bytes than any structure of the kind has."""
    if buffer.nbytes < least:
        raise CorruptIndexError(f"a structure cannot have only {buffer.nbytes} bytes")


def check_type_code(buffer: UInt8Array, allowed: bytes, kind: str) -> None:
    """Check the bytes' FAISS type code: some types make `read_index` open other files.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (bytes,)
        A serialised index.
    allowed : bytes
        The one four-byte code that is right here.
    kind : str
        The structure's name, for the message.

    Raises
    ------
    CorruptIndexError
        If the code is another one, or the bytes are too few to have one.
    """
    code = buffer[:4].tobytes()
    if code != allowed:
        raise CorruptIndexError(
            f"not a {kind} structure: type code {code!r} instead of {allowed!r}"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
