"""What a search needs beside the stored state: live rows, the structure, filters' rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vecindex import ann
from vecindex.ann import LiveMask, Scan, Structure
from vecindex.arrays import BoolArray, Int64Array
from vecindex.errors import CorruptIndexError
from vecindex.filters import Filter
from vecindex.filters.cache import ArrayCache
from vecindex.forks import lazily, new_lock
from vecindex.index.behind import Behind
from vecindex.index.loaded import Loaded, Slot
from vecindex.index.subsets import Subsets
from vecindex.results import Id, OperatingPoint, Record
from vecindex.spec import structure_spec
from vecindex.store.codec import unpack_record
from vecindex.store.files import MappedFile
from vecindex.store.manifest import StructureEntry
from vecindex.store.state import State

if TYPE_CHECKING:
    from vecindex.index.planner import Route

_MASK_ROWS = 8_000_000  # of all cached masks together: up to 9 bytes a row
_SCANNED_ROWS = 256  # fetched at once
_CACHED_PARTS = 1024  # of 32 filters, as an index has up to some 30 parts


class View:
    """One state made searchable; what is costly is made when it is first used.

    Parameters
    ----------
    state : State
        What to search.
    earlier : View or None
        A view of an earlier state, from which what has not changed is taken over.
    slot : Slot or None
        Where the newest structure is; None is the earlier view's, or a new one.
    """

    def __init__(self, state: State, earlier: View | None = None, slot: Slot | None = None) -> None:
        self.state = state
        self._slot: Slot = slot or (Slot() if earlier is None else earlier._slot)
        self.parts = state.parts
        self.starts = np.concatenate([[0], np.cumsum([part.count for part in self.parts])])
        full = [part for part in self.parts if part.count]
        self._only = full[0] if len(full) == 1 else None
        self.only_first = self._only is self.parts[0]
        """Whether the first part holds all rows."""
        self.dim, self.target = state.manifest.dim, state.manifest.target_recall
        self.all_ints = all(part.all_ints for part in full)
        """Whether every id is an int."""
        self._lock = new_lock()
        self._lives: dict[int, LiveMask] = {}
        self._points: dict[float, OperatingPoint | None] = {}
        self.routes: dict[tuple[Hashable, ...], Route] = {}
        """Routes by recall, k, filter and params, see `planner.choose`."""
        self._kept: ArrayCache[tuple[int, Filter]] = ArrayCache(_CACHED_PARTS)
        self._rows: ArrayCache[tuple[int, Filter]] = ArrayCache(_CACHED_PARTS)
        self._allowed: dict[Filter, LiveMask] = {}
        self._checked: set[tuple[int, Filter | None]] = set()
        self._loaded: Loaded | None = None
        entry = state.manifest.structure
        self.calibration = entry.measured if entry else None
        if earlier is not None:
            self._take_over(earlier)

    def _take_over(self, earlier: View) -> None:
        marked, unchanged = set(), set()
        for number, (mine, theirs) in enumerate(zip(self.parts, earlier.parts, strict=False)):
            if self.state.dead[number] is earlier.state.dead[number]:
                marked.add(number)
                if mine is theirs:
                    unchanged.add(number)
        self._lives = {n: live for n, live in dict(earlier._lives).items() if n in marked}
        for cache, before in ((self._kept, earlier._kept), (self._rows, earlier._rows)):
            for key, found in before.items():
                if key[0] in unchanged:
                    cache.put(key, found)
        file = self.state.structure_file
        if file is not None and file is earlier.state.structure_file:
            self._loaded = earlier._loaded
        if 0 in unchanged:
            self._allowed = dict(earlier._allowed)

    def live(self, number: int) -> LiveMask | None:
        """Return which rows of a part are live, None if all are."""
        marks = self.state.dead[number]
        if marks is None:
            return None
        mask = self._lives.get(number)
        if mask is None:
            mask = self._lives[number] = LiveMask(np.logical_not(marks))
        return mask

    def allowed(self, where: Filter) -> LiveMask:
        """Return the live rows of the first part that a filter keeps."""
        with self._lock:
            found = self._allowed.pop(where, None)
            if found is not None:
                self._allowed[where] = found  # the one that was used last is the last
                return found
        found = LiveMask(self.keeps(0, where))
        with self._lock:
            self._allowed[where] = found
            while len(self._allowed) > max(1, _MASK_ROWS // max(1, len(found))):
                del self._allowed[next(iter(self._allowed))]
        return found

    def structure(self, on_damage: Callable[[str], object]) -> Structure | None:
        """Return the structure over the first part; None if there is none that can be used."""
        file = self.state.structure_file
        entry = self.state.manifest.structure
        if entry is None or file is None:
            return None
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    loaded = self._slot.loaded
                    if loaded is None or loaded.entry != entry.file:
                        structure = self._load(entry, file, on_damage)
                        loaded = self._slot.loaded = Loaded(entry.file, structure)
                    self._loaded = loaded
        return self._loaded.structure

    def _load(
        self, entry: StructureEntry, file: MappedFile, on_damage: Callable[[str], object]
    ) -> Structure | None:
        try:
            file.check()  # FAISS only ever sees bytes whose checksum held
            return ann.load(structure_spec(entry.spec), file.data, self.state.segments[0].mapped)
        except CorruptIndexError as error:
            on_damage(str(error))
            return None

    def let_go(self) -> None:
        """Forget a loaded structure of another state, as it holds that state's files."""
        loaded, file = self._slot.loaded, self.state.structure_file
        if loaded is not None and (file is None or loaded.entry != file.entry):
            self._slot.take(None)

    @property
    def scans(self) -> Subsets:
        """Fast scans of the rows that filters keep; there are some once `structure` was asked."""
        assert self._loaded is not None
        return self._loaded.scans

    def codes(self, number: int) -> Scan | None:
        """Return a scan of the first rows of a part behind the structure, None if there is none."""
        part = self.parts[number]
        codes = None if self._loaded is None else self._loaded.codes_of(part)
        return None if codes is None else codes.grown(part)

    def only(self, number: int) -> Behind:
        """Return one part, which is not empty."""
        return Behind([self.parts[number]], [self.live(number)])

    @lazily
    def behind(self) -> Behind:
        """All parts but the first that are not empty."""
        numbers = [n for n, part in enumerate(self.parts) if n and part.count]
        return Behind([self.parts[n] for n in numbers], [self.live(n) for n in numbers])

    def together(self) -> Scan | None:
        """Return one scan of the first rows of all parts behind, None if there is none."""
        if self._loaded is None:
            return None
        known = self._loaded.together(self.parts[1:])
        if known is not None:
            return known
        full = [number for number, part in enumerate(self.parts) if number and part.count]
        return self.codes(full[0]) if len(full) == 1 else None

    def catch_up(self) -> None:
        """Make codes of rows behind the structure, if searches ask for such."""
        if self._loaded is not None and self._loaded.scanned:
            self._loaded.catch_up(self.parts[1:])

    def point(self, target: float) -> OperatingPoint | None:
        """Return the cheapest measured point that meets `target`."""
        if target not in self._points:
            point = self.calibration.cheapest(target) if self.calibration else None
            self._points[target] = point
        return self._points[target]

    def matching(self, where: Filter) -> list[Int64Array]:
        """Return the live rows of each part that a filter keeps, rising and read-only."""
        return [self.rows(number, where) for number in range(len(self.parts))]

    def rows(self, number: int, where: Filter) -> Int64Array:
        """Return the live rows of one part that a filter keeps, rising and read-only."""
        found = self._rows.get((number, where))
        if found is None:
            found = np.flatnonzero(self.keeps(number, where))
            self._rows.put((number, where), found)
        return found

    def keeps(self, number: int, where: Filter) -> BoolArray:
        """Return which rows of a part are live ones that a filter keeps, read-only."""
        marks = self.state.dead[number]
        if marks is None:
            return self.parts[number].keeps(where)
        found = self._kept.get((number, where))
        if found is None:
            found = self.parts[number].keeps(where) & ~marks
            self._kept.put((number, where), found)
        return found

    def check(self, number: int, where: Filter | None) -> None:
        """Check the vectors of the live rows of a part that a filter keeps, once a view."""
        if (number, where) not in self._checked:
            part = self.parts[number]
            part.check_rows(None if where is None else self.rows(number, where))
            if len(self._checked) >= _CACHED_PARTS:
                self._checked.clear()
            self._checked.add((number, where))

    def scan(self, number: int, where: Filter | None = None) -> Iterator[tuple[int, Record]]:
        """Yield row and record of every live row of a part, or of those that a filter keeps."""
        part, marks = self.parts[number], self.state.dead[number]
        if where is None:
            for row, packed in enumerate(part.scan_records()):
                if marks is None or not marks[row]:
                    yield row, unpack_record(packed)
            return
        kept = self.rows(number, where)
        for start in range(0, len(kept), _SCANNED_ROWS):
            rows = kept[start : start + _SCANNED_ROWS]
            yield from zip(rows.tolist(), map(unpack_record, part.records(rows)), strict=True)

    def split(self, rows: Int64Array) -> Iterator[tuple[int, Int64Array, Int64Array]]:
        """Yield part, places in `rows`, and rows within the part, for index-wide row numbers."""
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        for number in sorted(set(numbers.tolist())):
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

    def ids_where(self, where: Filter) -> list[Id]:
        """Return the ids of all live rows that a filter keeps."""
        return [
            value
            for number, rows in enumerate(self.matching(where))
            for value in self.parts[number].ids(rows)
        ]

    def packed(self, rows: Int64Array) -> list[bytes]:
        """Return the packed records of index-wide row numbers."""
        if self._only is not None:
            return self._only.records(rows)
        found = [b""] * len(rows)
        for number, places, inside in self.split(rows):
            records = self.parts[number].records(inside)
            for place, packed in zip(places.tolist(), records, strict=True):
                found[place] = packed
        return found

    def records(self, rows: Int64Array, *, vectors: bool = False) -> list[Record]:
        """Return the records of index-wide row numbers."""
        records = list(map(unpack_record, self.packed(rows)))
        if vectors:
            for number, places, inside in self.split(rows):
                part = self.parts[number]
                part.check_rows(inside)
                for place, row in zip(places.tolist(), inside.tolist(), strict=True):
                    records[place] = replace(records[place], vector=part.vectors[row].copy())
        return records
