"""Exact error rates and mean numbers of draws of the sequential tests, by dynamic programming over all counts.

Print the table of docs/certificates.md:

    python benchmarks/sequential_exact.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rushkit.certification.tasks import looks
from rushkit.sequential_test import SequentialTest
from rushkit.statistics import log_e_process

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# (M,) successes and (M,) trials -> (J, M) decisions of J tests on these counts: +1 certified, -1 refuted, 0 open.
Judge = Callable[[Integers, Integers], NDArray[np.int8]]


def one_sided(p0s: Sequence[float], alpha: float) -> Judge:
    """Return the decisions of ``rushkit.certificates.SequentialTest`` about several p0 of one image."""

    def judge(successes: Integers, trials: Integers) -> NDArray[np.int8]:
        bars = np.repeat(np.array(p0s, dtype=np.float64)[:, None], len(successes), axis=1)
        return SequentialTest(bars, alpha).update(successes, trials)

    return judge


def two_sided(p0s: Sequence[float], alpha: float) -> Judge:
    """Return the decisions of the two-sided betting e-process: p = p0 is refuted, and A/n says on which side."""

    def judge(successes: Integers, trials: Integers) -> NDArray[np.int8]:
        bars = np.array(p0s, dtype=np.float64)[:, None]
        decided = log_e_process(successes, trials, bars) >= -math.log(alpha)
        return np.where(decided, np.sign(successes - trials * bars), 0).astype(np.int8)

    return judge


@dataclass(frozen=True)
class Boundaries:
    """The counts at which J tests of an image decide, at L looks; the tests' decisions must be monotone in the count.

    Attributes:
        looks: (L,) numbers of draws after which they are evaluated, in rising order.
        certify: (J, L) smallest number of successes that certifies; one more than the draws where none does.
        refute: (J, L) largest number that refutes; -1 where none does.
    """

    looks: Integers
    certify: Integers
    refute: Integers

    @classmethod
    def of(cls, judge: Judge, known: Sequence[int]) -> Boundaries:
        """Find them by bisection."""
        trials = np.array(known, dtype=np.int64)
        tests = len(judge(trials, trials))
        certify, refute = (np.empty((tests, len(trials)), dtype=np.int64) for _ in range(2))
        for test in range(tests):
            certify[test] = _first(lambda k, test=test: judge(k, trials)[test] == 1, trials)
            refute[test] = _first(lambda k, test=test: judge(k, trials)[test] != -1, trials) - 1
        return cls(trials, certify, refute)


def _first(holds: Callable[[Integers], NDArray[np.bool_]], trials: Integers) -> Integers:
    """Return the smallest number of successes from which on something holds, or one more than the trials."""
    low, high = np.full_like(trials, -1), trials + 1
    while np.any(high - low > 1):
        middle = np.clip((low + high) // 2, 0, trials)
        held = holds(middle)
        inside = high - low > 1
        high, low = np.where(inside & held, middle, high), np.where(inside & ~held, middle, low)
    return high


def ever_certified(p: float, certify: Integers, known: Integers) -> float:
    """Return the probability that the successes ever reach a boundary at a look, whatever else would stop the draws.

    Args:
        p: Probability of a success.
        certify: (L,) the boundary.
        known: (L,) the looks.
    """
    share, done, crossed = np.ones(1), 0, 0.0
    for look, boundary in zip(known.tolist(), certify.tolist(), strict=True):
        share, done = _after(share, look - done, p), look
        crossed += float(share[boundary:].sum())
        share = share[:boundary]
    return crossed


def ever_refuted(p: float, refute: Integers, known: Integers) -> float:
    """Return the probability that the successes ever fall to a boundary at a look; see ``ever_certified``."""
    return ever_certified(1.0 - p, known - refute, known)


@dataclass(frozen=True)
class Outcome:
    """The end of the J tests of an image, all on the same draws, by the last look.

    Attributes:
        mean_draws: Mean number of draws until all are decided; those of undecided images count up to the last look.
        ends: (J + 1, J + 1) probability that so many, the smallest p0, are certified and so many, the largest, refuted.
    """

    mean_draws: float
    ends: Floats

    @property
    def undecided(self) -> float:
        """The probability that a test is still undecided."""
        tests = len(self.ends) - 1
        return float(sum(self.ends[c, r] for c in range(tests) for r in range(tests - c)))


def outcome(p: float, boundaries: Boundaries) -> Outcome:
    """Follow all counts from look to look.

    Args:
        p: Probability of a success.
        boundaries: Where the tests decide, p0 in rising order.
    """
    tests = len(boundaries.certify)
    # By the numbers certified and refuted: the smallest count that is possible, and the share of it and each one above.
    going, ends = {(0, 0): [(0, np.ones(1))]}, np.zeros((tests + 1, tests + 1))
    mean, done = 0.0, 0
    for look, ups, downs in zip(
        boundaries.looks.tolist(), boundaries.certify.T.tolist(), (boundaries.refute.T + 1).tolist(), strict=True
    ):
        mean += (look - done) * sum(float(share.sum()) for pieces in going.values() for _, share in pieces)
        arrived: dict[tuple[int, int], list[tuple[int, Floats]]] = {}
        for (c, r), pieces in going.items():
            first, share = _merged(pieces)
            moved = _after(share, look - done, p)
            # A decision is final: the first c tests and the last r are not asked again.
            up, down = ups[c : tests - r], downs[c : tests - r]
            end = first + len(moved)
            for low, high in pairwise(sorted({first, end, *(min(max(edge, first), end) for edge in up + down)})):
                state = c + sum(low >= edge for edge in up), r + sum(low < edge for edge in down)
                part = moved[low - first : high - first]
                if sum(state) == tests:
                    ends[state] += part.sum()
                else:
                    arrived.setdefault(state, []).append((low, part))
        going, done = arrived, look
    for state, pieces in going.items():
        ends[state] += sum(share.sum() for _, share in pieces)
    return Outcome(mean, ends)


def _merged(pieces: Sequence[tuple[int, Floats]]) -> tuple[int, Floats]:
    """Return shares of counts that overlap as one."""
    first = min(low for low, _ in pieces)
    merged = np.zeros(max(low + len(share) for low, share in pieces) - first)
    for low, share in pieces:
        merged[low - first : low - first + len(share)] += share
    return first, merged


def _after(share: Floats, draws: int, p: float) -> Floats:
    """Return the probability of each count after some more draws, from that of the smallest possible one."""
    return np.convolve(share, _binomial(draws, p))


@lru_cache
def _binomial(draws: int, p: float) -> Floats:
    return np.asarray(stats.binom.pmf(np.arange(draws + 1), draws, p))


# Under p0 = Φ(1) Gaussian noise certifies its own σ.
CASES = (
    *((0.5, 0.6), (0.5, 0.7), (0.5, 0.9), (0.5, 0.99)),
    *((0.8413, 0.7), (0.8413, 0.8), (0.8413, 0.9), (0.8413, 0.99)),
)


# A name, the decisions, and the looks that suffice for these cases.
WAYS: tuple[tuple[str, Callable[[Sequence[float], float], Judge], Sequence[int]], ...] = (
    ("two-sided, every 100 draws", two_sided, range(100, 10_000, 100)),
    ("one-sided, as tested", one_sided, looks(100_000)),
    ("one-sided, every draw", one_sided, range(1, 10_000)),
)


def table(ways: int = len(WAYS), alpha: float = 0.001) -> list[list[str]]:
    """Return the cells of a table of mean draws, for the first of the ways; a look at every draw takes seconds."""
    rows = [["p0", "p", *(name for name, _, _ in WAYS[:ways])]]
    for p0, p in CASES:
        found = [outcome(p, Boundaries.of(judge([p0], alpha), known)) for _, judge, known in WAYS[:ways]]
        rows.append([str(p0), str(p), *(f"{one.mean_draws:.1f}" for one in found)])
    return rows


if __name__ == "__main__":
    for cells in table():
        print(f"| {' | '.join(cells)} |")
