"""The steps of Auto-PGD (Croce and Hein 2020, Algorithm 1): momentum, and a step size halved where the loss stalls."""

from __future__ import annotations

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.attacks.norms import ascent, project
from rushkit.attacks.steps.climb import Climb, per_image

# The paper's α, the weight of the new direction, and ρ, the fraction of improving steps that keeps a step size.
_ALPHA, _RHO = 0.75, 0.75
# The first interval between checkpoints, how much the intervals shrink, and the shortest, as fractions of the steps.
_FIRST_INTERVAL, _SHRINK, _SHORTEST = 0.22, 0.03, 0.06


class AutoSteps(Climb):
    """Algorithm 1 of the paper, in l-inf and l2; see ``Climb`` for the arguments.

    The names are the paper's: η is the step size, f the loss, x_max the point of largest loss.
    """

    rows = (
        *Climb.rows,
        "x_before",
        "x_max",
        "gradient_max",
        "f_before",
        "f_max_checked",
        "eta",
        "rises",
        "halved",
    )

    def __init__(self, x: Tensor, start: Tensor, norm: Norm, eps: float, steps: int) -> None:
        super().__init__(x, start, norm, eps, steps)
        self.x_before, self.x_max, self.gradient_max = start, start, torch.zeros_like(x)
        self.f_before, self.f_max_checked = self.largest, self.largest
        self.eta = torch.full((len(x), 1, 1, 1), 2 * eps, dtype=x.dtype, device=x.device)
        self.rises = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.halved = torch.ones(len(x), dtype=torch.bool, device=x.device)
        self._intervals = checkpoints(steps)

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Update the point of largest loss, reconsider the step size at a checkpoint, and take a step with momentum."""
        # Lines 9 to 11: the largest loss so far.
        self.x_max = torch.where(per_image(self.improved), self.x_adv, self.x_max)
        self.gradient_max = torch.where(per_image(self.improved), gradient, self.gradient_max)
        if self.step == 0:
            self.f_max_checked = loss
        else:
            self.rises = self.rises + (loss > self.f_before)
        self.f_before = loss
        x_k = self.x_adv
        if self.step - 1 in self._intervals:
            x_k, gradient = self._checked(x_k, gradient, self._intervals[self.step - 1])
        # Lines 1, 7 and 8: a step, and from the second step on momentum.
        z = project(self.x, x_k + ascent(gradient, self.norm, self.eta), self.norm, self.eps)
        if self.step > 0:
            z = project(self.x, x_k + _ALPHA * (z - x_k) + (1 - _ALPHA) * (x_k - self.x_before), self.norm, self.eps)
        self.x_before, self.x_adv = x_k, z

    def _checked(self, x_k: Tensor, gradient: Tensor, interval: int) -> tuple[Tensor, Tensor]:
        """Return the point to go on from, with its gradient (lines 12 to 15).

        If the loss rose too seldom, or has no new maximum at the same step size since the last checkpoint, the step
        size is halved and the image goes back to its best point.
        """
        stalled = ~self.halved & (self.f_max_checked >= self.largest)
        self.halved = (self.rises <= _RHO * interval) | stalled
        self.eta = torch.where(per_image(self.halved), self.eta / 2, self.eta)
        self.f_max_checked, self.rises = self.largest, torch.zeros_like(self.rises)
        back = per_image(self.halved)
        return torch.where(back, self.x_max, x_k), torch.where(back, self.gradient_max, gradient)


def checkpoints(steps: int) -> dict[int, int]:
    """Return the steps after which the step size is reconsidered, each with the number of steps since the last one.

    The paper's w_j: the first interval is 22 % of the steps, each later one 3 % shorter, down to 6 %.
    """
    intervals: dict[int, int] = {}
    step, interval = 0, max(int(_FIRST_INTERVAL * steps), 1)
    while step + interval <= steps:
        step += interval
        intervals[step - 1] = interval
        interval = max(interval - max(int(_SHRINK * steps), 1), max(int(_SHORTEST * steps), 1))
    return intervals
