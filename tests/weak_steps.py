"""Step rules that are wrong on purpose, and the PGD that takes its steps by one of them."""

import math

import torch

from rushkit.attacks.norms import ascent, project
from rushkit.attacks.pgd import PGD
from rushkit.attacks.steps.falling import FallingSteps


def pgd_by(rule):
    """The class of PGD with another step rule."""
    return type(f"PGDBy{rule.__name__}", (PGD,), {"rule": rule})


class Plain(FallingSteps):
    """PGD's steps written out, in every norm within the ball; subclasses spoil one thing each."""

    def move(self, loss, gradient):
        self.x_adv = self.to_ball(self.x_adv + self.step_along(gradient))

    def to_ball(self, x_adv):
        return project(self.x, x_adv, self.norm, self.eps)

    def step_along(self, gradient):
        return ascent(gradient, self.norm, self.length())

    @property
    def inside(self):
        return True


class Tiny(Plain):
    """Steps of eps/1000."""

    def length(self):
        return self.eps / 1000


class Few(Plain):
    """A tenth of the steps, each of eps/20."""

    def move(self, loss, gradient):
        if self.step < self.steps / 10:
            super().move(loss, gradient)

    def length(self):
        return self.eps / 20


class OneStep(Plain):
    """A single step of length eps."""

    def move(self, loss, gradient):
        if self.step == 0:
            super().move(loss, gradient)

    def length(self):
        return self.eps


class StaleSlope(Plain):
    """The slope of the start, used for all steps."""

    def move(self, loss, gradient):
        if self.step == 0:
            self.first = gradient
        super().move(loss, self.first)


class Descending(Plain):
    """Steps down."""

    def step_along(self, gradient):
        return -super().step_along(gradient)


class OnlyUpward(Plain):
    """No pixel becomes darker."""

    def to_ball(self, x_adv):
        return super().to_ball(torch.maximum(x_adv, self.x))


class SmallBall(Plain):
    """eps taken for a number of 255."""

    def to_ball(self, x_adv):
        return project(self.x, x_adv, self.norm, self.eps / 255)


class SignsInL1(Plain):
    """An l1 step that is spread over all coordinates by sign."""

    def step_along(self, gradient):
        return self.length() * self.eps * gradient.sign() / gradient[0].numel()


class SpreadInL1(Plain):
    """An l1 step spread over 1 % of all coordinates whatever eps is: the coordinates of largest slope that the box lets
    move, each by at most the step's length shared out over 1 % of them. From eps/2 down to 0 along a cosine."""

    def step_along(self, gradient):
        slope, x_adv = gradient.flatten(1), self.x_adv.flatten(1)
        length = self.eps / 2 * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        room = torch.where(slope > 0, 1 - x_adv, x_adv).clamp(min=0)
        room = room.clamp(max=length / max(1, round(0.01 * slope.shape[1]))).masked_fill(slope == 0, 0)
        order = slope.abs().argsort(dim=1, descending=True, stable=True)
        ordered = room.gather(1, order)
        spent = torch.minimum(ordered, (length - (ordered.cumsum(dim=1) - ordered)).clamp(min=0))
        return (torch.zeros_like(slope).scatter(1, order, spent) * slope.sign()).view_as(gradient)
