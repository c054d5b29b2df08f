"""Put the classes that lead nowhere into buckets, so that fewer probabilities need a bound (Delattre et al. 2025)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def bucket_counts(selection: Integers, estimation: Integers) -> tuple[Integers, Integers, Integers]:
    """Return the votes that estimate in the likeliest class and in the fullest bucket of the others.

    No bucket holds more of the votes that select than the second class alone. Buckets are filled first fit, largest
    class first, by these votes only, so the estimates of the buckets stay unbiased. For all images at once.

    Args:
        selection: (N, K) votes that choose, K at least 2.
        estimation: (N, K) votes of other draws.

    Returns:
        Votes of the estimation draws in the class of most selection votes, (N,), and in the bucket that got most of
        them, (N,); and the number of buckets, (N,), without the class itself.
    """
    rows = np.arange(len(selection))
    order = np.argsort(-selection, axis=1, kind="stable")
    sizes = np.take_along_axis(selection, order, axis=1)
    capacity = sizes[:, 1]
    # Classes without a vote fit into the first bucket, and need not be looked at.
    last = int((sizes > 0).sum(axis=1).max(initial=1))
    filled = np.zeros((len(rows), last), dtype=np.int64)
    bucket = np.zeros_like(selection)
    used = np.ones(len(rows), dtype=np.int64)
    for place in range(1, last):
        # One bucket more than any image uses: an empty one has room for every class.
        fits = filled[:, : used.max() + 1] + sizes[:, place, None] <= capacity[:, None]
        first = fits.argmax(axis=1)
        filled[rows, first] += sizes[:, place]
        bucket[:, place] = first
        used = np.maximum(used, first + 1)
    votes = np.take_along_axis(estimation, order, axis=1)
    width = int(used.max(initial=1))
    cells = (rows[:, None] * width + bucket)[:, 1:]
    sums = np.bincount(cells.ravel(), weights=votes[:, 1:].ravel(), minlength=len(rows) * width)
    return votes[:, 0], sums.reshape(len(rows), width).max(axis=1, initial=0).astype(np.int64), used
