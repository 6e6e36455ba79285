"""Two axes of a plot: recall stretched towards 1, and time on a log scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_RECALL_TICKS = (
    1.0, 0.9, 0.99, 0.999, 0.9999, 0.5, 0.95, 0.8, 0.995, 0.0, 0.98, 0.7, 0.6, 0.97, 0.998, 0.85,
    0.96, 0.3, 0.9995,
)  # fmt: skip  # the first ones win where there is little room
_STEP_TO_ONE = 0.35  # from the best recall below 1 to 1 itself, which has no place on a log scale
_PAD = 0.05  # of the range, free at each end


@dataclass(frozen=True)
class Axis:
    """A straight map from values, already stretched, to coordinates.

    Parameters
    ----------
    low, high : float
        Stretched values at the ends.
    start, stop : float
        Their coordinates.
    """

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Return the coordinate of a stretched value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 2)


@dataclass(frozen=True)
class RecallAxis:
    """Recall by `-log10(1 - recall)`: each step has a tenth of the misses.

    Parameters
    ----------
    axis : Axis
        Of stretched recalls.
    one : float
        The stretched value at which recall 1 is drawn.
    """

    axis: Axis
    one: float

    @classmethod
    def over(cls, recalls: Iterable[float], start: float, stop: float) -> RecallAxis:
        """Return the axis that shows all of the recalls.

        Parameters
        ----------
        recalls : iterable of float
            At least one, in [0, 1].
        start, stop : float
            Coordinates of the ends.

        Returns
        -------
        RecallAxis
            With a little room at both ends.
        """
        below = [-math.log10(1 - recall) for recall in recalls if recall < 1]
        one = max([2.0, *(value + _STEP_TO_ONE for value in below)])
        low = min(below, default=1.0)
        pad = _PAD * (one - low)
        return cls(Axis(low - pad, one + pad, start, stop), one)

    def at(self, recall: float) -> float:
        """Return the coordinate of a recall."""
        return self.axis.at(self.one if recall >= 1 else min(-math.log10(1 - recall), self.one))

    def ticks(self, apart: float) -> list[tuple[float, str]]:
        """Return coordinates and labels of round recalls, at least `apart` from each other."""
        chosen: list[tuple[float, str]] = []
        for recall in _RECALL_TICKS:
            value = self.one if recall == 1 else -math.log10(1 - recall)
            place = self.axis.at(value)
            inside = self.axis.low <= value <= self.axis.high and (recall == 1 or value < self.one)
            if inside and all(abs(place - other) >= apart for other, _ in chosen):
                chosen.append((place, f"{recall:g}"))
        return sorted(chosen)


@dataclass(frozen=True)
class TimeAxis:
    """Milliseconds on a log scale.

    Parameters
    ----------
    axis : Axis
        Of their logarithms.
    """

    axis: Axis

    @classmethod
    def over(cls, times_ms: Sequence[float], start: float, stop: float) -> TimeAxis:
        """Return the axis that shows all of the times.

        Parameters
        ----------
        times_ms : sequence of float
            At least one, above 0.
        start, stop : float
            Coordinates of the ends.

        Returns
        -------
        TimeAxis
            At least a factor of three long.
        """
        low, high = math.log10(min(times_ms)), math.log10(max(times_ms))
        short = max(0.0, 0.5 - (high - low)) / 2
        pad = _PAD * (high - low) + short
        return cls(Axis(low - pad, high + pad, start, stop))

    def at(self, time_ms: float) -> float:
        """Return the coordinate of a time."""
        return self.axis.at(math.log10(time_ms))

    def ticks(self) -> list[tuple[float, str]]:
        """Return coordinates and labels of round times: 1, 2 and 5 times a power of ten."""
        found = []
        for power in range(math.floor(self.axis.low), math.ceil(self.axis.high) + 1):
            for step in (1, 2, 5):
                value = step * 10.0**power
                if self.axis.low <= math.log10(value) <= self.axis.high:
                    found.append((self.at(value), f"{value:g}"))
        return found
