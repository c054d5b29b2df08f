"""Bounds on a probability from counts, and tests on counts, in float64 and without torch.

``successes`` is the number of successes in ``trials`` independent draws. Arguments are numbers or arrays that
broadcast; the result has the broadcast shape (a float64 scalar for numbers). With zero trials the bounds are 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincc, ndtri, stdtrit

from rushkit.binomial import EPS, Pair, divergence, divergence_root, log_mixture, tail_root
from rushkit.errors import UsageError

Floats = NDArray[np.float64]

# The smallest normal float64: below it, numbers have fewer digits.
SMALLEST_ALPHA = float(np.finfo(np.float64).tiny)
# By more than a logarithm of these is rounded by: it leaves a probability on the safe side.
_SMALLER = 1.0 + 6.0 * EPS
# The largest number of draws up to which float64 holds every whole number.
_MOST_TRIALS = 2.0**53


def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the one-sided lower bound on p that is wrong with probability at most alpha (Clopper & Pearson 1934).

    It is never above the root that defines it, and next to it in float64; below alpha 1e-250 it is Chernoff's bound.

    Raises:
        UsageError: counts are fractional, negative, exceed the trials or 2⁵³; alpha lies outside (0, 1) or is below
            what float64 holds.
    """
    return randomized_lower(successes, trials, 1.0, alpha)


def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the one-sided upper bound on p that is wrong with probability at most alpha (Clopper & Pearson 1934).

    Raises:
        UsageError: as for ``clopper_pearson_lower``.
    """
    return randomized_upper(successes, trials, 1.0, alpha)


def clopper_pearson_interval(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Return the two-sided interval for p that is wrong with probability at most alpha: both bounds at alpha/2."""
    _check_alpha(alpha)
    return clopper_pearson_lower(successes, trials, alpha / 2), clopper_pearson_upper(successes, trials, alpha / 2)


