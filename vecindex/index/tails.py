"""Codes of rows that are not in the structure yet, so that those are scanned quickly, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vecindex.ann import Encoder, Scan
from vecindex.arrays import UInt8Array
from vecindex.forks import call_in_child, new_lock
from vecindex.store.rewrite import Source
from vecindex.store.segment import Part

LEAST = 1024
"""Rows without codes that are worth them: an exact search of fewer takes no longer than calls."""

_STEP = 128  # rows encoded by one search, in about 0.4 ms
_FEW = 256  # packing all codes again does not pay for fewer rows, each searched exactly in 0.04 us
_GROWTH = 32  # nor for a smaller part of those with codes: packing takes 0.03 us for each of them
_CHUNK = 4096  # rows encoded by who prepares a part, between two looks at whether to stop


def worth_packing(packed: int) -> int:
    """Return for how many more rows it pays to pack the codes of all again."""
    return max(_FEW, packed // _GROWTH) if packed else LEAST


class TailCodes:
    """Codes of the first rows of a part, in the words of the structure of the rows before.

    Parameters
    ----------
    words : Scan
        Of the structure, whose words are used.

    Notes
    -----
    Who adds or refreshes encodes what came in, once it is there for searches (`catch_up`); where
    nobody has, each search encodes some rows, so that none of them waits for all. Then the part is
    scanned like the structure's rows. What is not encoded yet is searched exactly. Who seals or
    folds encodes whole parts before any search sees them (`prepare`).
    """

    def __init__(self, words: Scan) -> None:
        self._words = words
        self._encoder = Encoder(words)
        self._scan: Scan | None = None
        self._lock = new_lock()
        call_in_child(self._drop_half_done)

    def grown(self, part: Part) -> Scan | None:
        """Encode some more rows; return a scan of the part's first rows, None if there is none."""
        packed = 0 if self._scan is None else self._scan.count
        if part.count - packed >= worth_packing(packed) and self._lock.acquire(blocking=False):
            try:
                self._encode(part, _STEP)
                done = self._encoder.count
                if done >= part.count or done - packed >= max(LEAST, worth_packing(packed)):
                    self._scan = self._encoder.scan()
            finally:
                self._lock.release()
        scan = self._scan
        # More: it was made for a newer state than the one that asks.
        return None if scan is None or scan.count > part.count else scan

    def catch_up(self, part: Part, most: int) -> int:
        """Encode rows of a part that have no codes yet, so many at most; return how many."""
        with self._lock:
            before = self._encoder.count
            self._encode(part, most)
            return max(0, self._encoder.count - before)

    def so_far(self) -> UInt8Array:
        """Return the codes that there are, of the first rows of the part."""
        with self._lock:
            return self._encoder.codes()

    def _drop_half_done(self) -> None:
        if self._lock.locked():  # another thread was within FAISS when this process was forked
            self._encoder = Encoder(self._words)

    def _encode(self, part: Part, rows: int) -> None:
        start = self._encoder.count
        stop = min(part.count, start + rows)
        if start < stop:
            part.check_rows(np.arange(start, stop))
            try:
                self._encoder.add(part.vectors[start:stop])
            except BaseException:
                self._encoder = Encoder(self._words)  # an interrupted one may hold half a row
                raise

    @classmethod
    def prepare(
        cls,
        words: Scan,
        part: Part,
        sources: Sequence[tuple[Source, TailCodes | None]],
        poll: Callable[[], object],
    ) -> TailCodes:
        """Return the codes of a whole part.

        Parameters
        ----------
        words : Scan
            Of the structure.
        part : Part
            Its vectors must have been checked.
        sources : sequence of (Source, TailCodes or None)
            What the part was written from, in order, with codes in the same words: those are
            taken over. None of them if it is not known.
        poll : callable
            Called between chunks; raises to stop.
        """
        made = cls(words)
        encoder, done = made._encoder, 0
        for source, codes in sources:
            rows = np.flatnonzero(source.keep)
            if codes is not None:
                known = codes.so_far()
                encoder.add_codes(known[rows[: int(np.searchsorted(rows, len(known)))]])
            poll()
            made._encode_all(part, done + len(rows), poll)
            done += len(rows)
        made._encode_all(part, part.count, poll)
        made._scan = encoder.scan()
        return made

    def _encode_all(self, part: Part, stop: int, poll: Callable[[], object]) -> None:
        while (start := self._encoder.count) < stop:
            poll()
            self._encoder.add(part.vectors[start : min(stop, start + _CHUNK)])
