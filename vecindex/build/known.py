"""The ids that sources hold, eight bytes each: which occur twice, and which are gone."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from vecindex.results import Id


class KnownIds:
    """Hashes of ids in the order of the records: eight bytes for each, sixteen when sorted.

    At a million ids the chance that any two share a hash is 3 in 100 million. Who must not be
    wrong compares the ids themselves.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._sorted: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._hashes)

    def extend(self, ids: Sequence[Id]) -> None:
        """Add the ids of the next records."""
        self._hashes.extend(map(_hash, ids))
        self._sorted = None

    def twins(self) -> Iterator[tuple[int, int]]:
        """Yield pairs of positions whose ids seem equal, that whose second comes first, first."""
        hashes = np.frombuffer(self._hashes, np.uint64)
        if len(np.unique(hashes)) == len(hashes):
            return
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        for pair in same[np.argsort(order[same + 1])].tolist():
            yield int(order[pair]), int(order[pair + 1])

    def missing(self, ids: Sequence[Id]) -> list[int]:
        """Return the positions of those ids that are not among these."""
        if self._sorted is None:
            self._sorted = np.sort(np.frombuffer(self._hashes, np.uint64))
        wanted = np.fromiter(map(_hash, ids), np.uint64, count=len(ids))
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.flatnonzero(self._sorted[at] != wanted).tolist()


def _hash(value: Id) -> int:
    text = f"i{value}" if isinstance(value, int) else f"s{value}"
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
