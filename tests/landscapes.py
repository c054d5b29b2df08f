"""Landscapes with a known optimum: an attack that finds it is sound, one that does not is weak (see ``Landscape``)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# An attack is sound if it reaches this share of the possible rise.
SOUND = 0.95
SHAPE = (3, 16, 16)
RADII = {"linf": 0.1, "l2": 1.0, "l1": 15.0}


@dataclass
class Landscape:
    """A model of two classes whose logit difference rises from the image to a known optimum in ball and box.

    The label 0 loses exactly where the share of the possible rise is above ``SOUND``, so that an attack which stops at
    the first wrong answer, or looks for the nearest one, succeeds if and only if it is sound. The logits are small: no
    loss saturates.

    Attributes:
        model: (1, C, H, W) -> (1, 2) logits.
        x: (1, C, H, W) the image.
        y: (1,) its label.
        norm: The norm of the ball.
        eps: Its radius.
    """

    norm: str
    eps: float
    model: nn.Module
    x: Tensor
    y: Tensor

    def share(self, x_adv: Tensor) -> float:
        """Return the share of the possible rise that an image reaches."""
        with torch.no_grad():
            return float(self.model.share(x_adv))


class Hill(nn.Module):
    """Logits (−q, q) with q = 4 (share − SOUND), where the share is 0 at the image and 1 at the optimum."""

    def __init__(self, height, bottom, top):
        super().__init__()
        self.height, self.bottom, self.top = height, bottom, top

    def share(self, x):
        return (self.height(x.flatten(1)) - self.bottom) / (self.top - self.bottom)

    def forward(self, x):
        q = 4 * (self.share(x) - SOUND)
        return torch.stack([-q, q], dim=1)


def linear(norm, seed=0):
    """A linear function: in l1 its optimum changes few pixels, in the other norms all."""
    source = torch.Generator().manual_seed(seed)
    x = 0.2 + 0.6 * torch.rand(math.prod(SHAPE), generator=source)
    w = torch.randn(len(x), generator=source)
    eps = RADII[norm]
    room = torch.where(w > 0, 1 - x, x)
    if norm == "linf":
        best = torch.minimum(room, torch.tensor(eps)) * w.sign()
    elif norm == "l2":
        # No pixel moves by as much as 0.2, so that the box does not bind.
        best = eps * w / w.norm()
        assert best.abs().max() < 0.2
    else:
        order = w.abs().argsort(descending=True)
        before = room[order].cumsum(0) - room[order]
        spent = torch.minimum(room[order], (eps - before).clamp(min=0))
        best = torch.zeros_like(x).scatter(0, order, spent) * w.sign()
    return landscape(norm, lambda z: z @ w, x, x + best)


def curved(norm, seed=0):
    """−Σ dᵢ (xᵢ − tᵢ)², d from 1 to 31.6, with its peak t within the ball: in l1 150 of 768 pixels away, else all."""
    source = torch.Generator().manual_seed(seed)
    size = math.prod(SHAPE)
    x = 0.3 + 0.4 * torch.rand(size, generator=source)
    d = torch.logspace(0, 1.5, size)[torch.randperm(size, generator=source)]
    way = 0.5 + 0.5 * torch.rand(size, generator=source)
    way = way * (2 * torch.randint(2, (size,), generator=source) - 1)
    if norm == "l1":
        way = way * (torch.randperm(size, generator=source) < 150)
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    t = x + 0.95 * RADII[norm] * way / way.norm(order)
    return landscape(norm, lambda z: -(d * (z - t).square()).sum(1), x, t)


def landscape(norm, height, x, optimum):
    """The landscape of a height (n, D) -> (n,) over an image (D,), with its optimum (D,)."""
    assert optimum.min() >= 0
    assert optimum.max() <= 1
    hill = Hill(height, height(x[None]), height(optimum[None]))
    return Landscape(norm, RADII[norm], hill, x.view(1, *SHAPE), torch.zeros(1, dtype=torch.int64))


LANDSCAPES = {"linear": linear, "curved": curved}
