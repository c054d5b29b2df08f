"""Learning rate schedules, as pure functions."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, start: float, end: float, warmup: int = 0) -> float:
    """Return the learning rate of a step: a linear warm-up to ``start``, then half a cosine down to ``end``.

    Example::

        rates = [learning_rate(step, 1000, start=0.5, end=0.001, warmup=100) for step in range(1000)]

    Args:
        step: Number of the step, from 0.
        steps: Total number of steps, including the warm-up.
        start: The highest rate.
        end: The rate of the last step; ``start`` gives a constant rate.
        warmup: Number of warm-up steps; 0 for none.
    """
    if step < warmup:
        return start * (step + 1) / warmup
    return cosine_schedule(step - warmup, steps - warmup, start, end)


def cosine_schedule(step: int, steps: int, start: float, end: float) -> float:
    """Return half a cosine: ``start`` at step 0, ``end`` at step ``steps - 1``."""
    share = step / max(1, steps - 1)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
