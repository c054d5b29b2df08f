"""Quantiles of distances that may be censored, with intervals that assume nothing of their distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import binom

from rushkit.results.distances import Quantile

_SHARES = (0.25, 0.5, 0.75)


def quartiles(distances: Sequence[float | None], confidence: float = 0.95) -> list[Quantile]:
    """Return the quartiles of distances; None is a distance beyond every radius that was tried.

    The q-quantile is the ⌈qn⌉-th smallest distance. Its interval is between order statistics whose ranks a binomial
    variable of n trials with probability q lies between (Conover 1999, section 3.2), so it holds for any distribution;
    where a rank falls outside 1 to n, there is no bound on that side.
    """
    ordered = sorted(math.inf if distance is None else distance for distance in distances)
    n, tail = len(ordered), (1 - confidence) / 2

    def at(rank: int) -> float | None:
        return None if rank > n or math.isinf(ordered[rank - 1]) else ordered[rank - 1]

    rows = []
    for share in _SHARES:
        low, high = int(binom.ppf(tail, n, share)), int(binom.ppf(1 - tail, n, share)) + 1
        rank = max(1, math.ceil(share * n))
        rows.append(Quantile(share=share, distance=at(rank), low=at(low) if low else 0.0, high=at(high)))
    return rows
