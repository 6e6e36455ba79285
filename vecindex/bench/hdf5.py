"""Data sets in the HDF5 files of ann-benchmarks: `train`, `test` and `neighbors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vecindex.arrays import Float32Array, Int64Array, unit_rows
from vecindex.bench.data import Dataset, drawn
from vecindex.bench.truth import are_nearest
from vecindex.errors import InputError, missing_extra

SUFFIXES = (".hdf5", ".h5", ".hdf")
"""Endings of files that are read as HDF5."""

_ANGULAR = ("angular", "cosine")  # distances by which `neighbors` are right for unit rows
_RANKED_OTHERWISE = ("euclidean", "l2", "dot", "ip")  # usable vectors, other neighbours


def read_hdf5(path: Path, *, sample: int = 500, seed: int = 0) -> Dataset:
    """Return the data set of an ann-benchmarks file.

    Parameters
    ----------
    path : Path
        Holds `train` (n, dim), `test` (q, dim) and, if known, `neighbors` (q, t).
    sample : int
        At most so many of the queries in `test` are taken.
    seed : int
        Of the queries that are taken.

    Returns
    -------
    Dataset
        Of unit rows. `neighbors` are used if the file's distance is angular and they are right;
        otherwise the notes say why the truth is computed anew.

    Raises
    ------
    InputError
        If the file is not HDF5, lacks an array, or holds something other than vectors.
    MissingExtraError
        If h5py is not installed.
    OSError
        If the file cannot be opened.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("h5py", "bench") from error
    path.open("rb").close()  # a missing file as Python says it
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not an HDF5 file: {error}") from error
    with file:
        return _dataset(path, file, sample, seed)


def _dataset(path: Path, file: Any, sample: int, seed: int) -> Dataset:
    distance = _distance(path, file)
    train, test = _vectors(path, file, "train"), _vectors(path, file, "test")
    if train.shape[1] != test.shape[1]:
        raise InputError(
            f"{path}: train has dimension {train.shape[1]}, but test has {test.shape[1]}"
        )
    chosen = drawn(len(test), sample, seed)
    queries, source = test[chosen], f"{len(chosen):,} of {len(test):,} test queries of the file"
    known = _neighbors(path, file, len(test))
    neighbors = None if known is None else known[chosen]
    notes: tuple[str, ...] = ()
    if distance in _RANKED_OTHERWISE:
        notes = (
            f"the file's distance is {distance}: rows are normalised here, and the truth is "
            "computed anew instead of taken from its neighbors",
        )
        neighbors = None
    elif neighbors is not None and not are_nearest(train, queries, neighbors):
        notes = (
            "the file's neighbors are not the nearest rows by cosine: the truth is computed anew",
        )
        neighbors = None
    return Dataset(path.name, train, queries, source, neighbors, notes)


def _distance(path: Path, file: Any) -> str:
    named = file.attrs.get("distance", "angular")
    distance = str(named.decode() if isinstance(named, bytes) else named).lower()
    if distance not in (*_ANGULAR, *_RANKED_OTHERWISE):
        raise InputError(
            f"{path}: its distance is {distance!r}; expected one of dense vectors: "
            f"{', '.join((*_ANGULAR, *_RANKED_OTHERWISE))}"
        )
    return distance


def _vectors(path: Path, file: Any, name: str) -> Float32Array:
    array = _array(path, file, name)
    if array is None or array.ndim != 2 or array.dtype.kind not in "fiu" or not len(array):
        there = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise InputError(
            f"{path}: expected numbers of shape (n, dim) in {name!r}, found {there}; "
            f"the file holds: {', '.join(file) or 'nothing'}"
        )
    return unit_rows(array, what=f"{path.name}: {name}")


def _neighbors(path: Path, file: Any, queries: int) -> Int64Array | None:
    array = _array(path, file, "neighbors")
    if array is None:
        return None
    if array.ndim != 2 or array.dtype.kind not in "iu" or len(array) != queries:
        raise InputError(
            f"{path}: expected integers of shape ({queries}, t) in 'neighbors', "
            f"found {array.dtype} of shape {array.shape}"
        )
    return np.asarray(array, dtype=np.int64) if array.shape[1] else None


def _array(path: Path, file: Any, name: str) -> Any:
    """Return an array of the file, None if there is none of this name."""
    entry = file.get(name)
    if entry is None:
        return None
    if not hasattr(entry, "shape"):
        raise InputError(f"{path}: {name!r} is a group, not an array")
    return entry[()]
