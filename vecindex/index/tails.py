"""Codes of rows that are not in the structure yet, so that those are scanned quickly, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vecindex.ann import Encoder, Scan
from vecindex.forks import call_in_child, new_lock
from vecindex.store.rewrite import Source
from vecindex.store.segment import Part

LEAST = 1024
"""Rows without codes that are worth them: an exact search of fewer takes no longer than calls."""

_STEP = 128  # rows encoded by one search, in about 0.4 ms
_GROWTH = 8  # packing all codes again pays for so large a part of them: it takes 0.03 us a row
_CHUNK = 4096  # rows encoded by who prepares a part, between two looks at whether to stop


class TailCodes:
    """Codes of the first rows of a part, in the words of the structure of the rows before.

    Parameters
    ----------
    words : Scan
        Of the structure, whose words are used.

    Notes
    -----
    Each search encodes some rows, so that none of them waits for all; then the part is scanned
    like the structure's rows. What was added since is searched exactly until it is encoded. Who
    seals or folds encodes whole parts before any search sees them (`prepare`).
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
        if part.count - packed >= LEAST and self._lock.acquire(blocking=False):
            try:
                self._encode(part, packed)
            except BaseException:
                self._encoder = Encoder(self._words)  # an interrupted one may hold half a row
                raise
            finally:
                self._lock.release()
        scan = self._scan
        # More: it was made for a newer state than the one that asks.
        return None if scan is None or scan.count > part.count else scan

    def _drop_half_done(self) -> None:
        if self._lock.locked():  # another thread was within FAISS when this process was forked
            self._encoder = Encoder(self._words)

    def _encode(self, part: Part, packed: int) -> None:
        start = self._encoder.count
        stop = min(part.count, start + _STEP)
        if start < stop:
            part.check_rows(np.arange(start, stop))
            self._encoder.add(part.vectors[start:stop])
            if stop == part.count or stop - packed >= max(LEAST, packed // _GROWTH):
                self._scan = self._encoder.scan()

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
            scan = None if codes is None else codes._scan
            known = rows[: 0 if scan is None else int(np.searchsorted(rows, scan.count))]
            for start in range(0, len(known), _CHUNK):
                poll()
                if scan is not None:
                    encoder.add_codes(scan.codes(known[start : start + _CHUNK]))
            made._encode_all(part, done + len(rows), poll)
            done += len(rows)
        made._encode_all(part, part.count, poll)
        made._scan = encoder.scan()
        return made

    def _encode_all(self, part: Part, stop: int, poll: Callable[[], object]) -> None:
        while (start := self._encoder.count) < stop:
            poll()
            self._encoder.add(part.vectors[start : min(stop, start + _CHUNK)])
