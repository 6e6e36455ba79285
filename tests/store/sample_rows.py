"""Rows to put into a store, and all that a state shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecindex.results import Id, Record
from vecindex.store.codec import RecordPacker, unpack_record
from vecindex.store.state import State

DIM = 4


def rows_of(ids: Sequence[Id], text: str = "text") -> tuple[list[Id], list[bytes], np.ndarray]:
    """Return what `Store.put` takes: ids, packed records and unit rows that depend on the ids."""
    pack = RecordPacker().pack
    records = [pack(row, value, f"{text} {value}", {"n": row}) for row, value in enumerate(ids)]
    vectors = np.array([row_of(value) for value in ids], dtype=np.float32)
    return list(ids), records, vectors


def row_of(record_id: Id) -> np.ndarray:
    """Return the unit row of an id."""
    row = np.random.default_rng(list(repr(record_id).encode())).normal(size=DIM)
    return (row / np.linalg.norm(row)).astype(np.float32)


def content(state: State) -> dict[Id, tuple[Any, list[float]]]:
    """Return everything that a state shows, in row order."""
    found = {}
    for part, dead in zip(state.parts, state.dead, strict=True):
        part.check_rows()
        for row, packed in enumerate(part.scan_records()):
            if dead is not None and dead[row]:
                continue
            record: Record = unpack_record(packed)
            assert record.id not in found, "an id is there twice"
            assert part.ids(np.array([row])) == [record.id]
            found[record.id] = (record.text, part.vectors[row].tolist())
    parts, rows = state.find(list(found))
    assert (parts >= 0).all()
    for record_id, number, row in zip(found, parts.tolist(), rows.tolist(), strict=True):
        assert state.parts[number].ids(np.array([row])) == [record_id]
    assert state.live == len(found)
    return found
