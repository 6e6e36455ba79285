"""Codes of rows that are not in the structure yet, so that those are scanned quickly, too."""

from __future__ import annotations

import threading

import numpy as np

from vecindex.ann import Encoder, Scan
from vecindex.store.segment import Part

LEAST = 1024
"""Rows without codes that are worth them: an exact search of fewer takes no longer than calls."""

_STEP = 128  # rows encoded by one search, in about 2 ms


class TailCodes:
    """Codes of the first rows of a part, in the words of the structure of the rows before.

    Parameters
    ----------
    words : Scan
        Of the structure, whose words are used.

    Notes
    -----
    Each search encodes some rows, so that none of them waits for all; then the part is scanned
    like the structure's rows. What was added since is searched exactly until it is encoded.
    """

    def __init__(self, words: Scan) -> None:
        self._words = words
        self._encoder = Encoder(words)
        self._scan: Scan | None = None
        self._lock = threading.Lock()

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

    def _encode(self, part: Part, packed: int) -> None:
        start = self._encoder.count
        stop = min(part.count, start + _STEP)
        if start < stop:
            part.check_rows(np.arange(start, stop))
            self._encoder.add(part.vectors[start:stop])
            if stop == part.count or stop >= 2 * max(packed, LEAST):
                self._scan = self._encoder.scan()
