"""From candidates to answers: what searches do with them, and calibrations just the same."""

from __future__ import annotations

from vecindex.ann.flat import LiveMask
from vecindex.arrays import Int64Array


def candidates_for(slots: int, live: LiveMask | None) -> int:
    """Return how many candidates to ask of a structure so that `slots` of them should be live.

    Parameters
    ----------
    slots : int
        Live candidates wanted.
    live : LiveMask or None
        The live rows among those that the structure covers; None if all are.

    Returns
    -------
    int
        `slots` if all rows live; otherwise so many more as dead rows are expected among them, and
        half as many again, at least one. Searches and their calibration use the same number.
    """
    dead = 0 if live is None else len(live) - live.count
    if live is None or dead == 0 or live.count == 0:
        return slots
    return slots + -(-3 * slots * dead // (2 * live.count))


def drop_repeats(rows: Int64Array) -> Int64Array:
    """Return the candidates with -1 in the place of each that stands there twice.

    Parameters
    ----------
    rows : ndarray of int64, shape (q, c)
        Row numbers, -1 pads. Sorted and changed in place.

    Returns
    -------
    ndarray of int64, shape (q, c)
        The same array, otherwise in rising order.
    """
    rows.sort(axis=1)
    again = rows[:, 1:] == rows[:, :-1]
    rows[:, 1:][again] = -1
    return rows
