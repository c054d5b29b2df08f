"""The checks of a random classifier's draws."""

from __future__ import annotations

import math

from rushkit.auditing.checks.verdict import LARGE, Verdict, as_percent, change, rival, worse_by
from rushkit.auditing.measure import Measured
from rushkit.results.notes import Status


def eot_not_converged(measured: Measured) -> Verdict:
    """Check that twice the draws in each gradient break no more images."""
    before, after = measured.points["draws"][-2:]
    figures = {f"accuracy at {point.label}": point.accuracy for point in measured.points["draws"]}
    return Verdict(worse_by(after, before), change(before, after), figures)


def gradient_drowned(measured: Measured) -> Verdict:
    """Check that gradients from independent draws point the same way; otherwise the noise hides the direction."""
    assert measured.gradients is not None
    cosines = measured.gradients.cosines
    if len(cosines) < 2:
        return Verdict("skipped", "too few images have a gradient")
    mean = math.fsum(cosines) / len(cosines)
    spread = math.sqrt(math.fsum((cosine - mean) ** 2 for cosine in cosines) / (len(cosines) - 1) / len(cosines))
    figures = {"mean_cosine": mean, "standard_error": spread}
    status: Status = "fail" if mean < 0.01 or mean < 3 * spread else "warn" if mean < 0.05 else "pass"
    return Verdict(status, f"gradients of {measured.settings.eot} draws each have a mean cosine of {mean:.3f}", figures)


def fixed_noise_stronger(measured: Measured) -> Verdict:
    """Check that an attack on one fixed panel of noise does not beat one with fresh noise at every step."""
    return rival(measured.points["fixed"][0], measured.points["losses"][0])


def random_by_itself(measured: Measured) -> Verdict:
    """Check that a second pass of the model over the same images gives the same logits."""
    assert measured.own_randomness is not None
    figures = {"own_randomness": measured.own_randomness}
    if measured.random_by_itself:
        says = (
            f"a second pass over the same images changes the logits by {as_percent(measured.own_randomness)} of the "
            f"largest: the model is random by itself, and a figure from an attack on one draw is worth nothing; this "
            f"audit took {measured.settings.eot} draws a gradient"
        )
        return Verdict("fail", says, figures)
    change = f"changes the logits by {measured.own_randomness:.1g} of the largest" if measured.own_randomness else ""
    return Verdict("pass", f"a second pass over the same images {change or 'gives the same logits'}", figures)


def votes_flip(measured: Measured) -> Verdict:
    """Check whether votes on one image differ: an attacker who tries repeatedly then breaks more than the mean says."""
    assert measured.best is not None
    assert measured.any_failure is not None
    shares = measured.best.share
    flip = math.fsum(min(share, 1 - share) for share in shares) / len(shares)
    figures = {
        "flip_rate": flip,
        "mean_accuracy": measured.best.accuracy,
        "any_failure_accuracy": 1 - measured.any_failure,
    }
    says = f"{as_percent(flip)} of the votes differ from the image's usual outcome"
    return Verdict("warn" if flip > LARGE else "pass", says, figures)
