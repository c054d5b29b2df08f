"""The checklist of a trustworthy evaluation of robustness, with one function for each check.

The list follows Carlini et al. 2019, Athalye et al. 2018, Tramer et al. 2020, Pintor et al. 2022 and Lee and Kim 2023.
Codes are stable; ``docs/audit.md`` explains what each one means and what to do about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from rushkit import statistics
from rushkit.auditing.measure import Measured, Point
from rushkit.results.intervals import mean_interval
from rushkit.results.notes import Check, Status
from rushkit.rounding import percent

# Differences in accuracy that may be noise of a small sample, and those that count.
_NOTICEABLE, _LARGE = 0.03, 0.05
# How sure a difference between two attacks on the same images must be: to fail, by the exact McNemar test; to warn, in
# standard errors of the paired difference. Two runs of one attack differ so much one way in about one case of 40.
_ALPHA, _ERRORS = 0.05, 2.0
_SEVERITY: tuple[Status, ...] = ("pass", "warn", "fail")
# An image on which a black box wins and a white box loses, each by most of its votes.
_LOST, _HELD = 0.2, 0.8
# Losses that do not go through the softmax of one draw, and so keep their slope where a probability rounds to 1.
_UNSATURATED = ("dlr", "margin")
# A rise of the loss in nats that is more than the noise of its draws.
_RISE = 0.02


@dataclass(frozen=True)
class Verdict:
    """The verdict of one check.

    Attributes:
        status: Whether the check passes, warns or fails, or was skipped.
        says: One sentence that states the finding.
        figures: The numbers behind the verdict, by name.
    """

    status: Status
    says: str
    figures: dict[str, float] = field(default_factory=dict)


def eot_not_converged(measured: Measured) -> Verdict:
    """Check that twice the draws in each gradient break no more images."""
    before, after = measured.points["draws"][-2:]
    figures = {f"accuracy at {point.label}": point.accuracy for point in measured.points["draws"]}
    return Verdict(_worse_by(after, before), _change(before, after), figures)


def steps_not_converged(measured: Measured) -> Verdict:
    """Check that twice the steps break no more images."""
    before, after = measured.points["steps"][-2:]
    figures = {f"accuracy at {point.label}": point.accuracy for point in measured.points["steps"]}
    return Verdict(_worse_by(after, before), _change(before, after), figures)


def loss_still_rising(measured: Measured) -> Verdict:
    """Check that the attack's loss stops rising before its last 10 steps (Pintor et al. 2022, indicator 3)."""
    curve = measured.curve
    last = min(10, len(curve) // 2)
    if last < 2:
        return Verdict("warn", f"{len(curve)} steps are too few to tell whether the loss still rises")
    window = max(1, last // 3)
    # Means over a few steps: each value has the noise of its own draws.
    start = math.fsum(curve[:window]) / window
    before = math.fsum(curve[-last - window : -last] or curve[:window]) / window
    end = math.fsum(curve[-window:]) / window
    rise, late = end - start, end - before
    share = min(max(late / rise, 0.0), 1.0) if rise > 0 else 0.0
    figures = {"start_loss": start, "end_loss": end, "late_share": share}
    status: Status = "warn" if share > 0.2 and late > _RISE else "pass"
    return Verdict(status, f"{_percent(share)} of the rise of the loss falls into the last {last} steps", figures)


def gradient_zero(measured: Measured) -> Verdict:
    """Check for zero gradients, with which a gradient attack does nothing (Pintor et al. 2022, indicator 1)."""
    if measured.gradients is None:
        return Verdict("fail", "the output has no gradient with respect to the input")
    share = sum(measured.gradients.zero) / len(measured.gradients.zero)
    figures = {"images_without_gradient": share, "zero_entries": measured.gradients.zero_entries}
    status = _above(share, 0.0, 0.1)
    return Verdict(status, f"{_percent(share)} of the images have a gradient of −log p̄ that is exactly zero", figures)


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


def not_finite(measured: Measured) -> Verdict:
    """Check for NaN and infinite logits or gradients, which are failures of the model, not successes of an attack."""
    figures = {"not_finite": float(measured.not_finite)}
    if measured.not_finite:
        return Verdict("fail", f"{measured.not_finite} of {measured.images} images: {measured.problem}", figures)
    return Verdict("pass", "logits and gradients are finite", figures)


def saturated(measured: Measured) -> Verdict:
    """Check for saturation: if a draw's probability rounds to 1, its −log p has no gradient, and −log p̄ is flat."""
    assert measured.gradients is not None
    share = measured.gradients.saturated
    status = _above(share, 0.05, 0.5)
    says = f"{_percent(share)} of the draws give the label a probability of exactly 1"
    if status == "warn":
        # Where a loss that does not saturate finds no more, the gradients that are left suffice.
        base, *others = measured.points["losses"]
        steady = [point for point in others if point.label in _UNSATURATED]
        if steady and all(_worse_by(point, base) == "pass" for point in steady):
            status, says = "pass", f"{says}; losses that do not saturate find no more"
    return Verdict(status, says, {"saturated_draws": share})


def large_eps_survived(measured: Measured) -> Verdict:
    """Check that a ball in which every image can become grey leaves no more than the accuracy of a constant answer."""
    # Only images that were right are attacked: with a model that favours one class they are not 1/K of each class.
    point, chance = measured.points["radii"][-1], measured.commonest
    low, _ = mean_interval(math.fsum(point.share), len(point.share))
    figures = {"eps": point.value, "accuracy": point.accuracy, "chance": chance}
    status: Status = "fail" if low > chance else "warn" if point.accuracy > chance + _LARGE else "pass"
    return Verdict(
        status, f"at eps {point.value:.4g} accuracy is {_percent(point.accuracy)}, chance {_percent(chance)}", figures
    )


def accuracy_rises_with_eps(measured: Measured) -> Verdict:
    """Check that accuracy does not rise with eps, since a larger ball contains the smaller one."""
    return _monotone(measured.points["radii"], "eps")


def accuracy_rises_with_steps(measured: Measured) -> Verdict:
    """Check that accuracy does not rise with the number of steps."""
    return _monotone(measured.points["steps"], "steps")


def single_step_stronger(measured: Measured) -> Verdict:
    """Check that many small steps break at least as many images as one large step."""
    return _rival(measured.points["single"][0], measured.points["losses"][0])


def black_box_stronger(measured: Measured) -> Verdict:
    """Check that the white-box attacks break every image that Square breaks without gradients."""
    assert measured.best is not None
    (square,) = measured.points["black_box"]
    missed = sum(
        black <= _LOST and white >= _HELD for black, white in zip(square.share, measured.best.share, strict=True)
    )
    figures = {
        "square_accuracy": square.accuracy,
        "white_box_accuracy": measured.best.accuracy,
        "only_square": float(missed),
    }
    many = max(2.0, _LARGE * len(measured.best.share))
    status: Status = "fail" if missed >= many else "warn" if missed else "pass"
    return Verdict(status, f"{missed} of {len(measured.best.share)} images fall to Square alone", figures)


def random_noise_stronger(measured: Measured) -> Verdict:
    """Check that random noise of the attack's size breaks fewer images than the attack."""
    assert measured.best is not None
    return _rival(measured.points["noise"][0], measured.best)


def planted_example_missed(measured: Measured) -> Verdict:
    """Check that the attack finds planted adversarial examples (Zimmermann et al. 2022)."""
    if measured.planted is None:
        says = "the noise is too strong for this ball: no example could be planted and proved, so this says nothing"
        return Verdict("warn", says)
    share = sum(measured.planted) / len(measured.planted)
    status: Status = "pass" if all(measured.planted) else "warn" if share >= 0.75 else "fail"
    says = f"{sum(measured.planted)} of {len(measured.planted)} planted examples were found"
    return Verdict(status, says, {"planted": float(len(measured.planted)), "found": share})


def losses_disagree(measured: Measured) -> Verdict:
    """Check that no other loss breaks many more images than −log p̄, which may saturate or be at odds with votes."""
    figures = {f"accuracy under {point.label}": point.accuracy for point in measured.points["losses"]}
    base, best = measured.points["losses"][0], min(measured.points["losses"], key=lambda point: point.accuracy)
    gap = base.accuracy - best.accuracy
    status: Status = "warn" if gap > 2 * _LARGE else "pass"
    return Verdict(status, f"{best.label} leaves {_percent(best.accuracy)}, nll {_percent(base.accuracy)}", figures)


def fixed_noise_stronger(measured: Measured) -> Verdict:
    """Check that an attack on one fixed panel of noise does not beat one with fresh noise at every step."""
    return _rival(measured.points["fixed"][0], measured.points["losses"][0])


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
    says = f"{_percent(flip)} of the votes differ from the image's usual outcome"
    return Verdict("warn" if flip > _LARGE else "pass", says, figures)


def out_of_ball(measured: Measured) -> Verdict:
    """Check that every image lies within eps of its clean image, up to rounding of its pixels, and within [0, 1]."""
    # results.json holds finite figures only.
    if math.isinf(measured.excess):
        return Verdict("fail", "an image that an attack returned has NaN or infinite pixels")
    if measured.excess > 0:
        says = f"the farthest image lies {measured.excess:.1g} outside, more than rounding explains"
        return Verdict("fail", says, {"excess": measured.excess})
    return Verdict("pass", "every image lies within its ball and within [0, 1]", {"excess": measured.excess})


def too_few_images(measured: Measured) -> Verdict:
    """Check that there are enough images, since most checks cannot fail on few."""
    count = len(measured.attacked)
    figures = {"images": float(measured.images), "attacked": float(count)}
    if not count:
        return Verdict("fail", measured.problem or "no image is right before any attack", figures)
    figures["smallest_drop"] = drop = _smallest_drop(count)
    says = (
        f"{count} of {measured.images} images are right before any attack, and were attacked; between two attacks, a "
        f"drop below {_percent(drop)} can be chance"
    )
    return Verdict("warn" if count < 20 else "pass", says, figures)


def other_steps_stronger(measured: Measured) -> Verdict:
    """Check that the steps of APGD, on the same loss and with as many gradients, break no more images than PGD's."""
    return _rival(measured.points["step_rule"][0], measured.points["steps"][-1])


def minimum_norm_stronger(measured: Measured) -> Verdict:
    """Check that an attack that minimises the distance breaks no more images than PGD on its strongest loss."""
    strongest = min(measured.points["losses"], key=lambda point: point.accuracy)
    verdicts = [_rival(point, strongest) for point in measured.points["minimum_norm"]]
    worst = max(verdicts, key=lambda verdict: _SEVERITY.index(verdict.status))
    figures = {name: figure for verdict in verdicts for name, figure in verdict.figures.items()}
    return Verdict(worst.status, worst.says, figures)


Judge = Callable[[Measured], Verdict]

CHECKS: tuple[tuple[str, str, Judge], ...] = (
    ("RK101", "eot-not-converged", eot_not_converged),
    ("RK102", "steps-not-converged", steps_not_converged),
    ("RK103", "loss-still-rising", loss_still_rising),
    ("RK104", "gradient-zero", gradient_zero),
    ("RK105", "gradient-drowned", gradient_drowned),
    ("RK106", "not-finite", not_finite),
    ("RK107", "saturated", saturated),
    ("RK108", "large-eps-survived", large_eps_survived),
    ("RK109", "accuracy-rises-with-eps", accuracy_rises_with_eps),
    ("RK110", "accuracy-rises-with-steps", accuracy_rises_with_steps),
    ("RK111", "single-step-stronger", single_step_stronger),
    ("RK112", "black-box-stronger", black_box_stronger),
    ("RK113", "random-noise-stronger", random_noise_stronger),
    ("RK114", "planted-example-missed", planted_example_missed),
    ("RK115", "losses-disagree", losses_disagree),
    ("RK116", "fixed-noise-stronger", fixed_noise_stronger),
    ("RK117", "votes-flip", votes_flip),
    ("RK118", "out-of-ball", out_of_ball),
    ("RK119", "too-few-images", too_few_images),
    ("RK120", "other-steps-stronger", other_steps_stronger),
    ("RK121", "minimum-norm-stronger", minimum_norm_stronger),
)
# Checks that need nothing but the model before any attack.
_ALWAYS = ("RK106",)
# Checks of what the noise does.
_ABOUT_NOISE = ("RK101", "RK105", "RK116", "RK117")


def check_all(measured: Measured) -> list[Check]:
    """Run every check on the measurements; a check whose figures are missing is skipped, with the reason."""
    checks = []
    for code, name, judge in CHECKS:
        if measured.deterministic and code in _ABOUT_NOISE:
            verdict = Verdict("skipped", "there is no noise: every draw is the same")
        elif _can_judge(code, measured):
            verdict = judge(measured)
        else:
            verdict = Verdict("skipped", f"not measured: {measured.problem}")
        checks.append(Check(code=code, name=name, status=verdict.status, says=verdict.says, figures=verdict.figures))
    return checks


def _can_judge(code: str, measured: Measured) -> bool:
    """Return whether the figures that a check needs were measured."""
    if code == "RK119":
        return not measured.not_finite
    if code in _ALWAYS or measured.best is not None:
        return True
    # NaN pixels end the measuring: the model's answer to them is NaN as well.
    return (code == "RK104" and measured.no_gradient) or (code == "RK118" and math.isinf(measured.excess))


def _rival(weak: Point, strong: Point) -> Verdict:
    """Compare two attacks: the weaker one must not break more images."""
    figures = {f"accuracy under {weak.label}": weak.accuracy, f"accuracy under {strong.label}": strong.accuracy}
    says = f"{weak.label} leaves {_percent(weak.accuracy)}, {strong.label} {_percent(strong.accuracy)}"
    return Verdict(_worse_by(weak, strong), says + _tolerance(weak, strong), figures)


def _monotone(points: list[Point], what: str) -> Verdict:
    """Check that accuracy does not rise along a sweep."""
    statuses = {_worse_by(before, after) for before, after in pairwise(points)}
    worst: Status = "fail" if "fail" in statuses else "warn" if "warn" in statuses else "pass"
    accuracies = ", ".join(_percent(point.accuracy) for point in points)
    figures = {f"accuracy at {point.label}": point.accuracy for point in points}
    return Verdict(worst, f"along {what} accuracy goes {accuracies}", figures)


def _worse_by(lower: Point, higher: Point) -> Status:
    """Compare the accuracy of two points on the same images, by size and significance of the difference."""
    drop = higher.accuracy - lower.accuracy
    lost = sum(before and not after for before, after in zip(higher.right, lower.right, strict=True))
    won = sum(after and not before for before, after in zip(higher.right, lower.right, strict=True))
    if drop > _LARGE and lost > won and float(statistics.mcnemar(lost, won)) < _ALPHA:
        return "fail"
    return "warn" if drop > _noticed_from(lower, higher) else "pass"


def _noticed_from(lower: Point, higher: Point) -> float:
    """Return the smallest drop in accuracy on these images that chance does not explain."""
    return max(_NOTICEABLE, _ERRORS * _paired_error(lower, higher))


def _paired_error(lower: Point, higher: Point) -> float:
    """Return the standard error of the mean paired difference of the shares; infinite for a single image."""
    differences = [before - after for before, after in zip(higher.share, lower.share, strict=True)]
    count = len(differences)
    if count < 2:
        return math.inf
    mean = math.fsum(differences) / count
    return math.sqrt(math.fsum((difference - mean) ** 2 for difference in differences) / (count - 1) / count)


def _smallest_drop(images: int) -> float:
    """Return the smallest drop that warns: whole images fall, none rises; a share p with p > 2·√(p(1 − p)/(n − 1))."""
    fallen = min(math.floor(_ERRORS**2 * images / (images - 1 + _ERRORS**2)) + 1, images)
    return max(fallen / images, _NOTICEABLE)


def _above(share: float, warn: float, fail: float) -> Status:
    return "fail" if share > fail else "warn" if share > warn else "pass"


def _change(before: Point, after: Point) -> str:
    return (
        f"from {before.label} to {after.label} accuracy goes from {_percent(before.accuracy)} to "
        f"{_percent(after.accuracy)}{_tolerance(after, before)}"
    )


def _tolerance(lower: Point, higher: Point) -> str:
    """Return a phrase for a drop that passes: the number of images, and the drop that would have caused a warning."""
    images, drop = len(lower.share), higher.accuracy - lower.accuracy
    if not 0 < drop <= min(_noticed_from(lower, higher), 1.0):
        return ""
    # A larger drop of whole images has a larger error: the error that was seen would promise too much.
    least = min(max(_noticed_from(lower, higher), _smallest_drop(images)), 1.0)
    return f"; on {images} images a drop below {_percent(least)} can be chance"


def _percent(share: float) -> str:
    return f"{percent(share)} %"
