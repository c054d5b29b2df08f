"""The checks of the attack: whether it is as strong as it should be, and stronger than its rivals."""

from __future__ import annotations

import math

from rushkit.auditing.checks.verdict import LARGE, SEVERITY, Verdict, as_percent, change, monotone, rival, worse_by
from rushkit.auditing.measure import Measured
from rushkit.results.notes import Status

# Draws in a gradient below which their share says little of one image.
_FEW_DRAWS = 8
# An image on which a black box wins and a white box loses, each by most of its votes.
_LOST, _HELD = 0.2, 0.8
# The fewest images that an attack had and lost that fail it.
_SILENT = 2


def steps_not_converged(measured: Measured) -> Verdict:
    """Check that twice the steps break no more images."""
    before, after = measured.points["steps"][-2:]
    figures = {f"accuracy at {point.label}": point.accuracy for point in measured.points["steps"]}
    return Verdict(worse_by(after, before), change(before, after), figures)


def accuracy_rises_with_eps(measured: Measured) -> Verdict:
    """Check that accuracy does not rise with eps, since a larger ball contains the smaller one."""
    return monotone(measured.points["radii"], "eps")


def accuracy_rises_with_steps(measured: Measured) -> Verdict:
    """Check that accuracy does not rise with the number of steps."""
    return monotone(measured.points["steps"], "steps")


def single_step_stronger(measured: Measured) -> Verdict:
    """Check that many small steps break at least as many images as one large step."""
    return rival(measured.points["single"][0], measured.points["losses"][0])


def black_box_stronger(measured: Measured) -> Verdict:
    """Check that the white-box attacks break every image that Square breaks without gradients.

    Where the graph is cut there are none, and every image that Square breaks falls to Square alone.
    """
    white_box = measured.best or measured.unattacked
    (square,) = measured.points["black_box"]
    missed = sum(black <= _LOST and white >= _HELD for black, white in zip(square.share, white_box.share, strict=True))
    figures = {
        "square_accuracy": square.accuracy,
        "white_box_accuracy": white_box.accuracy,
        "only_square": float(missed),
    }
    many = max(2.0, LARGE * len(white_box.share))
    status: Status = "fail" if missed >= many else "warn" if missed else "pass"
    says = f"{missed} of {len(white_box.share)} images fall to Square alone, which leaves {as_percent(square.accuracy)}"
    return Verdict(status, says, figures)


def random_noise_stronger(measured: Measured) -> Verdict:
    """Check that random noise of the attack's size breaks fewer images than the attack: Square, if the graph is cut."""
    return rival(measured.points["noise"][0], measured.best or measured.points["black_box"][0])


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
    status: Status = "warn" if gap > 2 * LARGE else "pass"
    says = f"{best.label} leaves {as_percent(best.accuracy)}, nll {as_percent(base.accuracy)}"
    if best is base:
        says = f"no other loss leaves less than nll, {as_percent(base.accuracy)}"
    return Verdict(status, says, figures)


def out_of_ball(measured: Measured) -> Verdict:
    """Check that every image lies within eps of its clean image, up to rounding of its pixels, and within [0, 1]."""
    # results.json holds finite figures only.
    if math.isinf(measured.excess):
        return Verdict("fail", "an image that an attack returned has NaN or infinite pixels")
    if measured.excess > 0:
        says = f"the farthest image lies {measured.excess:.1g} outside, more than rounding explains"
        return Verdict("fail", says, {"excess": measured.excess})
    return Verdict("pass", "every image lies within its ball and within [0, 1]", {"excess": measured.excess})


def other_steps_stronger(measured: Measured) -> Verdict:
    """Check that the steps of APGD, on the same loss and with as many gradients, break no more images than PGD's."""
    return rival(measured.points["step_rule"][0], measured.points["steps"][-1])


def minimum_norm_stronger(measured: Measured) -> Verdict:
    """Check that an attack that minimises the distance breaks no more images than PGD on its strongest loss."""
    strongest = min(measured.points["losses"], key=lambda point: point.accuracy)
    verdicts = [rival(point, strongest) for point in measured.points["minimum_norm"]]
    worst = max(verdicts, key=lambda verdict: SEVERITY.index(verdict.status))
    figures = {name: figure for verdict in verdicts for name, figure in verdict.figures.items()}
    return Verdict(worst.status, worst.says, figures)


def silent_success(measured: Measured) -> Verdict:
    """Check that the base attack keeps what it finds: no image is wrong at an iterate and right at the last one.

    A random classifier has lost an image where at most a fifth of an iterate's draws give the label, and holds it where
    at least four fifths of the scoring draws do.
    """
    if not measured.least_right:
        return Verdict("skipped", "the attack does not report its iterates")
    if not measured.deterministic and measured.settings.eot < _FEW_DRAWS:
        return Verdict("skipped", f"too few draws: {measured.settings.eot} a gradient, and it takes {_FEW_DRAWS}")
    pairs = list(zip(measured.least_right, measured.last_right, strict=True))
    if len(pairs) < _SILENT:
        return Verdict("skipped", f"too few images: {len(pairs)}, of {_SILENT}")
    silent = sum(least <= _LOST and last >= _HELD for least, last in pairs)
    found, images = sum(least <= _LOST for least, _ in pairs), len(pairs)
    figures = {"silent": float(silent), "wrong_at_an_iterate": float(found), "images": float(images)}
    says = f"{silent} of {images} images were wrong at an iterate within the ball and are right at the last one"
    return Verdict("fail" if silent >= _SILENT and silent > LARGE * images else "pass", says, figures)
