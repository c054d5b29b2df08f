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
    """Check for zero gradients, with which a gradient attack does nothing (Pintor et al. 2022, indicator 1)."""
    if measured.gradients is None:
        return Verdict("fail", "the output has no gradient with respect to the input")
    share = sum(measured.gradients.zero) / len(measured.gradients.zero)
    figures = {"images_without_gradient": share, "zero_entries": measured.gradients.zero_entries}
    status = above(share, 0.0, 0.1)
    return Verdict(status, f"{as_percent(share)} of the images have a gradient of −log p̄ that is exactly zero", figures)


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
