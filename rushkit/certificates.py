"""Turn counts into certified radii and summaries of them, and into predictions that may abstain.

All functions work on logged counts and sums and run no network, so certificates can be recomputed for another alpha,
norm or bound. All radii are float64 in pixel units (pixels lie in [0, 1]).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rushkit.buckets import bucket_counts
from rushkit.errors import NoCertificate, PluginError, UsageError
from rushkit.noises import Noise, Norm, TwoClassNoise, name_of
from rushkit.rounding import floor_radius
from rushkit.statistics import (
    betting_lower,
    betting_upper,
    binomial_test,
    clopper_pearson_lower,
    clopper_pearson_upper,
    empirical_bernstein_lower,
    hoeffding_lower,
    randomized_lower,
    randomized_upper,
    wilson_interval,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CountBound = Literal["clopper-pearson", "randomized", "betting"]
MeanBound = Literal["empirical-bernstein", "hoeffding"]
# (successes, trials, alpha) -> bound on p.
_Bound = Callable[[ArrayLike, ArrayLike, ArrayLike], Floats]

ABSTAIN = -1


@dataclass(frozen=True, eq=False)
class Randomized:
    """The bound ``randomized`` with its draws: ``Randomized(uniforms)`` is given as the bound of ``certify_counts``.

    Attributes:
        uniforms: (N,) a draw of a uniform variable in (0, 1] for each image, made without looking at its counts.
    """

    uniforms: ArrayLike


@dataclass(frozen=True, eq=False)
class Certificates:
    """One certificate for each image.

    Attributes:
        predicted: (N,) int64, the certified class, or −1 where the procedure abstains.
        p_lower: (N,) lower bound on the probability (or the mean confidence) of the class that was tested.
        p_upper: (N,) upper bound on that of every other class; 1 − p_lower unless the runner-up was bounded too.
        radius: (N,) certified radius in pixel units, 0 if the procedure abstains.
    """

    predicted: Integers
    p_lower: Floats
    p_upper: Floats
    radius: Floats

    def __len__(self) -> int:
        return len(self.predicted)

    def __repr__(self) -> str:
        largest = f", radius up to {floor_radius(self.radius.max())}" if len(self) else ""
        return f"Certificates({len(self)} images, {int((self.predicted < 0).sum())} abstain{largest})"


def certify_counts(
    selection_counts: ArrayLike,
    estimation_counts: ArrayLike,
    noise: Noise,
    norm: Norm,
    dim: int,
    alpha: float = 0.001,
    bound: CountBound | Randomized = "clopper-pearson",
    two_class: bool = False,
) -> Certificates:
    """Certify the majority vote: CERTIFY of Cohen, Rosenfeld & Kolter 2019, for every image at once.

    The selection draws choose the class; the estimation draws, which must be *other* draws, bound its probability.
    With ``two_class`` they bound the runner-up too. The selection draws put the other classes into buckets, no bucket
    with more of them than the largest class alone, and alpha is shared equally by the class and the buckets: the
    likeliest other class is at most as likely as its bucket (class partitioning, Delattre et al. 2025).

    Args:
        selection_counts: (N, K) votes that choose, at least one an image.
        estimation_counts: (N, K) votes that estimate.
        noise: What the votes were drawn under.
        norm: The norm of the ball.
        dim: C * H * W.
        alpha: Probability, for each image, that its certificate is false.
        bound: ``"clopper-pearson"`` for a number of draws fixed beforehand; ``Randomized(uniforms)`` for the same, and
            wrong with probability alpha exactly, which makes it the tightest; ``"betting"`` holds at any moment chosen
            while looking at the counts.
        two_class: Bound the runner-up as well. A randomized bound uses one uniform for the class and its buckets: that
            none of the bounds is wrong needs no independence.

    Raises:
        UsageError: counts of other shapes, not whole, or without a selection draw; alpha outside (0, 1) or shared by so
            many buckets that float64 cannot hold a share; no uniform draw for each image.
        NoCertificate: no theorem for this norm, or, with ``two_class``, none of that form for this noise.
    """
    selection, estimation = _votes(selection_counts, "selection"), _votes(estimation_counts, "estimation")
    if selection.shape != estimation.shape:
        raise UsageError(
            f"selection counts {selection.shape} and estimation counts {estimation.shape} differ in shape",
            "both are (images, classes)",
        )
    if not np.all(selection.sum(axis=1) > 0):
        raise UsageError("an image has no selection draw", "draw at least one sample to choose the class with")
    lower, upper = _bounds(bound, len(selection))
    rows, classes, trials = np.arange(len(selection)), selection.argmax(axis=1), estimation.sum(axis=1)
    if not two_class:
        p_lower = lower(estimation[rows, classes], trials, alpha)
        return _certificates(classes, p_lower, 1.0 - p_lower, noise.certified_radius(p_lower, norm, dim))

    if not isinstance(noise, TwoClassNoise):
        raise NoCertificate(
            f"noise {name_of(noise)!r} has no theorem for two classes",
            "leave two_class off: its bound on the top class holds",
        )
    chosen, others, buckets = bucket_counts(selection, estimation)
    # One bucket of all others has the complement's count: its bound is the class's own, at no price.
    share = np.where(buckets > 1, alpha / (buckets + 1), alpha)
    p_lower = lower(chosen, trials, share)
    # The bound rises with the count, so the largest one is that of the fullest bucket.
    p_upper = np.where(buckets > 1, upper(others, trials, share), 1.0)
    p_upper = np.minimum(p_upper, 1.0 - p_lower)
    return _certificates(classes, p_lower, p_upper, noise.certified_radius_two_class(p_lower, p_upper, norm, dim))


@dataclass(frozen=True, eq=False)
class MeanSums:
    """The confidences in one class of each image, summed over the draws that estimate.

    Attributes:
        classes: (N,) the classes, which other draws chose.
        sums: (N,) summed softmax of the class.
        squares: (N,) summed squares of it.
        trials: Number of draws, one for all images or (N,).
    """

    classes: Integers
    sums: Floats
    squares: Floats
    trials: ArrayLike

    @classmethod
    def of_tables(
        cls, selection_sums: ArrayLike, sums: ArrayLike, sums_of_squares: ArrayLike, trials: ArrayLike
    ) -> MeanSums:
        """Choose each image's class by the draws that select, and keep its sums.

        Args:
            selection_sums: (N, K) summed softmax of the draws that choose the class.
            sums: (N, K) summed softmax of the draws that estimate, other draws than those.
            sums_of_squares: (N, K) summed squares of the latter.
            trials: Number of estimation draws, one for all or (N,).

        Raises:
            UsageError: tables of other shapes.
        """
        chooser, total, squares = (_table(given, "sums") for given in (selection_sums, sums, sums_of_squares))
        if not chooser.shape == total.shape == squares.shape:
            raise UsageError("the sums differ in shape", "all three are (images, classes)")
        rows, classes = np.arange(len(total)), chooser.argmax(axis=1)
        return cls(classes, total[rows, classes], squares[rows, classes], trials)


def certify_means(
    confidences: MeanSums,
    noise: Noise,
    norm: Norm,
    dim: int,
    alpha: float = 0.001,
    bound: MeanBound = "empirical-bernstein",
) -> Certificates:
    """Certify the mean rule, argmax of E[softmax]: the theorems hold for any score in [0, 1] (Kumar et al. 2020).

    Clopper-Pearson does not apply to confidences; these bounds do.

    Args:
        confidences: The sums of each image's class.
        noise: What the draws were made under.
        norm: The norm of the ball.
        dim: C * H * W.
        alpha: Probability, for each image, that its certificate is false.
        bound: ``"empirical-bernstein"`` is far tighter where the confidence hardly varies, and needs 2 draws.

    Raises:
        UsageError: sums that no confidences in [0, 1] can have; alpha outside (0, 1).
        NoCertificate: no theorem for this norm.
    """
    score, square = confidences.sums, confidences.squares
    count = np.broadcast_to(np.asarray(confidences.trials, dtype=np.float64), score.shape)
    if not np.all(count >= 1):
        raise UsageError("an image has no estimation draw", "draw at least one sample to estimate with")
    # Sums of a hundred thousand float64 values are right to about 1e-11 of their size.
    rounding = 1e-9 * count
    if not np.all((square <= score + rounding) & (score <= count + rounding)):
        raise UsageError("these are not sums of confidences in [0, 1]", "sum the softmax and its square in float64")
    mean = np.minimum(score / count, 1.0)
    if bound == "hoeffding":
        p_lower = hoeffding_lower(mean, count, alpha)
    elif bound == "empirical-bernstein":
        variance = np.maximum(square - count * mean**2, 0.0) / np.maximum(count - 1.0, 1.0)
        p_lower = empirical_bernstein_lower(mean, variance, count, alpha)
    else:
        raise UsageError(f"unknown bound {bound!r} for means", "use empirical-bernstein or hoeffding")
    radius = noise.certified_radius(p_lower, norm, dim)
    return _certificates(confidences.classes, p_lower, 1.0 - p_lower, radius)


def predict_counts(counts: ArrayLike, alpha: float = 0.001) -> Integers:
    """Return the majority class, or −1 to abstain: PREDICT of Cohen, Rosenfeld & Kolter 2019.

    A two-sided binomial test of the two top counts; the class returned is not the smoothed classifier's own with
    probability at most alpha (Hung & Fithian 2019).

    Args:
        counts: (N, K) votes, K at least 2.
        alpha: Abstain where the p-value is above this.

    Returns:
        (N,) int64.
    """
    votes = _votes(counts, "prediction")
    if not 0.0 < alpha < 1.0:
        raise UsageError(f"alpha must lie in (0, 1) (got {alpha})", "for example 0.001")
    second, first = np.moveaxis(np.sort(votes, axis=1)[:, -2:], 1, 0)
    return np.where(binomial_test(first, first + second) <= alpha, votes.argmax(axis=1), ABSTAIN)


def threshold_probability(noise: Noise, radius: float, norm: Norm, dim: int) -> float:
    """Return the smallest probability of the top class that certifies a radius, rounded up; infinite where none does.

    It is found by bisection between 1/2 and 1, so it works for any noise whose radius rises with p.

    Args:
        noise: The noise.
        radius: Pixel units; 0 asks for any certificate at all, and gives 1/2, which p must exceed.
        norm: The norm of the ball.
        dim: C * H * W.

    Raises:
        UsageError: a radius that is negative or not finite.
        NoCertificate: no theorem for this norm.
    """
    if not (math.isfinite(radius) and radius >= 0.0):
        raise UsageError(f"a radius must be finite and at least 0 (got {radius})", "pixel units, for example 0.25")
    if noise.certified_radius(1.0, norm, dim) < radius:
        return math.inf
    low, high = 0.5, 1.0
    if radius == 0.0:
        return low
    while low < (middle := (low + high) / 2.0) < high:
        low, high = (low, middle) if noise.certified_radius(middle, norm, dim) >= radius else (middle, high)
    return high


@dataclass(frozen=True)
class Rate:
    """A share of images with its Wilson interval."""

    count: int
    total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Certified accuracy, radii and abstentions of a set of images.

    Attributes:
        accuracy: Images whose certified class is right, at any radius; abstentions count as wrong.
        abstained: Images without a certificate.
        average_radius: Mean over all images of the radius, 0 if the class is wrong or withheld.
        average_radius_error: Standard error of that mean.
        radii: The radii asked about, pixel units.
        certified: Right and certified at each of them at least.
    """

    accuracy: Rate
    abstained: Rate
    average_radius: float
    average_radius_error: float
    radii: tuple[float, ...]
    certified: tuple[Rate, ...]


