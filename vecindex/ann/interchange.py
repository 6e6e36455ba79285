"""FAISS files of others: where their vectors are, found without giving a byte of them to FAISS.

FAISS trusts what it reads: a hostile file makes it open other files, or ends the process. The few
types that hold plain vectors are simple enough to be read here, every length checked first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vecindex.arrays import Float32Array, Int64Array
from vecindex.errors import CorruptIndexError, InputError

_FLAT = (b"IxFI", b"IxF2")  # IndexFlatIP, IndexFlatL2
_GRAPH = b"IHNf"  # IndexHNSWFlat
_LISTS = b"IwFl"  # IndexIVFFlat
_IDS = (b"IxMp", b"IxM2")  # IndexIDMap, IndexIDMap2
_PLAIN = (*_FLAT, _GRAPH, _LISTS)

_TAKEN = "IndexFlatIP, IndexFlatL2, IndexHNSWFlat, IndexIVFFlat, or an IndexIDMap over one of them"
_METRICS = {0: "inner product", 1: "L2"}
_HASHTABLE = 2  # kind of direct map

_LOSSY = {
    b"IxPq": "IndexPQ", b"IwPQ": "IndexIVFPQ", b"IxSQ": "IndexScalarQuantizer",
    b"IwSq": "IndexIVFScalarQuantizer", b"IHNp": "IndexHNSWPQ", b"IHNs": "IndexHNSWSQ",
    b"IPfs": "IndexPQFastScan", b"IwPf": "IndexIVFPQFastScan",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Located:
    """Where the vectors of a FAISS file are.

    Parameters
    ----------
    path : Path
        The file.
    dim : int
        Dimension.
    offsets : ndarray of int64, shape (n,)
        The byte at which each vector begins, in the order of their labels; of an `IndexIDMap` in
        the order in which they were added.
    labels : ndarray of int64, shape (n,), or None
        What FAISS calls them; None for 0, 1, 2...
    """

    path: Path
    dim: int
    offsets: Int64Array
    labels: Int64Array | None = None

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.offsets)

    def batches(self, size: int) -> Iterator[Float32Array]:
        """Yield the vectors as they are in the file, `size` of them at a time.

        Raises
        ------
        CorruptIndexError
            If the file has become shorter.
        """
        width = 4 * self.dim
        with self.path.open("rb", buffering=0) as file:
            for first in range(0, len(self), size):
                offsets = self.offsets[first : first + size]
                if (np.diff(offsets) == width).all():
                    data = os.pread(file.fileno(), width * len(offsets), int(offsets[0]))
                else:
                    data = b"".join(os.pread(file.fileno(), width, at) for at in offsets.tolist())
                if len(data) != width * len(offsets):
                    raise CorruptIndexError(f"{self.path} was cut while it was read")
                yield np.frombuffer(data, dtype="<f4").reshape(-1, self.dim)


def locate(path: str | os.PathLike[str]) -> Located:
    """Return where the vectors of a FAISS file are.

    Parameters
    ----------
    path : str or path
        What `faiss.write_index` wrote: IndexFlatIP, IndexFlatL2, IndexHNSWFlat, IndexIVFFlat, or
        an IndexIDMap or IndexIDMap2 over one of them.

    Returns
    -------
    Located
        Nothing but lengths and labels was read.

    Raises
    ------
    InputError
        If the file is of another type, or its vectors are elsewhere.
    CorruptIndexError
        If lengths or counts in the file cannot be right; the message names the offset.
    OSError
        If the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        reader = _Reader(path, file)
        found = _index(reader, (*_PLAIN, *_IDS))
        if reader.at != reader.size:
            raise reader.corrupt(f"the index ends here, but the file has {reader.size} bytes")
    return found


