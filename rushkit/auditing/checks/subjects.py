"""The checks of the model, its images and its figures, whatever the attack."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import fisher_exact

from rushkit import statistics
from rushkit.auditing.checks.verdict import LARGE, Verdict, as_percent, smallest_drop
from rushkit.auditing.measure import Measured
from rushkit.auditing.probes import FEWEST_ROWS
from rushkit.results.intervals import mean_interval
from rushkit.results.notes import Status

# By how much test images may be harder to attack than training images, unless chance explains it; and the images a side
# that say something.
_BETTER, _SURE, _FEW = 0.20, 1e-3, 32
# A claim is refuted where it gives what was seen less probability.
_REFUTED = 1e-3

# The largest change of a logit by the images beside it, over the largest logit: in float32, and in half precision.
_BATCH, _BATCH_HALF = 1e-3, 1e-2


def not_finite(measured: Measured) -> Verdict:
    """Check for NaN and infinite logits or gradients, which are failures of the model, not successes of an attack."""
    figures = {"not_finite": float(measured.not_finite)}
    if measured.not_finite:
        return Verdict("fail", f"{measured.not_finite} of {measured.images} images: {measured.problem}", figures)
    broken = sum(measured.gradients.not_finite) if measured.gradients else 0
    if broken:
        figures["gradients_not_finite"] = float(broken)
        says = f"the logits are finite, and the gradients of −log p̄ NaN or infinite at {broken} of the attacked images"
        return Verdict("fail", says, figures)
    return Verdict("pass", "logits and gradients are finite", figures)


def large_eps_survived(measured: Measured) -> Verdict:
    """Check that a ball in which every image can become grey leaves no more than the accuracy of a constant answer."""
    # Only images that were right are attacked: with a model that favours one class they are not 1/K of each class.
    point, chance = measured.points["radii"][-1], measured.commonest
    low, _ = mean_interval(math.fsum(point.share), len(point.share))
    figures = {"eps": point.value, "accuracy": point.accuracy, "chance": chance}
    status: Status = "fail" if low > chance else "warn" if point.accuracy > chance + LARGE else "pass"
    return Verdict(
        status,
        f"at eps {point.value:.4g} accuracy is {as_percent(point.accuracy)}, chance {as_percent(chance)}",
        figures,
    )


def too_few_images(measured: Measured) -> Verdict:
    """Check that there are enough images, since most checks cannot fail on few."""
    count = len(measured.attacked)
    figures = {"images": float(measured.images), "attacked": float(count)}
    if not count:
        return Verdict("fail", measured.problem or "no image is right before any attack", figures)
    figures["smallest_drop"] = drop = smallest_drop(count)
    says = (
        f"{count} of {measured.images} images are right before any attack, and were attacked; between two attacks, a "
        f"drop below {as_percent(drop)} can be chance"
    )
    return Verdict("warn" if count < 20 else "pass", says, figures)


def better_on_test(measured: Measured) -> Verdict:
    """Check that test images are not clearly harder to attack than training images.

    A model knows its training images best. If it withstands an attack on test images alone, it has seen them, or has
    their labels from elsewhere. It compares the images that are right in most votes, of those right before the attack,
    by a one-sided Fisher test.
    """
    test = next((point for point in measured.points["losses"] if point.label == "margin"), None)
    training = measured.rival("training")
    if measured.why_no_training or test is None or training is None:
        return Verdict("skipped", measured.why_no_training or "the model has too few classes for the margin")
    counts = [(sum(point.right), len(point.right)) for point in (test, training)]
    if min(images for _, images in counts) < _FEW:
        return Verdict("skipped", f"too few: {counts[0][1]} test and {counts[1][1]} training images are right at first")
    (on_test, tested), (on_training, trained) = counts
    table = np.array([[on_test, tested - on_test], [on_training, trained - on_training]])
    p, gap = float(fisher_exact(table, alternative="greater").pvalue), on_test / tested - on_training / trained
    figures = {"test": on_test / tested, "training": on_training / trained, "training_images": float(trained), "p": p}
    says = (
        f"the same attack leaves {as_percent(on_test / tested)} of {tested} test images right, and "
        f"{as_percent(on_training / trained)} of {trained} training images"
    )
    return Verdict("fail" if gap > _BETTER and p < _SURE else "pass", says, figures)


def claim_refuted(measured: Measured) -> Verdict:
    """Check that the claimed accuracy under attack explains how many images the strongest attack leaves right.

    One fresh vote of each image counts, on draws that no other image shares, so that the count is a sum of independent
    trials: if the claim holds, the chance that at most so many are right is at most that of a binomial. Without noise,
    an image that is wrong before any attack is wrong; of a random classifier other draws vote on it as it is.
    """
    claim = measured.claim
    if claim is None:
        return Verdict("skipped", "no claim was made")
    right, images = sum(measured.claim_votes), measured.images
    # At most so many right: at least so many wrong.
    p = float(statistics.binomial_at_least(images - right, images, 1 - claim))
    figures = {"claim": claim, "right": float(right), "images": float(images), "p": p}
    says = (
        f"the strongest attacks leave {right} of {images} images right; if {as_percent(claim)} of all images stayed "
        f"right, so few would with probability {p:.2g}"
    )
    return Verdict("fail" if p < _REFUTED else "pass", says, figures)


def most_change(low_precision: bool) -> float:
    """Return the largest change of a logit from batch to batch, as a share of the largest, that rounding explains."""
    return _BATCH_HALF if low_precision else _BATCH


def batch_dependent(measured: Measured) -> Verdict:
    """Check that the answer for an image is the same alone, in a batch, and behind other images in one batch."""
    assert measured.probes is not None
    mates = measured.probes.mates
    if mates is None:
        random = measured.probes.jumps is None
        says = (
            "the model is random by itself (RK123): no answer repeats in any batch"
            if random
            else f"too few images: {measured.images}, and it takes {2 * FEWEST_ROWS}"
        )
        return Verdict("skipped", says)
    figures = {
        "largest_change": mates.change,
        "other_answers": float(mates.other_answers),
        "images": float(mates.images),
    }
    most = most_change(measured.probes.low_precision)
    says = (
        f"alone or behind other images logits change by {mates.change:.1g} of the largest, and {mates.other_answers} "
        f"of {mates.images} answers change"
    )
    return Verdict("fail" if mates.change > most or mates.other_answers else "pass", says, figures)


def more_classes(measured: Measured) -> Verdict:
    """Check that the model has no more outputs than the data has classes: with others it can reject an image."""
    figures = {"outputs": float(measured.outputs), "classes": float(measured.data_classes)}
    if not measured.data_classes:
        return Verdict("skipped", "the number of classes of the data is not known")
    if not measured.rejects:
        return Verdict("pass", "the model has no more outputs than the data has classes", figures)
    says = f"the model has {measured.outputs} outputs for {measured.data_classes} classes"
    if measured.answers is not None:
        clean = measured.answers
        figures |= {"clean_rejected": clean.rejected, "clean_accuracy": clean.right}
        says += (
            f": it rejects {as_percent(clean.rejected)} of the clean images, and {as_percent(clean.right)} are right, "
            "if a rejection counts as wrong"
        )
    if measured.worst_answers is not None:
        worst = measured.worst_answers
        figures |= {
            "worst_accuracy": worst.right,
            "worst_rejected": worst.rejected,
            "worst_accepted_wrong": worst.wrong,
        }
        says += (
            f"; of the strongest versions {as_percent(worst.right)} are right, and {as_percent(worst.wrong)} are "
            "accepted with a wrong class"
        )
    return Verdict("fail", says, figures)


def outputs_are_probabilities(measured: Measured) -> Verdict:
    """Check that the model returns logits or log p instead of probabilities: losses take a softmax of its outputs."""
    assert measured.probes is not None
    if measured.probes.probabilities:
        says = "the outputs are probabilities, and the losses take a softmax of them again: return the logits, or log p"
        return Verdict("warn", says)
    return Verdict("pass", "the outputs are not probabilities")
