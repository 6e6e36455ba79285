"""What every approximate structure can do, and how a build is watched and stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from vecindex.arrays import Float32Array, Int64Array
from vecindex.errors import SpecError, VecindexError
from vecindex.spec import Params

Progress: TypeAlias = Callable[[int, int], object]
"""Called with what is done and the total."""

ShouldStop: TypeAlias = Callable[[], bool]
"""Polled during long work; True ends it with `BuildInterrupted`."""

WriteBytes: TypeAlias = Callable[[memoryview], object]
"""Takes the next bytes of a file."""

CALIBRATED_K = 10
"""The k for which parameters are calibrated; `Structure.widen` adapts them to another."""


class BuildInterrupted(VecindexError):  # noqa: N818 - an answer to a wish, not a failure
    """A build or a calibration was asked to stop; what it had made was thrown away."""


def wrong_params(kind: str, params: Params) -> SpecError:
    """Return the error for parameters of another structure."""
    return SpecError(f"{kind} takes no {type(params).__name__}")


class Structure(Protocol):
    """An immutable approximate structure over the first rows of a matrix.

    Searches may run on many threads at once: nothing changes after the build.
    """

    @property
    def kind(self) -> str:
        """The structure's name, as in its spec."""

    @property
    def rows(self) -> int:
        """The number of rows that the structure covers: row numbers 0 to `rows` - 1."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the structure itself, without the rows that it only refers to."""

    def propose(
        self, queries: Float32Array, k: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows for each query, best first.

        Parameters
        ----------
        queries : ndarray of float32, shape (q, dim)
            C-contiguous unit rows.
        k : int
            Candidates wanted, at least 1.
        params : Params
            Of the structure's own kind.
        threads : int or None
            None takes one for a single query and all cores for a batch.

        Returns
        -------
        ndarray of int64, shape (q, k)
            Row numbers, -1 pads. Score them with `score_rows` to get their order to the last bit.
        """

    def grid(self) -> tuple[Params, ...]:
        """Return parameters to calibrate, by rising cost; at least one."""

    def widen(self, params: Params, k: int) -> Params:
        """Return the parameters for k candidates that keep what was calibrated for ten."""

    def exhaustive(self, params: Params) -> bool:
        """Return whether a search with `params` looks at every row, so that it is exact."""

    def write(self, write: WriteBytes) -> None:
        """Give the structure's bytes to `write`, piece by piece."""


@dataclass(frozen=True)
class Watch:
    """How a build reports what it has done, and learns that it shall stop.

    Parameters
    ----------
    progress : callable or None
        Called with rows done and rows in total.
    should_stop : callable or None
        Polled between chunks of rows.
    """

    progress: Progress | None = None
    should_stop: ShouldStop | None = None

    def check(self) -> None:
        """Raise `BuildInterrupted` if the work shall stop."""
        if self.should_stop is not None and self.should_stop():
            raise BuildInterrupted("stopped before it was finished")

    def report(self, done: int, total: int) -> None:
        """Tell what is done."""
        if self.progress is not None:
            self.progress(done, total)

    def chunks(self, start: int, stop: int, size: int) -> Iterator[slice]:
        """Yield slices of `size` rows from `start` to `stop`, checking and reporting at each."""
        self.check()
        self.report(start, stop)
        for first in range(start, stop, size):
            last = min(first + size, stop)
            yield slice(first, last)
            self.report(last, stop)
            if last < stop:
                self.check()
