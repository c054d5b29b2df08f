"""The inner maximisation of adversarial training: a few steps that raise any loss, within a ball."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.norms import ascent, project
from rushkit.models.modes import frozen, in_eval_mode, untracked

Start = Literal["uniform", "gaussian", "clean"]
BatchNormMode = Literal["eval", "batch", "train"]
StepRule = Literal["sign", "adam"]
Precision = Literal["auto", "float32"]

# Standard deviation of a gaussian start, pixel units (TRADES).
_GAUSSIAN = 0.001
# Finer steps vanish in bfloat16, whose spacing below 1 is 2^-8.
_FINEST = 1 / 255


class Draws(Protocol):
    """What draws the starts of an ascent: a batch of training."""

    def uniform(self, x: Tensor) -> Tensor:
        """Draw U(−1, 1) like x."""
        ...

    def normal(self, x: Tensor) -> Tensor:
        """Draw N(0, 1) like x."""
        ...


@dataclass(frozen=True)
class Ball:
    """Where and how an ascent climbs.

    Attributes:
        norm: Norm of the ball.
        eps: Radius, pixel units.
        step_size: Length of a step, pixel units: of each pixel in l-inf, of the whole in l2, of the pixel of largest
            slope in l1; the learning rate of Adam, a tenth of it in the second half.
        steps: Number of steps.
        start: ``uniform`` in the ball, ``gaussian`` with standard deviation 0.001, or the ``clean`` image.
        bn: ``eval``: the network in eval mode; ``batch``: statistics of the batch, running ones untouched; ``train``:
            they move.
        rule: Steps along the ``sign`` of the gradient (its direction in l2), or ``adam``.
        precision: ``auto``: that of the training, but float32 for steps below 1/255; or ``float32``.
    """

    norm: Norm
    eps: float
    step_size: float
    steps: int
    start: Start = "uniform"
    bn: BatchNormMode = "eval"
    rule: StepRule = "sign"
    precision: Precision = "auto"


def ascend(network: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor, ball: Ball, batch: Draws) -> Tensor:
    """Return the last point of a climb of a loss within ball and box (Madry et al. 2018), detached.

    Example::

        ball = Ball("linf", 8 / 255, 2 / 255, steps=10)
        x_adv = ascend(network, lambda z: F.cross_entropy(network(z), y, reduction="sum"), x, ball, batch)

    Args:
        network: Its mode is ``ball.bn``'s inside, and its parameters get no gradient; it is left as it was.
        loss: Maps points (N, C, H, W) to the sum of what each image is to raise, a scalar.
        x: (N, C, H, W) images in [0, 1].
        ball: The ball, the steps and the start.
        batch: Draws the start.

    Returns:
        (N, C, H, W) within ``ball.eps`` of x and in [0, 1].
    """
    if not ball.eps:
        return x.detach()
    x = x.detach()
    point = _start(x, ball, batch)
    with attacking(network, ball, x.device), torch.enable_grad():
        if ball.rule == "adam":
            return _by_adam(loss, x, point, ball)
        for _ in range(ball.steps):
            step = ascent(_gradient(loss, point), ball.norm, ball.step_size)
            point = project(x, point + step, ball.norm, ball.eps)
    return point


@contextmanager
def attacking(network: nn.Module, ball: Ball, device: torch.device) -> Iterator[None]:
    """Put the network into the mode of an ascent in this block, in the precision that its steps need.

    What the loss of an ascent compares with, such as the outputs for clean images, is computed here as well.
    """
    with ExitStack() as stack:
        if ball.bn != "train":
            stack.enter_context(in_eval_mode(network) if ball.bn == "eval" else untracked(network))
        stack.enter_context(frozen(network))
        if ball.precision == "float32" or ball.step_size < _FINEST:
            stack.enter_context(torch.autocast(device.type, enabled=False))
        yield


def _gradient(loss: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    point = point.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point), point)
    return gradient


def _by_adam(loss: Callable[[Tensor], Tensor], x: Tensor, point: Tensor, ball: Ball) -> Tensor:
    """Climb by Adam's steps (Rebuffi et al. 2021), each projected."""
    point = point.clone().requires_grad_()
    optimizer = torch.optim.Adam([point], lr=ball.step_size, maximize=True)
    for step in range(ball.steps):
        optimizer.param_groups[0]["lr"] = ball.step_size * (1.0 if step < math.ceil(ball.steps / 2) else 0.1)
        point.grad = _gradient(loss, point)
        optimizer.step()
        point.data = project(x, point.data, ball.norm, ball.eps)
    return point.detach()


def _start(x: Tensor, ball: Ball, batch: Draws) -> Tensor:
    if ball.start == "clean":
        return x
    if ball.start == "gaussian":
        return project(x, x + _GAUSSIAN * batch.normal(x), ball.norm, ball.eps)
    if ball.norm == "linf":
        return project(x, x + ball.eps * batch.uniform(x), ball.norm, ball.eps)
    # Direction and length are uniform, as in attacks.norms.random_start.
    ray = batch.normal(x)
    if ball.norm == "l1":
        ray = -torch.log1p(-batch.uniform(x).abs()) * ray.sign()
    length = ray.flatten(1).norm(p=2 if ball.norm == "l2" else 1, dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    reach = ball.eps * batch.uniform(x[:, :1, :1, :1]).abs()
    return project(x, x + reach * ray / length, ball.norm, ball.eps)
