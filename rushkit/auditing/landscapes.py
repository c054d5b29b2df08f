"""Landscapes with a known optimum: an attack that finds it is sound, one that does not is weak (see ``Landscape``).

They need no model: whatever an attack misses here is the fault of the attack. One of them is linear, the other curved.
In l1 the first has a sparse optimum and the second a dense one, and a step rule may be made for one of the two alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.norms import project
from rushkit.auditing.planted import MakesAttack
from rushkit.noises.none import NoNoise
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed, generator

Kind = Literal["linear", "curved"]
# An attack is sound if it reaches this share of the possible rise.
SOUND = 0.95
# The shape of the images, how many there are, and the radius of their ball in each norm, pixel units.
SHAPE, ROWS = (3, 16, 16), 8
RADII: dict[Norm, float] = {"linf": 0.1, "l2": 1.0, "l1": 15.0}
# The fewest steps: PGD's 20 reach at least .98 of the rise on every image, in every norm.
STEPS = 20
# Pixels of largest slope, which start in the middle: in l1 30 of them go all the way, and no two images differ in that.
_STEEPEST = 60
# The curved landscape: the largest curvature (the smallest is 1), how much of the ball the way to its peak takes at
# most, and the pixels that differ from those of the peak in l1.
_CURVATURE, _WITHIN, _DENSE = 10**1.5, 0.95, 150
# The scale of the logits, which are so small that no loss saturates.
_GAIN = 4.0


class Linear(nn.Module):
    """The height w·x.

    Args:
        w: (D,) the slope.
    """

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.register_buffer("w", w)

    def forward(self, x: Tensor) -> Tensor:
        """Return the heights (N,) of points (N, D)."""
        return x @ self.get_buffer("w")


class Peak(nn.Module):
    """The height −Σ dᵢ (xᵢ − tᵢ)².

    Args:
        d: (D,) curvatures, all above 0.
        t: (D,) the peak.
    """

    def __init__(self, d: Tensor, t: Tensor) -> None:
        super().__init__()
        self.register_buffer("d", d)
        self.register_buffer("t", t)

    def forward(self, x: Tensor) -> Tensor:
        """Return the heights (N,) of points (N, D)."""
        return -(self.get_buffer("d") * (x - self.get_buffer("t")).square()).sum(dim=1)


class Hill(nn.Module):
    """Logits (−q, q) with q = 4 (share − 0.95), where the share is 0 at the images and 1 at their optima.

    Args:
        height: (N, D) -> (N,).
        bottom: The height of the images.
        top: The height of their optima.
    """

    def __init__(self, height: nn.Module, bottom: float, top: float) -> None:
        super().__init__()
        self.height, self._bottom, self._top = height, bottom, top

    def share(self, x: Tensor) -> Tensor:
        """Return the share (N,) of the possible rise at images (N, C, H, W)."""
        height: Tensor = self.height(x.flatten(1))
        return (height - self._bottom) / (self._top - self._bottom)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 2) logits."""
        q = _GAIN * (self.share(x) - SOUND)
        return torch.stack([-q, q], dim=1)


@dataclass(frozen=True)
class Landscape:
    """A model of two classes whose logit difference rises from each image to a known optimum in ball and box.

    The label 0 loses exactly where the share of the possible rise is above 0.95, so that an attack which stops at the
    first wrong answer, or looks for the nearest one, succeeds if and only if it is sound.

    Attributes:
        norm: The norm of the ball.
        eps: Its radius, pixel units.
        model: (N, C, H, W) -> (N, 2) logits.
        x: (N, C, H, W) the images.
        y: (N,) their labels, all 0.
        optimum: (N, C, H, W) the best point for each image.
    """

    norm: Norm
    eps: float
    model: Hill
    x: Tensor
    y: Tensor
    optimum: Tensor

    @torch.no_grad()
    def share(self, x_adv: Tensor) -> Tensor:
        """Return the share (N,) of the possible rise that attacked images (N, C, H, W) reach."""
        return self.model.share(x_adv)


