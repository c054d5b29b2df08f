"""Exact tests of two counts of right votes: those that were claimed, and those of fresh draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.stats import hypergeom

Floats = NDArray[np.float64]


def image_p_values(claimed: Sequence[int], votes: int, fresh: Sequence[int], fresh_votes: int) -> Floats:
    """Return for each image the exact two-sided p-value that both of its counts come from one probability (Fisher).

    Args:
        claimed: (N,) right votes that are claimed.
        votes: How many votes each of them is of.
        fresh: (N,) right votes of fresh draws.
        fresh_votes: How many votes each of these is of.

    Returns:
        (N,) float64.
    """
    pairs = list(zip(claimed, fresh, strict=True))
    known = {pair: _two_sided(_given_sum(sum(pair), votes, fresh_votes), pair[0]) for pair in set(pairs)}
    return np.array([known[pair] for pair in pairs])


def total_p_value(claimed: Sequence[int], votes: int, fresh: Sequence[int], fresh_votes: int) -> float:
    """Return the exact two-sided p-value that claimed and fresh votes come from the same probabilities, image by image.

    Given how many of an image's votes are right in both samples together, the claimed count is hypergeometric, whatever
    the image's probability. The total of all images is compared with the sum of these distributions: an exact
    conditional test of two samples in strata (Gart 1970).

    The arguments are those of ``image_p_values``.
    """
    strata = Counter(right + again for right, again in zip(claimed, fresh, strict=True))
    total = np.ones(1)
    for right, images in sorted(strata.items()):
        total = _convolved(total, _power(_given_sum(right, votes, fresh_votes), images))
    return float(_two_sided(total, sum(claimed)))


def _given_sum(right: int, votes: int, fresh_votes: int) -> Floats:
    """Return the probabilities of 0 to ``votes`` claimed right votes, given those of both samples together."""
    return np.asarray(hypergeom.pmf(np.arange(votes + 1), votes + fresh_votes, right, votes), dtype=np.float64)


def _power(distribution: Floats, images: int) -> Floats:
    """Return the distribution of the sum of so many independent counts."""
    result = np.ones(1)
    while images:
        if images & 1:
            result = _convolved(result, distribution)
        images >>= 1
        if images:
            distribution = _convolved(distribution, distribution)
    return result


def _convolved(first: Floats, second: Floats) -> Floats:
    # Exact sums where they are cheap; elsewhere an error of 1e-16, far below any level of these tests.
    if len(first) * len(second) <= 1 << 22:
        return np.convolve(first, second)
    return np.clip(fftconvolve(first, second), 0.0, None)


def _two_sided(distribution: Floats, at: int) -> float:
    tails = distribution[: at + 1].sum(), distribution[at:].sum()
    return min(1.0, 2.0 * float(min(tails)) / float(distribution.sum()))
