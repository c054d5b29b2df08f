"""How far a robust accuracy would still fall with twice the passes, from the images that the last doubling broke."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit import statistics
from rushkit.recipe.schema import Rule
from rushkit.results.attacks import AttackOutcomes, AttackRound, Change


def convergence_of(outcomes: AttackOutcomes, rounds: Sequence[AttackRound]) -> dict[Rule, Change]:
    """Return rule -> the change of the accuracy that another doubling of the budget would bring.

    The next doubling is assumed to break as many images as the last one did. Doublings break fewer and fewer images, so
    the estimate errs to the side of a greater fall. The interval is the 95% Wilson interval of that share.

    Args:
        outcomes: The outcome of every image, with the climb that first broke it.
        rounds: The climbs of the cascade, each with the number of its round.

    Returns:
        The changes; empty with fewer than two doublings, and without rounds.
    """
    last = max((part.doubling for part in rounds), default=0)
    if last < 2:
        return {}
    late = {number for number, part in enumerate(rounds, start=1) if part.doubling == last}
    return {
        rule: _change(sum(number in late for number in numbers), len(numbers))
        for rule, numbers in outcomes.first_broken.items()
    }


def _change(broken: int, images: int) -> Change:
    low, high = statistics.wilson_interval(broken, images)
    # Without a fall, 0.0 - 0.0 is 0.0 and not -0.0.
    return Change(estimate=0.0 - broken / images, low=0.0 - float(high), high=0.0 - float(low))
