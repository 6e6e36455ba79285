"""A structure in use, and what was made by its words; the views of its states share it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from vecindex.ann import Scan, Structure
from vecindex.forks import new_lock
from vecindex.index.subsets import Subsets
from vecindex.index.tails import LEAST, TailCodes, worth_packing
from vecindex.store.files import FileEntry
from vecindex.store.rewrite import Source
from vecindex.store.segment import Part, TailView

_AT_ONCE = 4096  # rows encoded in one call, at about 3 us each


class Loaded:
    """One structure, read from its file.

    Parameters
    ----------
    entry : FileEntry
        Its file.
    structure : Structure or None
        None if the file is damaged.
    """

    def __init__(self, entry: FileEntry, structure: Structure | None) -> None:
        self.entry, self.structure = entry, structure
        self.scans = Subsets()
        """Fast scans of the rows that filters keep."""
        self.scanned = False
        """Whether a search has asked for codes of rows behind the structure."""
        self._codes: WeakKeyDictionary[object, TailCodes] = WeakKeyDictionary()
        self._together: tuple[list[weakref.ref[object]], Scan | None] = [], None
        self._lock = new_lock()
        self._catching_up = new_lock()

    def codes(self, part: Part) -> TailCodes | None:
        """Return the codes of a part behind the structure, None if it has none so far."""
        with self._lock:
            return self._codes.get(_key(part))

    def codes_of(self, part: Part) -> TailCodes | None:
        """Return the codes of a part, new ones at first; None if they would not be worth it."""
        if self.structure is None or self.structure.scan is None or part.count < LEAST:
            return None
        self.scanned = True
        return self._made(part, self.structure.scan)

    def _made(self, part: Part, words: Scan) -> TailCodes:
        key = _key(part)
        with self._lock:
            found = self._codes.get(key)
            if found is None:
                found = self._codes[key] = TailCodes(words)
            return found

    def together(self, parts: Sequence[Part]) -> Scan | None:
        """Return the scan that `catch_up` made, if it is one of the first rows of these parts."""
        self.scanned = True
        of, scan = self._together
        same = len(of) == len(parts) and all(
            reference() is _key(part) for reference, part in zip(of, parts, strict=True)
        )
        if not same or scan is None or scan.count > sum(part.count for part in parts):
            return None
        return scan

    def catch_up(self, parts: Sequence[Part]) -> None:
        """Encode rows of the parts behind the structure, and put all codes into one scan.

        Parameters
        ----------
        parts : sequence of Part
            All of them, in order.

        Notes
        -----
        One call encodes 4,096 rows at most, in 12 ms; there is a scan when it has come to the end.
        For few new rows nothing is done: to pack all codes again takes 0.05 us a row.
        """
        words = None if self.structure is None else self.structure.scan
        count = sum(part.count for part in parts)
        if words is None or count < LEAST:
            return
        with self._catching_up:
            known = self.together(parts)
            if known is not None and count - known.count < worth_packing(known.count):
                return
            left, codes = _AT_ONCE, []
            for part in parts:
                made = self._made(part, words)
                left -= made.catch_up(part, left)
                codes.append(made.so_far()[: part.count])
                if len(codes[-1]) < part.count:
                    return
            scan = words.others(np.concatenate(codes))
            self._together = [weakref.ref(_key(part)) for part in parts], scan

    def prepare(self, part: Part, sources: Sequence[Source], poll: Callable[[], object]) -> None:
        """Encode a part that no search has seen yet; its vectors must have been checked.

        Parameters
        ----------
        part : Part
            The part.
        sources : sequence of Source
            What it was written from, if any codes of those can be taken over.
        poll : callable
            Called between chunks; raises to stop.
        """
        if self.structure is None or self.structure.scan is None or part.count < LEAST:
            return
        known = [(source, self.codes(source.part)) for source in sources]
        made = TailCodes.prepare(self.structure.scan, part, known, poll)
        with self._lock:
            self._codes[_key(part)] = made


class Slot:
    """Where an index keeps the newest structure that it has loaded, for views and upkeep.

    Whoever writes a structure loads it here before its state is published: a search that had to
    read and check it would be a pause.
    """

    def __init__(self) -> None:
        self.loaded: Loaded | None = None

    def take(self, loaded: Loaded | None) -> None:
        """Keep another structure, or none, instead."""
        if loaded is not None and self.loaded is not None:
            loaded.scanned = self.loaded.scanned
        self.loaded = loaded


def _key(part: Part) -> object:
    # Views of a tail come and go with every add, the tail stays until it is sealed.
    return part.tail if isinstance(part, TailView) else part
