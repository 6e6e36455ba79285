"""Fast scans of the rows that a filter keeps, for filters that are used again."""

from __future__ import annotations

from vecindex.ann import LiveMask, Scan
from vecindex.filters import Filter
from vecindex.forks import new_lock

_REMEMBERED = 256  # filters seen once
_STALE = 1.25  # times the rows that may be returned: a scan of so many is made anew
_MOST_BYTES = 16 << 20  # or as much as the structure's own scan


class Subsets:
    """Scans of subsets of one structure's rows, by filter; None stands for the live rows.

    Notes
    -----
    A filter gets one when it is used for the second time: making it costs as much as a few
    searches, searching it costs in proportion to its rows. A scan may hold rows that were removed
    after it was made: whoever searches it drops them, and has it made anew when they become many.
    """

    def __init__(self) -> None:
        self._seen: dict[Filter, None] = {}
        self._scans: dict[Filter | None, Scan] = {}  # the one that was used last is the last
        self._lock = new_lock()

    def used(self, where: Filter, *, note: bool) -> bool:
        """Return whether the filter was used before; `note` says that it is being used."""
        with self._lock:
            seen = where in self._seen
            if note:
                self._seen.pop(where, None)
                self._seen[where] = None
                if len(self._seen) > _REMEMBERED:
                    del self._seen[next(iter(self._seen))]
        return seen

    def get(self, where: Filter | None, rows: LiveMask) -> Scan | None:
        """Return the scan of a filter's rows, None if there is none, or it holds many others."""
        with self._lock:
            scan = self._scans.pop(where, None)
            # Fewer: it was made after a removal, for a newer state than the one that asks.
            if scan is None or not rows.count <= scan.count <= _STALE * rows.count:
                return None
            self._scans[where] = scan
            return scan

    def make(self, where: Filter | None, scan: Scan, rows: LiveMask) -> Scan:
        """Return a scan of the given rows of `scan`, and keep it for the next search."""
        if rows.count == scan.count:
            return scan
        subset = scan.subset(rows.rows)
        most = max(_MOST_BYTES, scan.size_bytes)
        with self._lock:
            self._scans[where] = subset
            while len(self._scans) > 1 and sum(s.size_bytes for s in self._scans.values()) > most:
                del self._scans[next(iter(self._scans))]
        return subset
