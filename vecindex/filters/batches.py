"""Putting columns together: batches of them, picked rows, several joined; needs pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from vecindex.arrays import BoolArray, Int64Array
from vecindex.filters.layout import FLAGS, REST, TYPES, VERSION, Array, name_of

Paths: TypeAlias = dict[str, dict[str, Array]]

_ALWAYS = 64  # so many of the commonest paths get columns,
_MOST = 256  # and so many if
_SHARE = 16  # at least a sixteenth of the rows have a value there


def flags(count: int, rows: Int64Array) -> Array:
    """Return a column of bool that is true for `rows`."""
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return pa.array(mask)


def bits(array: Array) -> BoolArray:
    """Return a column of bool as a mask that can be changed; null is False."""
    mask = _unpacked(array, 1)
    if array.null_count:
        mask &= _unpacked(array, 0)
    return mask


def valid(array: Array) -> BoolArray | None:
    """Return which rows are not null, None if all."""
    return _unpacked(array, 0) if array.null_count else None


def _unpacked(array: Array, buffer: int) -> BoolArray:
    if not len(array):  # may be without buffers
        return np.zeros(0, dtype=np.bool_)
    stop = array.offset + len(array)
    packed = np.frombuffer(array.buffers()[buffer], dtype=np.uint8, count=-(-stop // 8))
    return np.unpackbits(packed, count=stop, bitorder="little")[array.offset :].view(np.bool_)


def split(batch: Any) -> tuple[Paths, Array | None]:
    """Return the columns of a batch by path and kind, and the flag `rest` if there is one."""
    paths: Paths = {}
    rest = None
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        kind, colon, path = name.partition(":")
        if colon:
            paths.setdefault(path, {})[kind] = array
        else:
            rest = array
    return paths, rest


def batch_of(paths: Paths, rest: BoolArray) -> Any:
    """Return a batch of the columns of the commonest paths; `rest` is changed for the others."""
    counts = {path: int(np.count_nonzero(_some(kinds))) for path, kinds in paths.items()}
    ranked = sorted(filter(counts.get, paths), key=lambda path: -counts[path])
    columns = {}
    for rank, path in enumerate(ranked):
        rare = rank >= _ALWAYS and (rank >= _MOST or counts[path] * _SHARE < len(rest))
        if rare or _only_maybe(paths[path]):
            rest |= _some(paths[path])
            continue
        for kind, array in sorted(paths[path].items()):
            if _some({kind: array}).any():  # not all of them were taken out
                columns[name_of(kind, path)] = array
    if rest.any() or not columns:  # a batch without any column would have no rows
        columns[REST] = pa.array(rest)
    fields = [pa.field(name, array.type) for name, array in columns.items()]
    return pa.record_batch(list(columns.values()), schema=pa.schema(fields, metadata=VERSION))


def _only_maybe(kinds: dict[str, Array]) -> bool:
    """Return whether no row is known to have a value: its column would keep a removed row's key."""
    return "maybe" in kinds and not any(
        _some({kind: array}).any() for kind, array in kinds.items() if kind != "maybe"
    )


def _some(kinds: dict[str, Array]) -> BoolArray:
    """Return which rows have a value, or may have."""
    masks = []
    for kind, array in kinds.items():
        mask = bits(array) if kind in FLAGS else valid(array)
        if mask is None:
            return np.ones(len(array), dtype=np.bool_)
        masks.append(mask)
    found: BoolArray = np.logical_or.reduce(masks)
    return found


def take(batch: Any, rows: Int64Array) -> Any:
    """Return the columns of some rows, in that order; -1 gives a row without values."""
    chosen = pa.array(rows, mask=rows < 0)
    paths, rest = split(batch)
    for kinds in paths.values():
        for kind, array in kinds.items():
            taken = array.take(chosen)
            kinds[kind] = pa.array(bits(taken)) if kind in FLAGS else taken
    marks = np.zeros(len(rows), dtype=np.bool_) if rest is None else bits(rest.take(chosen))
    return batch_of(paths, marks)


def join(batches: Sequence[Any]) -> Any:
    """Return the columns of all rows of several batches."""
    if len(batches) == 1:
        return batches[0]
    counts = [batch.num_rows for batch in batches]
    parts = [split(batch) for batch in batches]
    rests = [
        np.zeros(count, dtype=np.bool_) if rest is None else bits(rest)
        for count, (_, rest) in zip(counts, parts, strict=True)
    ]
    paths: Paths = {path: {} for part, _ in parts for path in part}
    for path, joined in paths.items():
        found = [part.get(path) for part, _ in parts]
        for kind in {kind for kinds in found if kinds for kind in kinds}:
            pieces = [
                _nothing(kind, count) if kinds is None or kind not in kinds else kinds[kind]
                for kinds, count in zip(found, counts, strict=True)
            ]
            joined[kind] = pa.concat_arrays(pieces)
        _add_maybe(joined, found, rests)
    return batch_of(paths, np.concatenate(rests))


def _add_maybe(
    joined: dict[str, Array], found: list[dict[str, Array] | None], rests: list[BoolArray]
) -> None:
    """Flag rows of batches in which the path has no columns, but the row has a rest."""
    pieces = [
        rest if kinds is None else np.zeros_like(rest)
        for kinds, rest in zip(found, rests, strict=True)
    ]
    mask = np.concatenate(pieces)
    if mask.any():
        if "maybe" in joined:
            mask |= bits(joined["maybe"])
        joined["maybe"] = pa.array(mask)


def _nothing(kind: str, count: int) -> Array:
    if kind in FLAGS:
        return pa.array(np.zeros(count, dtype=np.bool_))
    return pa.nulls(count, TYPES[kind])
