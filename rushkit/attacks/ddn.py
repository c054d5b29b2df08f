"""DDN as an attack in training (Rony et al. 2019): the shortest misclassified perturbation, within a ball in l2."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rushkit.attacks.ascend import Ball, attacking
from rushkit.attacks.norms import ascent, length

# By what share the length changes in a step.
_GAMMA = 0.05
# The last rate of the steps along the gradient; the first is 1.
_LAST_RATE = 0.01
# Grey levels above black, to which points are rounded.
_LEVELS = 255


def ddn(network: nn.Module, log_prob: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """Return the nearest misclassified points that a search finds, shortened to the ball, detached (algorithm 1).

    Where it finds none, the point is x itself, and so it is where x is misclassified: such images train clean.
    Direction and length are decoupled: δ takes a step along the gradient, and is then given a length that shrinks by
    γ = 5 % where the point before was misclassified and grows by as much elsewhere. All points have 256 grey levels,
    but for those that are shortened.

    Example::

        ball = Ball("l2", 127 / 256, 0.1, steps=10)
        x_adv = ddn(network, lambda z: network(z).log_softmax(1), x, y, ball)

    Args:
        network: Its mode is ``ball.bn``'s inside, and its parameters get no gradient; it is left as it was.
        log_prob: Maps points (N, C, H, W) to the log-probabilities (N, K) of a prediction.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        ball: Its radius and the number of points that are looked at; its norm is l2, and its step size is not used.

    Returns:
        (N, C, H, W) within ``ball.eps`` of x in l2 and in [0, 1].
    """
    x = x.detach()
    if not ball.eps:
        return x
    delta = nearest = torch.zeros_like(x)
    size = torch.full_like(x[:, :1, :1, :1], min(ball.eps, 1.0))
    farthest = _length(torch.maximum(x, 1 - x))
    shortest = farthest
    with attacking(network, ball, x.device), torch.enable_grad():
        for step in range(ball.steps):
            point = (x + delta).requires_grad_()
            predicted = log_prob(point)
            (gradient,) = torch.autograd.grad(-predicted.gather(1, y[:, None]).sum(), point)
            wrong = (predicted.argmax(dim=1) != y).view(-1, 1, 1, 1)
            nearer = wrong & (_length(delta) < shortest)
            nearest = torch.where(nearer, delta, nearest)
            shortest = torch.where(nearer, _length(delta), shortest)
            delta = delta + ascent(gradient, "l2", _rate(step, ball.steps))
            size = torch.minimum(size * torch.where(wrong, 1 - _GAMMA, 1 + _GAMMA), farthest)
            moved = x + delta * (size / _length(delta).clamp(min=1e-12))
            delta = ((moved * _LEVELS).round() / _LEVELS).clamp(0, 1) - x
    shortened = nearest * (ball.eps / _length(nearest).clamp(min=1e-12)).clamp(max=1)
    return (x + shortened).clamp(0, 1)


def _length(delta: Tensor) -> Tensor:
    """Return the l2 lengths (N, 1, 1, 1) of (N, C, H, W)."""
    return length(delta, "l2").view(-1, 1, 1, 1)


def _rate(step: int, steps: int) -> float:
    """Return half a cosine from 1 down towards the last rate."""
    return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2
