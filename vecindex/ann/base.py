"""What every approximate structure can do, and how a build is watched and stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from vecindex.arrays import Float32Array, Int64Array
from vecindex.errors import SpecError, VecindexError
from vecindex.spec import Params

if TYPE_CHECKING:
    from vecindex.ann.rescored import Best, Wanted
    from vecindex.ann.scan import Scan

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


DEFAULT_RESCORE = {"float32": 1, "bf16": 2, "sq8": 2, "sq4": 4, "pq4": 20}
"""Candidates for each row wanted, by codes, when params do not say."""

RESCORE_LADDERS = {
    "float32": (1,),
    "bf16": (1, 2, 3),
    "sq8": (1, 2, 3, 4),
    "sq4": (1, 2, 3, 4, 6, 8),
    "pq4": (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 80, 120, 160),
}
"""Values of `rescore` to calibrate, by codes."""


def slots_for(codes: str, params: Params, k: int) -> int:
    """Return how many candidates a structure is asked for when k rows are wanted.

    Parameters
    ----------
    codes : str
        Of the structure.
    params : Params
        Their `rescore` times `k`; but not fewer than for the k of the calibration, as how far codes
        err does not depend on how few rows are wanted.
    k : int
        At least 1.

    Returns
    -------
    int
        At least k.
    """
    rescore = params.rescore or DEFAULT_RESCORE[codes]
    return k if rescore == 1 else rescore * max(k, CALIBRATED_K)


class Structure(Protocol):
    """An immutable approximate structure over the first rows of a matrix.

    Searches may run on many threads at once: nothing changes after the build.
    """

    @property
    def kind(self) -> str:
        """The structure's name, as in its spec."""

    @property
    def codes(self) -> str:
        """How it holds rows, as in its spec."""

    @property
    def rows(self) -> int:
        """The number of rows that the structure covers: row numbers 0 to `rows` - 1."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the structure itself, without the rows that it only refers to."""

    @property
    def repeats(self) -> bool:
        """Whether `find` may name a row twice."""

    @property
    def scan(self) -> Scan | None:
        """A fast scan of all rows' codes, if the structure has one."""

    def find(
        self, queries: Float32Array, slots: int, params: Params, threads: int | None = None
    ) -> Int64Array:
        """Return candidate rows for each query.

        Parameters
        ----------
        queries : ndarray of float32, shape (q, dim)
            C-contiguous unit rows.
        slots : int
            Candidates wanted, at least 1; see `slots_for`.
        params : Params
            Of the structure's own kind. Their `rescore` is not looked at.
        threads : int or None
            None takes one for a single query and all cores for a batch.

        Returns
        -------
        ndarray of int64, shape (q, slots) or narrower
            Row numbers, best first as far as the structure can tell, -1 pads at the end; the
            first of them are what fewer slots would have given. Score them with `score_rows`.
        """

    def best(self, wanted: Wanted, params: Params, threads: int | None = None) -> Best:
        """Return the best of the candidates that `find` names, by their scores.

        Parameters
        ----------
        wanted : Wanted
            Queries, rows, how many candidates and how many of these.
        params, threads
            As for `find`.

        Returns
        -------
        Best
            Scores and rows, best first.
        """

    def grid(self) -> tuple[tuple[Params, ...], ...]:
        """Return groups of parameters to calibrate, that differ in `rescore` within a group.

        Groups go by rising cost, but for those of a scan, which come first.
        """

    def widen(self, params: Params, k: int) -> Params:
        """Return the parameters for k rows that keep what was calibrated for ten."""

    def exhaustive(self, params: Params) -> bool:
        """Return whether `find` with `params` scores every row exactly."""

    def scans(self, params: Params) -> bool:
        """Return whether `find` with `params` scans the codes of all rows."""

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