class _Reader:
    """Reads numbers from a file, and refuses lengths that the file cannot have."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0

    def corrupt(self, what: str) -> CorruptIndexError:
        return CorruptIndexError(f"{self.path} is damaged at offset {self.at}: {what}")

    def take(self, size: int) -> bytes:
        start = self.skip(size)
        self._file.seek(start)
        data = self._file.read(size)
        if len(data) != size:
            raise CorruptIndexError(f"{self.path} was cut while it was read")
        return data

    def skip(self, size: int) -> int:
        """Pass over bytes that must be there, and return where they begin."""
        if size > self.size - self.at:
            raise self.corrupt(f"{size} more bytes expected, {self.size - self.at} are left")
        start = self.at
        self.at += size
        return start

    def number(self, form: str) -> int:
        value: int = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]
        return value

    def vector(self, width: int) -> tuple[int, int]:
        """Pass over a counted vector; return where its items begin, and their number."""
        count = self.number("Q")
        return self.skip(count * width), count

    def int64s(self, count: int) -> Int64Array:
        return np.frombuffer(self.take(8 * count), dtype="<i8").astype(np.int64)


def _index(reader: _Reader, allowed: tuple[bytes, ...]) -> Located:
    code = reader.take(4)
    if code not in allowed:
        raise _refused(reader.path, code)
    dim, count = _header(reader)
    if code in _FLAT:
        found = _flat(reader, dim, count)
    elif code == _GRAPH:
        found = _graph(reader)
    elif code == _LISTS:
        found = _lists(reader, dim)
    else:
        found = _with_ids(reader)
    if (found.dim, len(found)) != (dim, count):
        raise reader.corrupt(f"{len(found)} vectors of {found.dim}, but {count} of {dim} were said")
    return found


def _header(reader: _Reader) -> tuple[int, int]:
    dim, count = reader.number("i"), reader.number("q")
    reader.skip(16 + 1)  # two numbers without a meaning, and whether it is trained
    metric = reader.number("i")
    if dim < 1 or count < 0:
        raise reader.corrupt(f"{count} vectors of dimension {dim}")
    if metric not in _METRICS:
        raise InputError(
            f"{reader.path}: the FAISS index compares by metric {metric}; only "
            f"{' and '.join(_METRICS.values())} can be taken in, which cosine replaces"
        )
    return dim, count


def _flat(reader: _Reader, dim: int, count: int) -> Located:
    start, floats = reader.vector(4)
    if floats != dim * count:
        raise reader.corrupt(f"{floats} numbers, but {count} vectors of {dim} were said")
    return Located(reader.path, dim, start + 4 * dim * np.arange(count, dtype=np.int64))


def _graph(reader: _Reader) -> Located:
    for width in (8, 4, 4, 8, 4):  # probabilities, neighbours a level, levels, offsets, links
        reader.vector(width)
    reader.skip(5 * 4)  # entry point, greatest level, ef_construction, ef_search, beam
    return _index(reader, _FLAT)


def _with_ids(reader: _Reader) -> Located:
    inner = _index(reader, _PLAIN)
    if inner.labels is not None:
        raise InputError(f"{reader.path}: an IndexIDMap over an index with ids of its own")
    count = reader.number("Q")
    if count != len(inner):
        raise reader.corrupt(f"{count} ids for {len(inner)} vectors")
    return Located(inner.path, inner.dim, inner.offsets, reader.int64s(count))


def _lists(reader: _Reader, dim: int) -> Located:
    lists = reader.number("Q")
    reader.skip(8)  # nprobe
    _index(reader, (*_FLAT, _GRAPH))  # what finds the lists
    direct_map = reader.number("B")
    reader.vector(8)
    if direct_map == _HASHTABLE:
        reader.vector(16)
    kind = reader.take(4)
    if kind != b"ilar":
        raise InputError(
            f"{reader.path}: the inverted lists (type {kind!r}) are not in this file; write the "
            "index with its lists in memory (faiss.ArrayInvertedLists)"
        )
    if (reader.number("Q"), reader.number("Q")) != (lists, 4 * dim):
        raise reader.corrupt(f"inverted lists of another shape than {lists} with vectors of {dim}")
    sizes = _list_sizes(reader, lists)
    offsets, labels = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for size in sizes:
        start = reader.skip(4 * dim * size)
        offsets.append(start + 4 * dim * np.arange(size, dtype=np.int64))
        labels.append(reader.int64s(size))
    every = np.concatenate(labels)
    order = np.argsort(every, kind="stable")
    every = every[order]
    plain = np.array_equal(every, np.arange(len(every)))
    return Located(
        reader.path, dim, np.concatenate(offsets)[order], labels=None if plain else every
    )


def _list_sizes(reader: _Reader, lists: int) -> list[int]:
    """Return the number of vectors in each list that has some, in the file's order."""
    form, count = reader.take(4), reader.number("Q")
    if form not in (b"full", b"sprs") or (form == b"full" and count != lists):
        raise reader.corrupt(f"{count} sizes of form {form!r} for {lists} inverted lists")
    if 8 * count > reader.size - reader.at:
        raise reader.corrupt(f"{count} sizes expected")
    sizes = reader.int64s(count)
    sizes = sizes if form == b"full" else sizes[1::2]  # pairs of list and size
    if (sizes < 0).any():
        raise reader.corrupt("a list has fewer than no vectors")
    return [size for size in sizes.tolist() if size]


def _refused(path: Path, code: bytes) -> InputError:
    if code in _LOSSY:
        why = f"a FAISS {_LOSSY[code]}, which keeps codes from which the vectors cannot be had back"
    else:
        why = f"not a FAISS index of plain vectors (type {code!r})"
    return InputError(
        f"{path}: {why}. Taken in are {_TAKEN}; for others give the vectors that the index was "
        "built from to VectorIndex.add"
    )