def summarise(
    certificates: Certificates, labels: ArrayLike, radii: Sequence[float] = (), confidence: float = 0.95
) -> Summary:
    """Return certified accuracy at each radius, the average certified radius and the share of abstentions.

    Args:
        certificates: N of them, at least one.
        labels: (N,) the true classes.
        radii: Where to state certified accuracy, pixel units.
        confidence: Level of the Wilson intervals.

    Raises:
        UsageError: no certificates, or another number of labels.
    """
    truth = np.asarray(labels)
    if truth.shape != certificates.predicted.shape:
        raise UsageError(f"{len(certificates)} certificates but labels of shape {truth.shape}", "one label an image")
    right = (certificates.predicted == truth) & (certificates.predicted != ABSTAIN)
    earned = np.where(right, certificates.radius, 0.0)
    return Summary(
        accuracy=rate(right, confidence),
        abstained=rate(certificates.predicted == ABSTAIN, confidence),
        average_radius=float(earned.mean()),
        average_radius_error=float(earned.std(ddof=1) / math.sqrt(len(earned))) if len(earned) > 1 else math.inf,
        radii=tuple(float(radius) for radius in radii),
        certified=tuple(rate(right & (certificates.radius >= radius), confidence) for radius in radii),
    )


def rate(flags: ArrayLike, confidence: float = 0.95) -> Rate:
    """Return the share of true flags with its Wilson interval.

    Raises:
        UsageError: no flags.
    """
    flagged = np.asarray(flags, dtype=bool)
    if not flagged.size:
        raise UsageError("no images to summarise", "certify at least one")
    count, total = int(flagged.sum()), flagged.size
    low, high = wilson_interval(count, total, confidence)
    return Rate(count, total, count / total, float(low), float(high))