def randomized_lower(successes: ArrayLike, trials: ArrayLike, uniform: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the uniformly most accurate lower bound on p, which is wrong with probability alpha exactly.

    It solves P(X > successes) + u·P(X = successes) = alpha, for X ~ Binomial(trials, p) and a uniform u that was drawn
    without looking at the counts (Stevens 1950; Lehmann & Romano, Testing Statistical Hypotheses, section 3.5). It is
    never below ``clopper_pearson_lower``, which is u = 1.

    If every draw succeeded, the equation gives (alpha/u)^(1/trials), and 1 where u <= alpha: a bound that would certify
    any radius. It is held at alpha^(1/2·trials), what Clopper and Pearson prove from twice as many successes. So a p up
    to that is missed with probability alpha, a larger one never.

    Args:
        successes: Number of successes.
        trials: Number of draws.
        uniform: u, in (0, 1].
        alpha: Probability that the bound is above p.

    Raises:
        UsageError: as for ``clopper_pearson_lower``; u lies outside (0, 1].
    """
    return _plain(_randomized(successes, trials, uniform, alpha).p)


def randomized_upper(successes: ArrayLike, trials: ArrayLike, uniform: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the uniformly most accurate upper bound on p: one minus ``randomized_lower`` of the failures.

    Raises:
        UsageError: as for ``randomized_lower``.
    """
    k, n = _counts(successes, trials)
    return _plain(_randomized(n - k, n, uniform, alpha).c)


def _randomized(successes: ArrayLike, trials: ArrayLike, uniform: ArrayLike, alpha: ArrayLike) -> Pair:
    level, u = _check_alpha(alpha), np.asarray(uniform, dtype=np.float64)
    if not np.all((u > 0.0) & (u <= 1.0)):
        raise UsageError("a uniform draw must lie in (0, 1]", "draw one before the counts, and keep it with them")
    k, n, u, level = np.broadcast_arrays(*_counts(successes, trials), u, level)
    inside = (k > 0) & (k < n)
    k_in, n_in = np.where(inside, k, 1.0), np.where(inside, n, 2.0)
    root = tail_root(k_in, n_in, u, level)
    draws = np.maximum(n, 1.0)
    every = Pair.of_log(_SMALLER * np.minimum(np.log(level) - np.log(u), 0.5 * np.log(level)) / draws).rounded_down()
    # Without a success the tail is u at p = 0 already, and 1 − (1 − u)(1 − p)^n above it.
    low = np.minimum(u, level)
    beyond = (level - low) / (1.0 - low)
    left = np.where(beyond < 0.5, np.log1p(-beyond), np.log((1.0 - level) / (1.0 - low)))
    none = Pair.of_log(left / _SMALLER / draws).complement.rounded_down()
    rows = [inside, (k == n) & (n > 0), (n > 0) & (u < level)]
    return Pair(
        np.select(rows, [root.p, every.p, none.p], 0.0),
        np.select(rows, [root.c, every.c, none.c], 1.0),
    )


def wilson_interval(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the score interval for p (Wilson 1927). Its coverage is approximate, so certificates never use it.

    Raises:
        UsageError: counts as for ``clopper_pearson_lower``; confidence lies outside (0, 1).
    """
    k, n = _counts(successes, trials)
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence must lie in (0, 1) (got {confidence})", "for example 0.95")
    z = ndtri(0.5 + confidence / 2.0)
    some = np.maximum(n, 1.0)
    centre = (k + z * z / 2.0) / (some + z * z)
    reach = z / (some + z * z) * np.sqrt(k * (n - k) / some + z * z / 4.0)
    # The closed form yields 0 and 1 only up to rounding.
    low = np.where(k == 0, 0.0, np.maximum(centre - reach, 0.0))
    high = np.where(k == n, 1.0, np.minimum(centre + reach, 1.0))
    return _plain(low), _plain(high)


def hoeffding_lower(mean: ArrayLike, n: ArrayLike, alpha: float) -> Floats:
    """Return a lower bound on the expectation of n values in [0, 1]: mean − √(ln(1/α)/2n) (Hoeffding 1963).

    Raises:
        UsageError: the mean lies outside [0, 1], n is below 1, or alpha lies outside (0, 1).
    """
    centre, count = _mean(mean, n, 1)
    _check_alpha(alpha)
    return _plain(np.maximum(centre - np.sqrt(-math.log(alpha) / (2.0 * count)), 0.0))


def empirical_bernstein_lower(mean: ArrayLike, variance: ArrayLike, n: ArrayLike, alpha: float) -> Floats:
    """Return a lower bound on the expectation of n values in [0, 1] that is tighter the smaller their variance.

    It is mean − √(2V ln(2/α)/n) − 7 ln(2/α)/(3(n − 1)) with the sample variance V (Maurer & Pontil 2009, theorem 4).

    Args:
        mean: Sample mean.
        variance: Unbiased sample variance, divisor n − 1.
        n: Number of values, at least 2.
        alpha: Probability that the bound is wrong.

    Raises:
        UsageError: the mean lies outside [0, 1], the variance is negative or NaN, n is below 2, or alpha lies outside
            (0, 1).
    """
    centre, count = _mean(mean, n, 2)
    _check_alpha(alpha)
    spread = np.asarray(variance, dtype=np.float64)
    if not np.all(spread >= 0.0):
        raise UsageError("a variance must be at least 0", "pass the sample variance with divisor n - 1")
    log_term = math.log(2.0 / alpha)
    slack = np.sqrt(2.0 * spread * log_term / count) + 7.0 * log_term / (3.0 * (count - 1.0))
    return _plain(np.maximum(centre - slack, 0.0))


def binomial_at_least(successes: ArrayLike, trials: ArrayLike, p: float) -> Floats:
    """Return P(X >= successes) for X ~ Binomial(trials, p).

    Raises:
        UsageError: counts are fractional, negative or exceed the trials.
    """
    k, n = _counts(successes, trials)
    return _plain(np.where(k > 0, betainc(np.maximum(k, 1.0), n - k + 1.0, p), 1.0))


def binomial_test(successes: ArrayLike, trials: ArrayLike) -> Floats:
    """Return the exact two-sided p-value under Binomial(trials, 1/2): of all outcomes no likelier than the observed.

    Raises:
        UsageError: counts as for ``clopper_pearson_lower``.
    """
    k, n = _counts(successes, trials)
    fewer = np.minimum(k, n - k)
    tail = betainc(n - fewer, fewer + 1.0, 0.5, where=n > fewer, out=np.ones(k.shape))
    return _plain(np.minimum(2.0 * tail, 1.0))


def mcnemar(b: ArrayLike, c: ArrayLike) -> Floats:
    """Return the exact p-value for equal accuracy of two classifiers, from the images on which they disagree.

    Args:
        b: Number of images that only the first classifies correctly.
        c: Number of images that only the second classifies correctly.

    Raises:
        UsageError: counts are negative or fractional.
    """
    return binomial_test(b, np.add(b, c))


def t_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's interval for the mean of what values are a sample of, such as the accuracies of several seeds.

    It holds for normal values. With two of them it is 12.7 standard errors wide to each side; where all are equal it
    has no width.

    Raises:
        UsageError: fewer than two values; confidence lies outside (0, 1).
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        raise UsageError(f"an interval over seeds needs two of them at least (got {sample.size})", "add a seed")
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence must lie in (0, 1) (got {confidence})", "for example 0.95")
    centre = float(sample.mean())
    half = float(stdtrit(sample.size - 1, 0.5 + confidence / 2.0) * sample.std(ddof=1) / math.sqrt(sample.size))
    return centre - half, centre + half


def joined_interval(centre: float, *intervals: tuple[float, float]) -> tuple[float, float]:
    """Return one interval around a mean that several independent sources make uncertain, such as seeds and images.

    Each interval is for one source alone. The distances of their ends from the centre are added as the sides of a right
    angle: low = centre − √(Σ (centre − lowᵢ)²). For normal sources and Student intervals it covers with at least the
    probability of each of them (Banerjee 1960), since P(χ²₁ <= x) is concave in x; for other intervals it is the method
    of variance estimates recovery (Zou & Donner 2008).
    """
    below = math.sqrt(sum(max(centre - low, 0.0) ** 2 for low, _ in intervals))
    above = math.sqrt(sum(max(high - centre, 0.0) ** 2 for _, high in intervals))
    return centre - below, centre + above


def paired_interval(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval for the mean difference of two classifiers on the same images.

    It is the adjusted Wald interval of Bonett & Price (2012), after Agresti & Min (2005): two images are added, on each
    of which another one alone is right, so that it has a width where all images agree. Votes make the differences
    fractions.

    Args:
        differences: (N,) the share of votes that are right in the first classifier minus that in the second, for each
            image, in [−1, 1].
        confidence: How often such intervals cover.

    Raises:
        UsageError: no differences, or one outside [−1, 1]; confidence lies outside (0, 1).
    """
    change = np.asarray(differences, dtype=np.float64)
    if not (change.size and np.all(np.abs(change) <= 1.0)):
        raise UsageError("differences of shares lie in [-1, 1], and there is one at least", "pass one for each image")
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence must lie in (0, 1) (got {confidence})", "for example 0.95")
    count = change.size + 2
    centre, squares = change.sum() / count, ((change**2).sum() + 2.0) / count
    half = ndtri(0.5 + confidence / 2.0) * math.sqrt(max(squares - centre**2, 0.0) / count)
    return float(centre - half), float(centre + half)


def mean_ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval for the mean over K kinds of the ratio of two means, all of them over the same N images.

    By the delta method on the logarithm, with Student's quantile: an image moves the mean of the ratios by the mean
    over kinds of (x − r·y) / ȳ, r being the kind's ratio, so that what kinds, numerators and denominators share is
    taken into account. A ratio of one column with itself is 1 without any uncertainty. Where all numerators are 0, the
    upper end is Wilson's for the share of images that have another one, as if these had 1 in every kind.

    Args:
        numerators: (N, K) of each image and kind, in [0, 1].
        denominators: (N, K) the same, with a mean above 0 in each kind.
        confidence: How often such intervals cover, for many images.

    Raises:
        UsageError: fewer than two images; numbers outside [0, 1]; shapes that differ; a kind whose denominators are 0;
            confidence lies outside (0, 1).
    """
    x, y = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape or len(x) < 2:
        raise UsageError("ratios of means need two arrays of one shape, with two images at least", "pass (N, K) each")
    if not all(np.all((values >= 0.0) & (values <= 1.0)) for values in (x, y)) or not np.all(y.any(axis=0)):
        raise UsageError("errors lie in [0, 1], and those divided by are not all 0", "leave such a kind out")
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence must lie in (0, 1) (got {confidence})", "for example 0.95")
    means = y.mean(axis=0)
    ratios = x.mean(axis=0) / means
    centre = float(ratios.mean())
    if centre == 0.0:
        return 0.0, float(wilson_interval(0, len(x), confidence)[1] * (1.0 / means).mean())
    moves = ((x - ratios * y) / means).mean(axis=1)
    error = float(moves.std(ddof=1)) / math.sqrt(len(x))
    factor = math.exp(float(stdtrit(len(x) - 1, 0.5 + confidence / 2.0)) * error / centre)
    return centre / factor, centre * factor


def log_e_process(successes: ArrayLike, trials: ArrayLike, p0: ArrayLike) -> Floats:
    """Return the logarithm of the betting e-process against p = p0, which is valid after any number of draws.

    E = Γ(A + ½) Γ(n − A + ½) / (π Γ(n + 1)) / (p0^A (1 − p0)^(n − A)) is the wealth of the Krichevsky-Trofimov bettor
    after n draws with A successes. Under p = p0 it is a martingale that starts at 1, so by Ville's inequality it ever
    reaches 1/α with probability at most α, whatever the stopping rule. Swapping successes for failures and p0 for
    1 − p0 leaves it unchanged: the side of p0 that A/n lies on tells which claim it supports. The claim "p > p0"
    (E >= 1/α and A/n > p0) is false with probability at most α for every p <= p0 as well, because E rises with A there;
    the same holds for the other side.

    Raises:
        UsageError: counts as for ``clopper_pearson_lower``; p0 lies outside [0, 1].
    """
    k, n = _counts(successes, trials)
    null = _probability(p0, "p0")
    return _plain(log_mixture(k, n) + divergence(k, n, Pair(null, 1.0 - null)))


def betting_lower(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the lower end of the confidence sequence that follows from ``log_e_process``.

    With probability at least 1 − alpha, this end and ``betting_upper`` hold after every number of draws simultaneously.
    The end itself is refuted: E is at least 1/alpha there.

    Raises:
        UsageError: as for ``clopper_pearson_lower``.
    """
    k, n = _counts(successes, trials)
    return _plain(_lower_end(k, n, alpha, log_mixture(k, n)).p)


def betting_upper(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the upper end of the confidence sequence that follows from ``log_e_process``; see ``betting_lower``."""
    k, n = _counts(successes, trials)
    return _plain(_lower_end(n - k, n, alpha, log_mixture(n - k, n)).c)


def log_e_above(successes: ArrayLike, trials: ArrayLike, p0: ArrayLike, cut: ArrayLike | None = None) -> Floats:
    """Return the logarithm of the e-process for the claim "p > p0", which is valid after any number of draws.

    It is ``log_e_process`` with the mixture Beta(½, ½) cut to p > ``cut`` and renormalised, so that nothing is staked
    on the other side: log E = log e_process + log I(A + ½, n − A + ½) − log I(½, ½), where I is the share of a beta
    distribution above ``cut``.

    One claim, ``cut`` = p0: for every θ > p0 the factor of a draw, θ/p0 or (1 − θ)/(1 − p0), has a mean of at most 1
    where p <= p0. So E is a supermartingale that starts at 1, and by Ville's inequality it ever reaches 1/α with
    probability at most α. It cannot while A/n <= p0.

    Several claims from the same draws, ``cut`` = the smallest p0: "p > p0" is claimed where E >= 1/α at p0 *and*
    A/n > p0. At a false claim p <= p0 < A/n, so the likelihood of the counts at p is no larger than at p0, and the
    mixture over the likelihood at p, which is a martingale under p whatever the cut, has reached 1/α as well. All
    false claims lie in that one event. Without the second condition they do not: where p lies above the cut, E at a
    p0 > p grows without end.

    Args:
        successes: Successes so far.
        trials: Draws so far.
        p0: The probability that is claimed to be exceeded.
        cut: Where the mixture begins; None: at p0.

    Raises:
        UsageError: counts as for ``clopper_pearson_lower``; p0 or cut lies outside [0, 1].
    """
    return _one_sided(successes, trials, p0, cut, betaincc)


def log_e_below(successes: ArrayLike, trials: ArrayLike, p0: ArrayLike, cut: ArrayLike | None = None) -> Floats:
    """Return the logarithm of the e-process for the claim "p < p0", with the mixture cut to p < ``cut``.

    It is ``log_e_above`` with successes and failures swapped. For several claims ``cut`` is the largest p0, and
    A/n < p0 is the second condition.

    Raises:
        UsageError: as for ``log_e_above``.
    """
    return _one_sided(successes, trials, p0, cut, betainc)


def betting_lower_above(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike, cut: ArrayLike) -> Floats:
    """Return the lower end of the confidence sequence that follows from ``log_e_above`` with this cut.

    The p0 below A/n that the counts show to be exceeded are those up to this end. With probability at least 1 − alpha
    it is below p after every number of draws simultaneously, in the same event in which no such claim is false.

    Raises:
        UsageError: as for ``log_e_above``; alpha lies outside (0, 1).
    """
    k, n = _counts(successes, trials)
    return _plain(_lower_end(k, n, alpha, _log_cut_mixture(k, n, _probability(cut, "cut"), betaincc)).p)


def _one_sided(
    successes: ArrayLike, trials: ArrayLike, p0: ArrayLike, cut: ArrayLike | None, share: Callable[..., Floats]
) -> Floats:
    k, n = _counts(successes, trials)
    null = _probability(p0, "p0")
    mixture = _log_cut_mixture(k, n, null if cut is None else _probability(cut, "cut"), share)
    # Minus infinity plus infinity, where p0 = cut leaves no mixture and no likelihood, claims nothing.
    with np.errstate(invalid="ignore"):
        e = mixture + divergence(k, n, Pair(null, 1.0 - null))
    return _plain(np.where(np.isneginf(mixture), -np.inf, e))


def _log_cut_mixture(k: Floats, n: Floats, cut: Floats, share: Callable[..., Floats]) -> Floats:
    """Return ``log_mixture`` with p ~ Beta(½, ½) on one side of ``cut`` alone.

    Minus infinity, which claims nothing, where no share lies there or where float64 cannot hold it: below 1e-300.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gained = np.log(share(k + 0.5, n - k + 0.5, cut)) - np.log(share(0.5, 0.5, cut))
    return log_mixture(k, n) + np.where(np.isnan(gained), -np.inf, gained)


def _lower_end(k: Floats, n: Floats, alpha: ArrayLike, mixture: Floats) -> Pair:
    """Return the largest p up to k/n at which the mixture is at least 1/alpha times the likelihood."""
    k, n, level, mixed = np.broadcast_arrays(k, n, _check_alpha(alpha), mixture)
    some = (k > 0) & np.isfinite(mixed)
    target = np.where(some, -np.log(level) - mixed, 1.0)
    root = divergence_root(np.maximum(k, 1.0), np.maximum(n, 1.0), target)
    return Pair(np.where(some, root.p, 0.0), np.where(some, root.c, 1.0))


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    # The negation makes NaN fail as well.
    wrong = ~((k >= 0) & (k <= n) & (k == np.floor(k)) & (n == np.floor(n)) & (n <= _MOST_TRIALS))
    if wrong.any():
        raise UsageError(
            f"{k[wrong].flat[0]:g} successes of {n[wrong].flat[0]:g} trials are not counts",
            "both are whole numbers, 0 <= successes <= trials, at most 2**53",
        )
    return k, n


def _probability(given: ArrayLike, name: str) -> Floats:
    p = np.asarray(given, dtype=np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise UsageError(f"{name} must lie in [0, 1]", "the probability that the claim is about")
    return p


def _mean(mean: ArrayLike, n: ArrayLike, fewest: int) -> tuple[Floats, Floats]:
    centre, count = np.asarray(mean, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not np.all((centre >= 0.0) & (centre <= 1.0)):
        raise UsageError("a mean of values in [0, 1] must lie in [0, 1]", "divide the sum by the number of draws")
    if not np.all((count >= fewest) & np.isfinite(count)):
        raise UsageError(f"this bound needs at least {fewest} draws (got {np.min(count):g})", "draw more samples")
    return centre, count


def _check_alpha(alpha: ArrayLike) -> Floats:
    level = np.asarray(alpha, dtype=np.float64)
    # The negation makes NaN fail as well.
    if (wrong := ~((level > 0.0) & (level < 1.0))).any():
        raise UsageError(f"alpha must lie in (0, 1) (got {level[wrong].flat[0]:g})", "for example 0.001")
    if (small := level < SMALLEST_ALPHA).any():
        raise UsageError(
            f"alpha {level[small].flat[0]:g} is smaller than float64 can bound a probability with",
            f"the smallest is {SMALLEST_ALPHA:.2g}, shared by the classes that are bounded; usual is 0.001",
        )
    return level


def _plain(values: ArrayLike) -> Floats:
    """Return the values as float64, and an array without dimensions as a scalar."""
    scalar_or_array: Floats = np.asarray(values, dtype=np.float64)[()]
    return scalar_or_array


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of several tests corrected for their number (Holm 1979), in the same order.

    To call a test significant where its corrected value is at most alpha errs on any of them with a probability of at
    most alpha, however the tests depend on each other.

    Example::

        holm([0.01, 0.04, 0.03])  # [0.03, 0.06, 0.06]

    Raises:
        UsageError: one lies outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise UsageError(f"p-values lie in [0, 1] (got {list(p_values)})")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[place])))
        corrected[place] = largest
    return corrected
