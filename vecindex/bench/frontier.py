"""The frontier: settings that no other one beats in both recall and time."""

from __future__ import annotations

from collections.abc import Sequence


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points are on the Pareto frontier.

    Parameters
    ----------
    points : sequence of (float, float)
        Recall, higher is better, and time, lower is better.

    Returns
    -------
    list of int
        Positions, by rising recall. A point is left out if another one is at least as good in
        both and better in one; equal points stay together.

    Examples
    --------
    >>> frontier([(0.9, 1.0), (0.8, 2.0), (0.99, 3.0)])
    [0, 2]
    """
    order = sorted(range(len(points)), key=lambda at: (-points[at][0], points[at][1]))
    kept: list[int] = []
    for at in order:  # from the best recall down, each must be faster than all before it
        recall, time = points[at]
        if not kept or time < points[kept[-1]][1] or (recall, time) == points[kept[-1]]:
            kept.append(at)
    return kept[::-1]
