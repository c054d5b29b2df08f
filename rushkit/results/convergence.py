"""How far a robust accuracy would still fall with twice the passes, by how far the last doubling brought it down."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rushkit.recipe.schema import Rule
from rushkit.results.attacks import AttackOutcomes
from rushkit.results.intervals import mean_interval
from rushkit.results.rounds import Change


def convergence_of(outcomes: AttackOutcomes) -> dict[Rule, Change]:
    """Return rule -> by how much the last doubling of the passes changed the accuracy: the estimate for the next one.

    The change is the mean over the images of ``last_fall``, the fall in the probability of a right vote, whether or not
    the vote has turned. It comes from the draws on which versions were selected, which are few and shared by the
    images, so it may err to either side. That the next doubling brings no more than the last one did is an assumption.
    The interval is the 95% Wilson interval of a mean of shares: it covers the choice of images, and neither of these.

    Args:
        outcomes: The outcome of every image.

    Returns:
        The changes; empty for an attack with fewer than two doublings.
    """
    return {rule: _change(falls) for rule, falls in outcomes.last_fall.items()}


def _change(falls: Sequence[float]) -> Change:
    total = math.fsum(falls)
    low, high = mean_interval(total, len(falls))
    # Without a fall, 0.0 - 0.0 is 0.0 and not -0.0.
    return Change(estimate=0.0 - total / len(falls), low=0.0 - high, high=0.0 - low)
