"""The steps of Auto-PGD in l1 (Croce and Hein 2021, "Mind the box", section 4): as sparse as the best point is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.attacks.norms import project
from rushkit.attacks.steps.climb import Climb, per_image

# The radii that a climb goes through, in units of eps, and the fraction of the steps that it spends on the larger ones.
_RADII, _FRACTION = (3.0, 2.0, 1.0), 0.3
# The sparsity is checked again after this fraction of a radius's steps.
_CHECKED = 0.04
# A step changes 1/1.5 of the coordinates that the best point changes, at first a fifth of all.
_FEWER, _FIRST = 1.5, 0.2
# The step size is divided by 1.5, down to eps/10, once the number of coordinates falls by less than 5 %.
_CUT, _SHORTEST, _FALLING = 1.5, 0.1, 0.95


@dataclass(frozen=True)
class Ball:
    """A ball of this radius, in pixel units, and the steps in it: from ``begin`` to before ``end``."""

    radius: float
    begin: int
    end: int


class SparseSteps(Climb):
    """l1-APGD of the paper: steps of length η spread evenly over the k coordinates of largest gradient.

    The climb begins in a ball of radius 3 eps and goes on, each time from its best point, in balls of 2 eps and eps.
    See ``Climb`` for the other arguments.

    Args:
        noisy: Whether the losses are those of draws that change from step to step. The largest of them is then a matter
            of luck, so the latest point counts as the best one.
    """

    first_radius = _RADII[0]
    rows = (*Climb.rows, "x_max", "gradient_max", "changed", "k", "eta")

    def __init__(self, x: Tensor, start: Tensor, norm: Norm, eps: float, steps: int, noisy: bool = False) -> None:
        self.noisy = noisy
        larger = int(_FRACTION * steps)
        ends = (larger, 2 * larger, steps)
        begins = (0, *ends[:-1])
        self._balls = [Ball(radius * eps, *ball) for radius, *ball in zip(_RADII, begins, ends, strict=True)]
        first = next(ball for ball in self._balls if ball.end)
        super().__init__(x, project(x, start, norm, first.radius), norm, eps, steps)
        self.x_max, self.gradient_max = self.x_adv, torch.zeros_like(x)
        everything = x.new_full((len(x),), x[0].numel())
        self.changed, self.k = everything, _FIRST * everything
        self.eta = x.new_full((len(x),), first.radius)

    @property
    def ball(self) -> Ball:
        """The ball that ``x_adv`` lies in."""
        return next(ball for ball in self._balls if self.step < ball.end or ball.end == self.steps)

    @property
    def inside(self) -> bool:
        """Whether ``x_adv`` lies in the ball of radius eps."""
        return self.step >= self._balls[-1].begin

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Update the best point, check its sparsity every few steps, and take a sparse step or enter the next ball."""
        better = per_image(self.improved | self.noisy)
        self.x_max = torch.where(better, self.x_adv, self.x_max)
        self.gradient_max = torch.where(better, gradient, self.gradient_max)
        ball, x_k = self.ball, self.x_adv
        if self.step + 1 == ball.end < self.steps:
            self._shrink(self._balls[self._balls.index(ball) + 1].radius)
            return
        done = self.step - ball.begin
        if done and done % max(int(_CHECKED * (ball.end - ball.begin)), 1) == 0:
            x_k, gradient = self._checked(x_k, gradient)
        move = spread_evenly(x_k, gradient, self.k) * per_image(self.eta)
        self.x_adv = project(self.x, x_k + move, self.norm, ball.radius)

    def _shrink(self, radius: float) -> None:
        """Go on in the next ball, from the best point of this one."""
        self.x_adv = self.x_max = project(self.x, self.x_max, self.norm, radius)
        self.largest = torch.full_like(self.largest, -torch.inf)
        self.changed = self._sparsity()
        self.k, self.eta = self.changed / _FEWER, torch.full_like(self.eta, radius)

    def _checked(self, x_k: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the point to go on from, with its gradient: the best one where it became sparser."""
        changed = self._sparsity()
        sparser = changed < _FALLING * self.changed
        radius = self.ball.radius
        cut = (self.eta / _CUT).clamp(min=_SHORTEST * radius)
        self.eta = torch.where(sparser, torch.full_like(cut, radius), cut)
        self.changed, self.k = changed, changed / _FEWER
        back = per_image(sparser)
        return torch.where(back, self.x_max, x_k), torch.where(back, self.gradient_max, gradient)

    def _sparsity(self) -> Tensor:
        """Return (n,) in how many coordinates the best point differs from x; the last number where it does not."""
        changed = (self.x_max != self.x).flatten(1).sum(dim=1).to(self.changed.dtype)
        return torch.where(changed > 0, changed, self.changed)


def spread_evenly(x_adv: Tensor, gradient: Tensor, k: Tensor) -> Tensor:
    """Return the step of l1 length 1 that is spread evenly over each image's k coordinates of largest gradient.

    Coordinates that the box keeps from moving are skipped. The paper includes them; where k is small, a climb then
    stands still on a coordinate that has reached its bound.

    Args:
        x_adv: (n, C, H, W) where the gradient was taken.
        gradient: (n, C, H, W).
        k: (n,) numbers of coordinates; at least one is taken.
    """
    slope = gradient.flatten(1)
    bound = (slope > 0).to(slope.dtype)
    size = slope.abs() * (x_adv.flatten(1) != bound)
    last = k.long().clamp(1, slope.shape[1]) - 1
    smallest = size.sort(dim=1, descending=True).values.gather(1, last[:, None])
    sign = slope.sign() * ((size >= smallest) & (size > 0))
    return (sign / sign.abs().sum(dim=1, keepdim=True).clamp(min=1)).view_as(gradient)
