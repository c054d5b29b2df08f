"""Learning rate schedules, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rushkit.recipe.schema import Training


def rate_of_step(settings: Training, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate at a step (from 0); with ``per = "epoch"`` it is constant within each epoch."""
    schedule, peak = settings.schedule, settings.optimizer.lr
    unit = 1 if schedule.per == "step" else steps_per_epoch
    total, warmup = (epochs * steps_per_epoch // unit for epochs in (settings.epochs, schedule.warmup_epochs))
    step //= unit
    if schedule.name == "triangle":
        return triangle_schedule(step, total, peak)
    if schedule.name == "steps" and step >= warmup:
        return steps_schedule(step, total, peak, schedule.milestones, schedule.factor)
    end = min(schedule.min_lr, peak) if schedule.name == "cosine" else peak
    return learning_rate(step, total, peak, end, warmup, min(schedule.warmup_from, peak))


def learning_rate(step: int, steps: int, start: float, end: float, warmup: int = 0, first: float = 0.0) -> float:
    """Return the learning rate of a step: a linear warm-up to ``start``, then half a cosine down to ``end``.

    Example::

        rates = [learning_rate(step, 1000, start=0.5, end=0.001, warmup=100) for step in range(1000)]

    Args:
        step: Number of the step, from 0.
        steps: Total number of steps, including the warm-up.
        start: The highest rate.
        end: The rate of the last step; ``start`` gives a constant rate.
        warmup: Number of warm-up steps; 0 for none.
        first: The rate of step 0, from which the warm-up reaches ``start`` at step ``warmup``. With 0 all its rates lie
            a step further on the way: a step with a rate of 0 would be lost.
    """
    if step < warmup and first:
        return first + (start - first) * step / warmup
    if step < warmup:
        return start * (step + 1) / warmup
    return cosine_schedule(step - warmup, steps - warmup, start, end)


def cosine_schedule(step: int, steps: int, start: float, end: float) -> float:
    """Return half a cosine: ``start`` at step 0, ``end`` at step ``steps - 1``."""
    share = step / max(1, steps - 1)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def steps_schedule(step: int, steps: int, start: float, milestones: Sequence[float], factor: float) -> float:
    """Return ``start`` times ``factor`` for each milestone, a share of all steps, that has been reached.

    Example::

        rates = [steps_schedule(step, 200, start=0.1, milestones=[0.5, 0.75], factor=0.1) for step in range(200)]
    """
    return start * factor ** sum(step / steps >= milestone for milestone in milestones)


def triangle_schedule(step: int, steps: int, peak: float) -> float:
    """Return a rate that rises linearly from 0 to ``peak`` in the middle of all steps, and falls back to 0.

    It is taken at the middle of each step, so that none has a rate of 0, and the first has that of the last.
    """
    return peak * (1 - abs((2 * step + 1) / steps - 1))
