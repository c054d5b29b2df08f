"""Tests of given radii from draws that may stop at any moment: is the probability of a class above p0, or below?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rushkit.errors import UsageError
from rushkit.statistics import betting_lower_above, log_e_above, log_e_below

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class SequentialTest:
    """Tests of p > p0, one or several for each image, which may stop as soon as the counts allow.

    After every update, whatever the updates' sizes, the one-sided e-processes ``log_e_above`` and ``log_e_below`` of
    ``rushkit.statistics`` are compared with 1/alpha. Each side has the whole alpha: a claim that p > p0 is ever false
    with probability at most alpha, and so is one that p < p0; that either is false, with at most 2 alpha. With several
    p0 for an image these are the probabilities that *any* claim of that side is false: the mixture is cut at the
    smallest p0 (the largest for "p < p0"), and a claim needs A/n > p0 (A/n < p0) as well.

    The decisions of an image never cross: certified are its smallest p0, refuted its largest. A decision is final, and
    once all tests of an image are decided its later draws are ignored.

    Args:
        p0: Probabilities to be exceeded: (N,), one for each image, (J, N), several for each, or one for all; a p0 of 1
            or more, infinite if no probability reaches the radius, is refuted from the start.
        alpha: Probability of a false claim of either side, for each image.
        images: N, where p0 is one number.

    Attributes:
        decision: int8 in the shape of p0: +1 certified (p > p0), −1 refuted (p < p0), 0 undecided.
        successes: (N,) draws of the tested class that were counted.
        trials: (N,) draws that were counted.

    Raises:
        UsageError: p0 negative, NaN or of more than two dimensions, alpha outside (0, 1).
    """

    def __init__(self, p0: ArrayLike, alpha: float = 0.001, images: int | None = None) -> None:
        if not 0.0 < alpha < 1.0:
            raise UsageError(f"alpha must lie in (0, 1) (got {alpha})", "for example 0.001")
        bar = np.atleast_1d(np.asarray(p0, dtype=np.float64))
        if not np.all(bar >= 0.0):
            raise UsageError("p0 must be at least 0", "threshold_probability gives the p0 of a radius")
        if bar.ndim > 2:
            raise UsageError(f"p0 of shape {bar.shape}", "one for each image, (N,), or several for each, (J, N)")
        bar = np.array(bar if images is None else np.broadcast_to(bar, (images,)))
        self.alpha = alpha
        self.p0: Floats = bar
        self.decision: NDArray[np.int8] = np.where(bar >= 1.0, -1, 0).astype(np.int8)
        # Views with a row for each test of an image.
        self._bars, self._decisions = np.atleast_2d(bar), np.atleast_2d(self.decision)
        self._lowest = self._bars.min(axis=0, initial=1.0)
        self._highest = np.where(self._bars < 1.0, self._bars, 0.0).max(axis=0, initial=0.0)
        self.successes: Integers = np.zeros(bar.shape[-1], dtype=np.int64)
        self.trials: Integers = np.zeros(bar.shape[-1], dtype=np.int64)
        # The counts at which the largest p0 so far was certified.
        self._shown = np.zeros((2, bar.shape[-1]), dtype=np.int64)

    @property
    def undecided(self) -> Flags:
        """(N,) images that need more draws, because one of their tests is not decided."""
        undecided: Flags = np.any(self._decisions == 0, axis=0)
        return undecided

    @property
    def p_lower(self) -> Floats:
        """(N,) lower bound on p that agrees with all decisions: above every certified p0, below every refuted one.

        It is the end of the confidence sequence that the certifying side belongs to, at the last counts or at those of
        the last p0 that was certified. No claim "p > p0" is false and p is at least this bound, both together, with
        probability at least 1 − alpha.
        """
        ends = [
            betting_lower_above(k, n, self.alpha, self._lowest) for k, n in (self._shown, (self.successes, self.trials))
        ]
        certified = np.where(self._decisions == 1, np.nextafter(self._bars, 1.0), 0.0).max(axis=0, initial=0.0)
        refuted = np.where(self._decisions == -1, np.nextafter(np.minimum(self._bars, 1.0), 0.0), 1.0)
        bound: Floats = np.minimum(np.maximum.reduce([*ends, certified]), refuted.min(axis=0, initial=1.0))
        return bound

    def update(self, successes: ArrayLike, trials: ArrayLike) -> NDArray[np.int8]:
        """Count new draws and decide what can be decided.

        Args:
            successes: (N,) new draws of the tested class, or one number for all.
            trials: (N,) new draws; 0 for an image that had none.

        Returns:
            The decisions so far, in the shape of p0.
        """
        undecided = self.undecided
        gained = np.broadcast_to(np.asarray(successes, dtype=np.int64), undecided.shape)
        drawn = np.broadcast_to(np.asarray(trials, dtype=np.int64), undecided.shape)
        if np.any((gained < 0) | (gained > drawn)):
            raise UsageError("more successes than trials in an update", "pass the new draws, not the totals")
        going = np.flatnonzero(undecided & (drawn > 0))
        self.successes[going] += gained[going]
        self.trials[going] += drawn[going]
        certified, refuted = self._claims(going)
        is_open = self._decisions[:, going] == 0
        self._decisions[:, going] += np.where(is_open, certified.astype(np.int8) - refuted.astype(np.int8), 0)
        risen = going[np.any(is_open & certified, axis=0)]
        self._shown[:, risen] = self.successes[risen], self.trials[risen]
        return self.decision

    def _claims(self, images: Integers) -> tuple[Flags, Flags]:
        """Return which p0 the counts of some images show to be exceeded, and which not to be reached: (J, M) each."""
        k, n, target = self.successes[images], self.trials[images], -math.log(self.alpha)
        bars = np.minimum(self._bars[:, images], 1.0)
        above, below = k > n * bars, k < n * bars
        sides = (log_e_above, above, self._lowest), (log_e_below, below, self._highest)
        for log_e, claimed, cut in sides:
            # One of the two is seldom worth computing.
            asked = np.any(claimed, axis=0)
            claimed[:, asked] &= log_e(k[asked], n[asked], bars[:, asked], cut[images[asked]]) >= target
        # A claim implies those about every smaller, or larger, p0; rounding must not part them.
        top = np.where(above, bars, -np.inf).max(axis=0, initial=-np.inf)
        bottom = np.where(below, bars, np.inf).min(axis=0, initial=np.inf)
        return bars <= top, bars >= bottom
