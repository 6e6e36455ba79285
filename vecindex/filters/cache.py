"""Keeping what was computed for the filters that were used last."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from vecindex.forks import new_lock

_COUNT = 32
_BYTES = 32 << 20

K = TypeVar("K", bound=Hashable)


class ArrayCache(Generic[K]):
    """Arrays by key; the ones that were not used for longest are dropped first.

    Parameters
    ----------
    count : int
        Arrays to keep at most.
    size_bytes : int
        Bytes that they may take together. One larger than that is not kept.
    """

    def __init__(self, count: int = _COUNT, size_bytes: int = _BYTES) -> None:
        self._most = count
        self._most_bytes = size_bytes
        self._bytes = 0
        self._arrays: dict[K, NDArray[Any]] = {}  # the one that was used last is the last
        self._lock = new_lock()

    def get(self, key: K) -> NDArray[Any] | None:
        """Return the array of a key, None if it is not kept."""
        with self._lock:
            found = self._arrays.pop(key, None)
            if found is not None:
                self._arrays[key] = found
            return found

    def put(self, key: K, array: NDArray[Any]) -> None:
        """Keep an array, which can no longer be changed, in place of the key's earlier one."""
        array.flags.writeable = False
        with self._lock:
            self._drop(key)
            if array.nbytes > self._most_bytes:
                return
            self._arrays[key] = array
            self._bytes += array.nbytes
            while self._bytes > self._most_bytes or len(self._arrays) > self._most:
                self._drop(next(iter(self._arrays)))

    def items(self) -> list[tuple[K, NDArray[Any]]]:
        """Return all keys with their arrays."""
        with self._lock:
            return list(self._arrays.items())

    def _drop(self, key: K) -> None:
        dropped = self._arrays.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.nbytes