def _bounds(bound: CountBound | Randomized, images: int) -> tuple[_Bound, _Bound]:
    """Return the lower and the upper bound that are asked for."""
    if isinstance(bound, Randomized):
        uniforms = np.asarray(bound.uniforms, dtype=np.float64)
        if uniforms.shape != (images,):
            raise UsageError(f"uniforms of shape {uniforms.shape} for {images} images", "draw one for each image")
        return (
            lambda k, n, alpha: randomized_lower(k, n, uniforms, alpha),
            lambda k, n, alpha: randomized_upper(k, n, uniforms, alpha),
        )
    match bound:
        case "clopper-pearson":
            return clopper_pearson_lower, clopper_pearson_upper
        case "betting":
            return betting_lower, betting_upper
        case "randomized":
            raise UsageError(
                "the randomized bound needs a uniform draw for each image",
                "pass bound=Randomized(uniforms), with draws that were made before the counts were looked at",
            )
        case _:
            raise UsageError(f"unknown bound {bound!r} for counts", f"use {' or '.join(get_args(CountBound))}")


def _certificates(classes: Integers, p_lower: Floats, p_upper: Floats, radius: Any) -> Certificates:
    checked = np.asarray(radius, dtype=np.float64)
    if checked.shape != p_lower.shape or not np.all(np.isfinite(checked) & (checked >= 0.0)):
        raise PluginError(
            "the noise's certified radii are not one finite number of at least 0 for each probability",
            "repair its certified_radius: an array in gives an array of the same shape",
        )
    certain = p_lower > p_upper
    return Certificates(
        predicted=np.where(certain, classes, ABSTAIN).astype(np.int64),
        p_lower=p_lower,
        p_upper=p_upper,
        radius=np.where(certain, checked, 0.0),
    )


def _table(given: ArrayLike, word: str) -> Floats:
    table = np.asarray(given, dtype=np.float64)
    if table.ndim != 2 or not np.all(table >= 0.0):
        raise UsageError(f"{word} must be a table of numbers of at least 0", "one row an image, one column a class")
    if table.shape[1] < 2:
        raise UsageError(f"{word} need at least two classes: a single one wins whatever it sees", "(images, classes)")
    return table


def _votes(given: ArrayLike, word: str) -> Integers:
    table = _table(given, f"{word} counts")
    if not np.all((table == np.floor(table)) & (table.sum(axis=1, keepdims=True) <= 2.0**53)):
        raise UsageError(f"{word} counts must be whole numbers, 2**53 an image at most", "counts of votes, not shares")
    return table.astype(np.int64)
