"""Attacks with one fault each, devised after the thresholds were fixed, on a sound network.

Three more faults were tried and hardly weaken PGD here: images rounded down to 8 bits after each step, slopes in
float16 that underflow, and slopes that are lost at black and white pixels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from rushkit.attacks.norms import ascent, project
from rushkit.attacks.pgd import PGD
from rushkit.attacks.result import AttackResult
from rushkit.attacks.steps.falling import FallingSteps
from rushkit.auditing.selftest.weak import pgd_by, weak_case


class BackToTheImage(FallingSteps):
    """Steps that begin at the image again every second time."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step, from the image if its number is odd."""
        if self.step % 2:
            self.x_adv = self.x
        super().move(loss, gradient)


class OneSlopeForAll(FallingSteps):
    """The slope of the loss averaged over the batch: all images move alike."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step along the mean slope."""
        super().move(loss, gradient.mean(dim=0, keepdim=True).expand_as(gradient))


class OneChannel(FallingSteps):
    """Only the first channel moves."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step, and put the other channels back."""
        super().move(loss, gradient)
        self.x_adv = torch.cat([self.x_adv[:, :1], self.x[:, 1:]], dim=1)


class HalfFrozen(FallingSteps):
    """A mask that was to be drawn anew at each step freezes every second pixel for good."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step, and put the frozen pixels back."""
        super().move(loss, gradient)
        places = torch.arange(self.x.shape[2])[:, None] + torch.arange(self.x.shape[3])
        self.x_adv = torch.where((places % 2 == 0).to(self.x.device), self.x_adv, self.x)


class HalfBall(FallingSteps):
    """A diameter that was taken for the radius: the ball has half of it."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step, and return to the smaller ball."""
        super().move(loss, gradient)
        self.x_adv = project(self.x, self.x_adv, self.norm, self.eps / 2)


class AlternatingMomentum(FallingSteps):
    """Momentum with the wrong sign: what was accumulated counts against the new slope."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step along the new slope less what was accumulated."""
        before = self.accumulated if self.step else torch.zeros_like(gradient)
        unit = gradient / gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
        self.accumulated = unit - before
        self.x_adv = project(
            self.x, self.x_adv + ascent(self.accumulated, self.norm, self.length()), self.norm, self.eps
        )


class CubeInTheBall(FallingSteps):
    """In l2: every pixel is clipped to eps over the root of their number, the largest cube within the ball."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step, and return to the cube."""
        super().move(loss, gradient)
        self.x_adv = project(self.x, self.x_adv, "linf", self.eps / self.x[0].numel() ** 0.5)


class ShiftedLabels(PGD):
    """The loss of each image is computed with the label of the next."""

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack images; see ``PGD.run``."""
        return super().run(model, x, y.roll(-1), target)


_held_out = partial(weak_case, held_out=True)

CASES = (
    _held_out("back to the image every second step", pgd_by(BackToTheImage)),
    _held_out("one slope for all images", pgd_by(OneSlopeForAll)),
    _held_out("one channel of three", pgd_by(OneChannel)),
    _held_out("every second pixel frozen", pgd_by(HalfFrozen)),
    _held_out("half the ball", pgd_by(HalfBall)),
    _held_out("momentum with the wrong sign", pgd_by(AlternatingMomentum)),
    _held_out("labels shifted by one image", ShiftedLabels),
    _held_out("cube within the l2 ball", pgd_by(CubeInTheBall), "l2"),
)
