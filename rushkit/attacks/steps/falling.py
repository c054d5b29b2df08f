"""Steps whose length is fixed or falls along a cosine, as PGD takes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.attacks.norms import ascent, project
from rushkit.attacks.steps.climb import Climb

# The first step of the falling schedule as a fraction of eps; 40 steps then cross the ball ten times over. In l1 it is
# the move of one coordinate before the projection, which the box limits to 1.
_FIRST_STEP = {"linf": 0.5, "l2": 0.5, "l1": 1.0}
# In l1 a climb begins in a ball of this radius, in units of eps, which shrinks to eps over this fraction of the steps.
_WIDEST, _WIDE = 3.0, 0.6


class FallingSteps(Climb):
    """Steps along the gradient, each projected onto ball and box (Madry et al. 2018); see ``Climb`` for its arguments.

    In l1, whose ball leaves few directions open at its surface, falling steps begin in a ball of 3 eps that shrinks to
    eps, after the larger radii of Croce and Hein 2021 ("Mind the box", section 4). Steps of a fixed size stay in the
    ball of eps.

    Args:
        step_size: Length of every step as ``norms.ascent`` measures it, pixel units; None: from eps/2 (in l1 from the
            smaller of eps and 1) down to 0 along a cosine.
        momentum: The decay μ of the accumulated gradient, g ← μg + ∇/‖∇‖₁ (Dong et al. 2018, eq. 6); 0: none.
    """

    rows = (*Climb.rows, "accumulated")

    def __init__(
        self,
        x: Tensor,
        start: Tensor,
        norm: Norm,
        eps: float,
        steps: int,
        step_size: float | None = None,
        momentum: float = 0.0,
    ) -> None:
        super().__init__(x, start, norm, eps, steps)
        self.step_size, self.momentum = step_size, momentum
        self.accumulated = torch.zeros_like(x) if momentum else x.new_zeros(len(x))

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step along the gradient, or along the accumulated gradient if there is momentum."""
        if self.momentum:
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
            scaled = gradient / torch.where(size > 0, size, torch.ones_like(size))
            self.accumulated = gradient = self.momentum * self.accumulated + scaled
        move = ascent(gradient, self.norm, self.length())
        self.x_adv = project(self.x, self.x_adv + move, self.norm, self.radius(self.step))

    @property
    def inside(self) -> bool:
        """Whether ``x_adv`` lies in the ball of radius eps."""
        return self.step == 0 or self.radius(self.step - 1) == self.eps

    def radius(self, step: int) -> float:
        """Return the radius of the ball that this step ends in, pixel units."""
        shrinking = int(_WIDE * self.steps) if self.norm == "l1" and self.step_size is None else 0
        return self.eps if step + 1 >= shrinking else self.eps * (_WIDEST - (_WIDEST - 1) * (step + 1) / shrinking)

    def length(self) -> float:
        """Return the length of the next step in pixel units."""
        if self.step_size is not None:
            return self.step_size
        reach = min(self.eps, 1.0) if self.norm == "l1" else self.eps
        return _FIRST_STEP[self.norm] * reach * (1 + math.cos(math.pi * self.step / self.steps)) / 2
