"""Exact tests of whether logged votes can be those of independent draws: beside fresh draws, and among themselves.

Each returns a p-value that is at most a with probability at most a if every image's draws are independent and have one
probability p of the class, whatever the p of the images are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from rushkit.statistics import (
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    empirical_bernstein_lower,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def equal_counts_p_value(counts: Sequence[int], draws: int) -> float:
    """Return a p-value that so many of N images have one count in common, other than 0 and all draws.

    An image has the count k with probability b(k) = P(Binomial(n, k/n) = k) at most, the largest over all p. So of
    independent images no more have it than Binomial(N, b(k)) says, whatever their p, and the n - 1 counts share the
    level (Bonferroni). Counts of 0 and n tell nothing: where p is 0 or 1 all images have them.

    Example::

        equal_counts_p_value([9_950] * 20, 10_000)  # 2e-21

    Args:
        counts: (N,) votes for one class of each image, of the same number of draws.
        draws: n, at least 1.
    """
    common = Counter(count for count in counts if 0 < count < draws)
    if not common:
        return 1.0
    shared, images = (np.array(list(column)) for column in (common.keys(), common.values()))
    likeliest = binom.pmf(shared, draws, shared / draws)
    return min(1.0, (draws - 1) * float(np.min(binom.sf(images - 1, len(counts), likeliest))))


def apart_from_stopped(votes: Integers, trials: Integers, fresh: Integers, draws: int, level: float) -> Flags:
    """Return the images whose votes of a test that stopped cannot have the probability that fresh draws have.

    Where the votes decided when to stop, their number is no binomial count. The bounds by betting hold at any moment,
    those of the fresh draws are Clopper and Pearson's: each of the four is wrong with probability level/4 at most, and
    an image is named only where one of them is.

    Args:
        votes: (N,) votes for the class.
        trials: (N,) draws up to the stop.
        fresh: (N,) votes of fresh draws.
        draws: Number of fresh draws of each image.
        level: Probability that an image is named if both are draws of one probability.

    Returns:
        (N,) bool.
    """
    share = level / 4
    high = betting_lower(votes, trials, share) > clopper_pearson_upper(fresh, draws, share)
    low = betting_upper(votes, trials, share) < clopper_pearson_lower(fresh, draws, share)
    return np.asarray(high | low)


def means_apart(logged: tuple[Floats, Floats, int], fresh: tuple[Floats, Floats, int], level: float) -> Flags:
    """Return the images whose logged and fresh confidences cannot have one mean.

    The four bounds are those of Maurer and Pontil for values in [0, 1], each wrong with probability level/4 at most.

    Args:
        logged: (N,) sums, (N,) sums of squares, and the number of values of each image, at least 2.
        fresh: The same of fresh draws.
        level: Probability that an image is named if both have one distribution.

    Returns:
        (N,) bool.
    """
    (low, high), (fresh_low, fresh_high) = (_mean_bounds(*values, level / 4) for values in (logged, fresh))
    return np.asarray((low > fresh_high) | (high < fresh_low))


def _mean_bounds(sums: Floats, squares: Floats, count: int, alpha: float) -> tuple[Floats, Floats]:
    mean = np.clip(sums / count, 0.0, 1.0)
    variance = np.maximum(squares - count * mean**2, 0.0) / (count - 1)
    lower = empirical_bernstein_lower(mean, variance, count, alpha)
    return lower, 1.0 - empirical_bernstein_lower(1.0 - mean, variance, count, alpha)