def linear(norm: Norm, seed: int = 0, rows: int = ROWS) -> Landscape:
    """Return a linear landscape: in l1 its optimum changes 30 pixels, in the other norms all of them.

    Args:
        norm: The norm of the ball.
        seed: Seeds the slope and the images.
        rows: N, the number of images.
    """
    source = generator(seed, "linear landscape")
    w = torch.randn(math.prod(SHAPE), generator=source)
    x = 0.2 + 0.6 * torch.rand(rows, len(w), generator=source)
    order = w.abs().argsort(descending=True)
    x[:, order[:_STEEPEST]] = 0.5
    # The other pixels move a little, so that all images are equally high.
    free = w.clone()
    free[order[:_STEEPEST]] = 0
    height = (x - 0.5) @ w
    x = x - (height / free.square().sum())[:, None] * free
    eps = RADII[norm]
    room = torch.where(w > 0, 1 - x, x)
    if norm == "linf":
        best = room.clamp(max=eps) * w.sign()
    elif norm == "l2":
        # No pixel moves by as much as 0.2, so that the box does not bind.
        best = (eps * w / w.norm()).expand_as(x)
    else:
        ordered = room[:, order]
        before = ordered.cumsum(dim=1) - ordered
        spent = torch.minimum(ordered, (eps - before).clamp(min=0))
        best = torch.zeros_like(x).scatter(1, order.expand_as(x), spent) * w.sign()
    return _landscape(norm, Linear(w), x, x + best)


def curved(norm: Norm, seed: int = 0, rows: int = ROWS) -> Landscape:
    """Return −Σ dᵢ (xᵢ − tᵢ)², d from 1 to 31.6, with its peak t within the balls of all images.

    In l1 the peak is 150 of the 768 pixels away from an image, in the other norms all of them.

    Args:
        norm: The norm of the ball.
        seed: Seeds the curvatures, the peak and the images.
        rows: N, the number of images.
    """
    source = generator(seed, "curved landscape")
    size = math.prod(SHAPE)
    t = 0.3 + 0.4 * torch.rand(size, generator=source)
    d = torch.logspace(0, math.log10(_CURVATURE), size)[torch.randperm(size, generator=source)]
    way = 0.5 + 0.5 * torch.rand(rows, size, generator=source)
    way = way * (2 * torch.randint(2, (rows, size), generator=source) - 1)
    if norm == "l1":
        chosen = torch.rand(rows, size, generator=source).argsort(dim=1)
        way = way * (chosen < _DENSE)
    way = way / way.norm(p={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1, keepdim=True)
    # The steeper a way, the shorter it is, so that all images are equally low.
    drop = (d * way.square()).sum(dim=1, keepdim=True)
    x = t - _WITHIN * RADII[norm] * (drop.min() / drop).sqrt() * way
    return _landscape(norm, Peak(d, t), x, t.expand_as(x))


def _landscape(norm: Norm, height: nn.Module, x: Tensor, optimum: Tensor) -> Landscape:
    """Return the landscape of a height over images (N, D) with their optima (N, D)."""
    hill = Hill(height, float(height(x).mean()), float(height(optimum).mean())).eval()
    images, best = x.view(-1, *SHAPE), optimum.reshape(-1, *SHAPE)
    return Landscape(norm, RADII[norm], hill, images, torch.zeros(len(x), dtype=torch.int64), best)


LANDSCAPES: dict[Kind, Callable[..., Landscape]] = {"linear": linear, "curved": curved}


def shares_reached(
    attack_of: MakesAttack, norm: Norm, steps: int, seed: int, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Return the least share of the possible rise that an attack reaches on the images of each landscape.

    Args:
        attack_of: Makes the attack, with the options of PGD.
        norm: The norm of the ball.
        steps: Steps of the attack; fewer than 20 are raised to 20.
        seed: Seeds the landscapes and the attack.
        device: The device on which it attacks.
    """
    shares: dict[str, float] = {}
    for kind, make in LANDSCAPES.items():
        place = make(norm, derived_seed(seed, f"audit {kind} landscape"))
        attack = attack_of(
            norm, place.eps, steps=max(STEPS, steps), samples=1, best="last", selection_samples=1,
            seed=derived_seed(seed, f"audit climb of the {kind} landscape"),
        )  # fmt: skip
        x, y = place.x.to(device), place.y.to(device)
        model = SmoothedClassifier(place.model.to(device), NoNoise(), 1, seed=0)
        x_adv = attack.run(model, x, y).x_adv
        # An attack may leave the ball, or return NaN pixels; RK118 says so.
        finite = torch.where(torch.isfinite(x_adv), x_adv, x)
        shares[kind] = float(place.share(project(x, finite, norm, place.eps)).min())
    return shares
