"""Attacks that are weak on purpose, each by one fault that an implementation of PGD may have.

They attack a sound network, so that whatever an audit says against them is said against the attack.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.norms import ascent, project
from rushkit.attacks.pgd import PGD
from rushkit.attacks.result import AttackResult
from rushkit.attacks.steps.falling import FallingSteps
from rushkit.auditing.planted import MakesAttack
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import WEAKNESS
from rushkit.auditing.selftest.ground import Ground

# The balls in which the attacks are audited, pixel units.
RADII: dict[Norm, float] = {"linf": 0.15, "l2": 1.5, "l1": 15.0}


class Plain(FallingSteps):
    """PGD's steps written out, in every norm within the ball; the rules below spoil one thing each."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step along the gradient, and return to the ball."""
        self.x_adv = self.to_ball(self.x_adv + self.step_along(gradient))

    def to_ball(self, x_adv: Tensor) -> Tensor:
        """Return the points (n, C, H, W) projected onto ball and box."""
        return project(self.x, x_adv, self.norm, self.eps)

    def step_along(self, gradient: Tensor) -> Tensor:
        """Return the step (n, C, H, W) that a gradient asks for."""
        return ascent(gradient, self.norm, self.length())

    @property
    def inside(self) -> bool:
        """Whether ``x_adv`` lies in the ball: always."""
        return True


class Tiny(Plain):
    """Steps of eps/1000."""

    def length(self) -> float:
        """Return the length of the next step in pixel units."""
        return self.eps / 1000


class Few(Plain):
    """A tenth of the steps, each of eps/20."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step if it is one of the first tenth."""
        if self.step < self.steps / 10:
            super().move(loss, gradient)

    def length(self) -> float:
        """Return the length of the next step in pixel units."""
        return self.eps / 20


class StaleSlope(Plain):
    """The slope of the start, used for all steps."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step along the first gradient."""
        if self.step == 0:
            self.first = gradient
        super().move(loss, self.first)


class Descending(Plain):
    """Steps down."""

    def step_along(self, gradient: Tensor) -> Tensor:
        """Return the step against the gradient."""
        return -super().step_along(gradient)


class OnlyUpward(Plain):
    """No pixel becomes darker."""

    def to_ball(self, x_adv: Tensor) -> Tensor:
        """Return the points projected onto the upper part of ball and box."""
        return super().to_ball(torch.maximum(x_adv, self.x))


class SmallBall(Plain):
    """An eps that is taken for a number of 255."""

    def to_ball(self, x_adv: Tensor) -> Tensor:
        """Return the points projected onto a ball of eps/255."""
        return project(self.x, x_adv, self.norm, self.eps / 255)


class Overshooting(Plain):
    """Steps of 2 eps from the first to the last: weak on a curved landscape, and hardly on a network in l-inf."""

    def length(self) -> float:
        """Return the length of the next step in pixel units."""
        return 2 * self.eps


class SignsInL1(Plain):
    """An l1 step that is spread over all coordinates by sign."""

    def step_along(self, gradient: Tensor) -> Tensor:
        """Return a step whose l1 length is that of the schedule, in units of eps."""
        return self.length() * self.eps * gradient.sign() / gradient[0].numel()


class SpreadInL1(Plain):
    """An l1 step that is spread over 1 % of all coordinates whatever eps is, as rushkit's own once was.

    They are those of largest slope that the box lets move, each by at most the step's length shared out over 1 % of all
    coordinates. The length falls from eps/2 to 0 along a cosine.
    """

    def step_along(self, gradient: Tensor) -> Tensor:
        """Return the step (n, C, H, W)."""
        slope, x_adv = gradient.flatten(1), self.x_adv.flatten(1)
        length = self.eps / 2 * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        room = torch.where(slope > 0, 1 - x_adv, x_adv).clamp(min=0)
        room = room.clamp(max=length / max(1, round(0.01 * slope.shape[1]))).masked_fill(slope == 0, 0)
        order = slope.abs().argsort(dim=1, descending=True, stable=True)
        ordered = room.gather(1, order)
        spent = torch.minimum(ordered, (length - (ordered.cumsum(dim=1) - ordered)).clamp(min=0))
        return (torch.zeros_like(slope).scatter(1, order, spent) * slope.sign()).view_as(gradient)


def pgd_by(rule: type[FallingSteps]) -> type[PGD]:
    """Return the class of PGD that takes its steps by another rule."""
    return type(f"PGDBy{rule.__name__}", (PGD,), {"rule": rule})


class OneStep(PGD):
    """A single step of length eps from the image."""

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack images; see ``PGD.run``."""
        single = {"steps": 1, "step_size": self.eps, "random_start": False}
        return PGD(**_options(self) | single).run(model, x, y, target)


class NextClass(PGD):
    """PGD that keeps an image only where the model answers with the class that follows the label."""

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack images; see ``PGD.run``."""
        result = super().run(model, x, y, target)
        with torch.no_grad():
            logits = model(result.x_adv)
        reached = logits.argmax(dim=1) == (y + 1) % logits.shape[1]
        return replace(result, x_adv=torch.where(reached.view(-1, 1, 1, 1), result.x_adv, x))


class SmallerNorm(PGD):
    """PGD in the l2 ball of the radius that an l-inf ball was to have."""

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack images; see ``PGD.run``."""
        return PGD(**_options(self) | {"norm": "l2"}).run(model, x, y, target)


class Transfer(PGD):
    """PGD on another network than the one under attack.

    Attributes:
        other: (N, C, H, W) -> (N, K) logits, the network that it climbs; a subclass sets it.
    """

    other: nn.Module

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack images; see ``PGD.run``."""
        return super().run(self.other, x, y, target)


def _options(attack: PGD) -> dict[str, Any]:
    return {option.name: getattr(attack, option.name) for option in fields(attack)}


def _planted(attack: MakesAttack, ground: Ground) -> Planted:
    """Return the PGD-trained network under an attack."""
    return Planted(ground.robust, attack=attack)


def _transferred(ground: Ground) -> Planted:
    """Return the PGD-trained network under an attack on the base network."""
    return Planted(ground.robust, attack=type("FromTheBase", (Transfer,), {"other": ground.base}))


def weak_case(name: str, attack: MakesAttack, norm: Norm = "linf", held_out: bool = False) -> Case:
    """Return the case of a weak attack on the PGD-trained network; the arguments are those of ``Case``."""
    return Case(name, "weak", norm, RADII[norm], partial(_planted, attack), WEAKNESS, held_out=held_out)


CASES: tuple[Case, ...] = (
    weak_case("step eps/1000", pgd_by(Tiny)),
    weak_case("one step of eps", OneStep),
    weak_case("success only if label + 1 is reached", NextClass),
    weak_case("slope of the start used for all steps", pgd_by(StaleSlope)),
    weak_case("steps / 10, step eps/20", pgd_by(Few)),
    weak_case("descends", pgd_by(Descending)),
    weak_case("only upward", pgd_by(OnlyUpward)),
    weak_case("eps / 255", pgd_by(SmallBall)),
    Case("slope of another net", "weak", "linf", RADII["linf"], _transferred, WEAKNESS),
    weak_case("l2 ball of the same number", SmallerNorm),
    weak_case("l1 step over all coordinates by sign", pgd_by(SignsInL1), "l1"),
    weak_case("l1 step over 1 % of the coordinates", pgd_by(SpreadInL1), "l1"),
    # It overshoots on a curved landscape and loses nothing here: an audit may warn, and must not fail.
    Case("step 2 eps each time", "sound", "linf", RADII["linf"], partial(_planted, pgd_by(Overshooting))),
)
