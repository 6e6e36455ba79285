"""What a search needs beside the stored state: live rows, the structure, filters' rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from vecindex import ann
from vecindex.ann import LiveMask, Structure
from vecindex.arrays import Int64Array
from vecindex.errors import CorruptIndexError
from vecindex.filters import Filter
from vecindex.results import Calibration, Id, OperatingPoint, Record
from vecindex.store.codec import unpack_record
from vecindex.store.files import FileEntry
from vecindex.store.state import State

if TYPE_CHECKING:
    from vecindex.index.planner import Route

_CACHED_FILTERS = 32


class View:
    """One state made searchable; what is costly is made when it is first used.

    Parameters
    ----------
    state : State
        What to search.
    earlier : View or None
        A view of an earlier state, from which what has not changed is taken over.
    """

    def __init__(self, state: State, earlier: View | None = None) -> None:
        self.state = state
        self.parts = state.parts
        self.starts = np.concatenate([[0], np.cumsum([part.count for part in self.parts])])
        full = [part for part in self.parts if part.count]
        self._only = full[0] if len(full) == 1 else None
        self.only_first = self._only is self.parts[0]
        """Whether the first part holds all rows."""
        self.dim, self.target = state.manifest.dim, state.manifest.target_recall
        self.all_ints = all(part.all_ints for part in full)
        """Whether every id is an int."""
        self._lock = threading.Lock()
        self._lives: dict[int, LiveMask] = {}
        self._points: dict[float, OperatingPoint | None] = {}
        self.routes: dict[tuple[float, int], Route] = {}
        """Routes of plain searches by recall and k, see `planner.choose`."""
        self._filters: dict[Filter, list[Int64Array]] = {}
        self._structure: Structure | None = None
        self._structure_entry: FileEntry | None = None
        entry = state.manifest.structure
        self.calibration = (
            Calibration.from_dict(entry.calibration) if entry and entry.calibration else None
        )
        if earlier is not None:
            self._take_over(earlier)

    def _take_over(self, earlier: View) -> None:
        for number, marks in enumerate(earlier.state.dead):
            same = number < len(self.state.dead) and self.state.dead[number] is marks
            if same and number in earlier._lives:
                self._lives[number] = earlier._lives[number]
        file = self.state.structure_file
        if file is not None and file is earlier.state.structure_file:
            self._structure_entry = earlier._structure_entry  # first: it says that the other is set
            self._structure = earlier._structure

    def live(self, number: int) -> LiveMask | None:
        """Return which rows of a part are live, None if all are."""
        marks = self.state.dead[number]
        if marks is None:
            return None
        mask = self._lives.get(number)
        if mask is None:
            mask = self._lives[number] = LiveMask(np.logical_not(marks))
        return mask

    def structure(self, on_damage: Callable[[str], object]) -> Structure | None:
        """Return the structure over the first part; None if there is none that can be used."""
        file = self.state.structure_file
        entry = self.state.manifest.structure
        if entry is None or file is None:
            return None
        if self._structure_entry == entry.file:
            return self._structure
        with self._lock:
            if self._structure_entry != entry.file:
                try:
                    file.check()  # FAISS only ever sees bytes whose checksum held
                    mapped = self.state.segments[0].mapped
                    self._structure = ann.load(entry.kind, file.data, mapped)
                except CorruptIndexError as error:
                    self._structure = None
                    on_damage(str(error))
                self._structure_entry = entry.file
        return self._structure

    def point(self, target: float) -> OperatingPoint | None:
        """Return the cheapest measured point that meets `target`."""
        if target not in self._points:
            point = self.calibration.cheapest(target) if self.calibration else None
            self._points[target] = point
        return self._points[target]

    def matching(self, where: Filter) -> list[Int64Array]:
        """Return the live rows of each part that a filter keeps, rising."""
        found = self._filters.get(where)
        if found is None:
            found = [self._matching(number, where) for number in range(len(self.parts))]
            with self._lock:
                if len(self._filters) >= _CACHED_FILTERS:
                    del self._filters[next(iter(self._filters))]
                self._filters[where] = found
        return found

    def _matching(self, number: int, where: Filter) -> Int64Array:
        rows = [row for row, record in self.scan(number) if where.matches(record.metadata)]
        return np.array(rows, dtype=np.int64)

    def scan(self, number: int) -> Iterator[tuple[int, Record]]:
        """Yield row and record of every live row of a part."""
        marks = self.state.dead[number]
        for row, packed in enumerate(self.parts[number].scan_records()):
            if marks is None or not marks[row]:
                yield row, unpack_record(packed)

    def split(self, rows: Int64Array) -> Iterator[tuple[int, Int64Array, Int64Array]]:
        """Yield part, places in `rows`, and rows within the part, for index-wide row numbers."""
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            yield number, places, rows[places] - self.starts[number]

    def ids(self, rows: Int64Array) -> list[Id]:
        """Return the ids of index-wide row numbers."""
        if self._only is not None:
            return self._only.ids(rows)
        found: list[Id] = [0] * len(rows)
        for number, places, inside in self.split(rows):
            for place, value in zip(places.tolist(), self.parts[number].ids(inside), strict=True):
                found[place] = value
        return found

    def records(self, rows: Int64Array, *, vectors: bool = False) -> list[Record]:
        """Return the records of index-wide row numbers."""
        found: list[Record | None] = [None] * len(rows)
        for number, places, inside in self.split(rows):
            part = self.parts[number]
            if vectors:
                part.check_rows(inside)
            for place, row, packed in zip(
                places.tolist(), inside.tolist(), part.records(inside), strict=True
            ):
                record = unpack_record(packed)
                if vectors:
                    record = Record(
                        record.id, record.text, record.metadata, part.vectors[row].copy()
                    )
                found[place] = record
        return [record for record in found if record is not None]
