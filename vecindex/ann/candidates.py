"""From candidates to answers: what searches do with them, and calibrations just the same."""

from __future__ import annotations

from vecindex.ann.flat import LiveMask


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
