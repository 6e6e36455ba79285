"""How sure a measured recall is: a lower confidence bound."""

from __future__ import annotations

import math
from statistics import NormalDist

from vecindex.arrays import Float32Array

_TELLING_MISSES = 10  # fewer misses say nothing about whether misses come together


class LowerBound:
    """One-sided lower confidence bounds for the points of one operating curve.

    Parameters
    ----------
    k : int
        Neighbours per query: one query is k trials.
    confidence : float
        Chance that the true recall is at least the bound.

    Notes
    -----
    Wilson's score bound for a share. Unlike the normal bound and the bootstrap it does not become
    1 when no miss was seen in the sample. The k trials of one query are not independent, since
    misses come together; so the trials are divided by the design effect, which is the variance
    of the per-query recall relative to independent trials, between 1 and k. The largest effect seen
    so far on the curve is used. While no point had ten misses, it is k: a query is then one trial.

    References
    ----------
    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    Kish, "Survey Sampling", 1965, for the design effect.
    """

    def __init__(self, k: int, confidence: float) -> None:
        self._k = k
        self._z = NormalDist().inv_cdf(confidence)
        self._effect: float | None = None

    def of(self, recalls: Float32Array) -> float:
        """Return the bound of the mean of the per-query recalls, shape (q,), of the next point."""
        share = float(recalls.mean())
        trials = self._k * len(recalls)
        if trials * (1 - share) >= _TELLING_MISSES and share > 0:
            measured = self._k * float(recalls.var(ddof=1)) / (share * (1 - share))
            self._effect = max(self._effect or 1.0, min(measured, self._k))
        return self.expected(share, len(recalls))

    def expected(self, share: float, queries: int) -> float:
        """Return the bound of a point where so many queries find this share of all neighbours."""
        return _wilson(share, self._k * queries / (self._effect or self._k), self._z)


def _wilson(share: float, trials: float, z: float) -> float:
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return max(0.0, (middle - spread) / (1 + z * z / trials))
