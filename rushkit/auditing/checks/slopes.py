"""The checks of the slopes that attacks follow."""

from __future__ import annotations

import math

from rushkit.auditing.checks.verdict import Verdict, above, as_percent, worse_by
from rushkit.auditing.measure import Measured
from rushkit.results.notes import Status

# Losses that do not go through the softmax of one draw, and so keep their slope where a probability rounds to 1.
_UNSATURATED = ("dlr", "margin")
# A rise of the loss in nats that is more than the noise of its draws.
_RISE = 0.02
# The least rank correlation of true slopes with changes; pairs behind it, and those that one constant side needs.
_TRUE, _PAIRS, _PAIRS_OF_ONE = 0.8, 64, 16
# The largest share of a large step's change that a step of a thousandth of it makes, and the images behind it.
_CONTINUOUS, _FEW = 0.05, 4


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
    return Verdict(status, f"{as_percent(share)} of the rise of the loss falls into the last {last} steps", figures)


def gradient_zero(measured: Measured) -> Verdict:
    """Check for zero gradients, with which a gradient attack does nothing (Pintor et al. 2022, indicator 1).

    It does nothing with those that are NaN or infinite either, which are counted beside them.
    """
    if measured.gradients is None:
        return Verdict("fail", "the output has no gradient with respect to the input")
    zero, not_finite = measured.gradients.zero, measured.gradients.not_finite
    share, broken = sum(zero) / len(zero), sum(not_finite) / len(zero)
    figures = {"images_without_gradient": share, "zero_entries": measured.gradients.zero_entries}
    says = f"{as_percent(share)} of the images have a gradient of −log p̄ that is exactly zero"
    if broken:
        figures["images_with_gradient_not_finite"] = broken
        says += f", and {as_percent(broken)} one that is NaN or infinite"
    return Verdict(above(share + broken, 0.0, 0.1), says, figures)


def saturated(measured: Measured) -> Verdict:
    """Check for saturation: if a draw's probability rounds to 1, its −log p has no gradient, and −log p̄ is flat.

    It matters where a loss that does not saturate finds more.
    """
    assert measured.gradients is not None
    share = measured.gradients.saturated
    status = above(share, 0.05, 0.5)
    says = f"{as_percent(share)} of the draws give the label a probability of exactly 1"
    if status != "pass":
        # Where a loss that does not saturate finds no more, the gradients that are left suffice.
        base, *others = measured.points["losses"]
        steady = [point for point in others if point.label in _UNSATURATED]
        if steady and all(worse_by(point, base) == "pass" for point in steady):
            status, says = "pass", f"{says}; losses that do not saturate find no more"
    return Verdict(status, says, {"saturated_draws": share})


def slope_is_false(measured: Measured) -> Verdict:
    """Check that the margin changes as its slopes say, at a distance that an attack steps."""
    assert measured.probes is not None
    slopes = measured.probes.slopes
    figures = {"pairs": float(slopes.pairs), "moving_pairs": float(slopes.moving)}
    if slopes.pairs < _PAIRS:
        return Verdict(
            "skipped", f"too few: {slopes.pairs} pairs of an image and a direction, and it takes {_PAIRS}", figures
        )
    if not slopes.moving:
        return Verdict("skipped", "neither the margin nor its slope moves by more than rounding explains", figures)
    if slopes.moving < (_PAIRS_OF_ONE if slopes.correlation is None else _PAIRS):
        return Verdict(
            "skipped", f"too few: the margin or its slope moves in {slopes.moving} of {slopes.pairs} pairs", figures
        )
    if slopes.cut:
        return Verdict("fail", "the graph is cut (RK104): no slope reaches the input, and the margin moves", figures)
    if slopes.correlation is None:
        says = (
            "every slope is zero, and the margin moves"
            if slopes.zero_slopes
            else "the slopes are not zero, and the margin does not move"
        )
        return Verdict("fail", says, figures)
    figures["rank_correlation"] = slopes.correlation
    says = f"the slopes of the margin and its changes have a rank correlation of {slopes.correlation:.3f}"
    return Verdict("fail" if slopes.correlation < _TRUE else "pass", says, figures)


def not_continuous(measured: Measured) -> Verdict:
    """Check that a step of 1e-5 in every pixel changes next to nothing of what one of 1e-2 changes."""
    assert measured.probes is not None
    jumps = measured.probes.jumps
    if jumps is None:
        return Verdict("skipped", "the model is random by itself (RK123): its answers jump without any step")
    figures = {"jump_ratio": jumps.ratio, "images": float(jumps.images)}
    if measured.images < _FEW:
        return Verdict("skipped", f"too few images: {measured.images}, and it takes {_FEW}", figures)
    says = f"a step of 1e-5 changes the logits {jumps.ratio:.2g} times as much as one of 1e-2"
    return Verdict("fail" if jumps.ratio > _CONTINUOUS else "pass", says, figures)
