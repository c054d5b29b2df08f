"""What a job costs, as a record. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a job costs.

    Attributes:
        passes: Passes of images; None where they are not known in advance, or the images are not here to be counted.
        seconds: About how long they take on this device; None without passes or a bench.
    """

    passes: int | None = None
    seconds: float | None = None


def total(costs: Sequence[Cost]) -> tuple[Cost, int]:
    """Return what jobs cost together, and how many of them are not in it since their cost is not known."""
    known = [cost for cost in costs if cost.passes is not None]
    seconds = [cost.seconds for cost in known]
    timed = [each for each in seconds if each is not None]
    together = Cost(sum(cost.passes or 0 for cost in known), sum(timed) if len(timed) == len(known) else None)
    return together, len(costs) - len(known)
