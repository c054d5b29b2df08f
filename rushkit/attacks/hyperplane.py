"""The shortest way from a point of the box to a hyperplane, in l-inf, l2 and l1."""

from __future__ import annotations

import torch
from torch import Tensor

from rushkit.attacks import Norm


def shortest_move(z: Tensor, w: Tensor, change: Tensor, norm: Norm) -> Tensor:
    """Return the smallest d for which w·d = change and z + d lies in [0, 1].

    Croce and Hein 2020, "Minimally distorted adversarial examples", section 3 and appendix A. Pixels whose weight is 0
    stay. Where the box does not reach the hyperplane, d leads to the corner that comes nearest to it.

    Every pixel can only go one way, |d_i| at most to its bound. In l1 the pixels of largest weight go first, each to
    its bound. In l2 and l-inf |d_i| is min(λ|w_i|, bound) and min(λ, bound), and the λ that reaches the change is found
    among the sorted values at which a pixel meets its bound: between these w·d is linear in λ.

    Args:
        z: (N, C, H, W) points in [0, 1].
        w: (N, C, H, W) the hyperplane's normal.
        change: (N,) by how much w·z is to change.
        norm: The norm in which d is smallest.

    Returns:
        (N, C, H, W) the moves. A row whose normal or change is not finite is 0.
    """
    usable = torch.isfinite(w).flatten(1).all(dim=1) & torch.isfinite(change)
    w = torch.where(usable.view(-1, 1, 1, 1), w, torch.zeros_like(w))
    change = torch.where(usable, change, torch.zeros_like(change))
    # Sums over 150000 pixels lose too much in float32, and MPS has no float64.
    kind = z.dtype if z.device.type == "mps" else torch.float64
    slope, start, wanted = w.flatten(1).to(kind), z.flatten(1).to(kind), change.abs().to(kind)[:, None]
    way = slope.sign() * change.sign().to(kind)[:, None]
    weight = slope.abs()
    bound = torch.where(way > 0, 1 - start, start).clamp(min=0) * (weight > 0)
    size = _greedy(weight, bound, wanted) if norm == "l1" else _common_rate(weight, bound, wanted, norm)
    return (way * size).to(z.dtype).view_as(z)


def _greedy(weight: Tensor, bound: Tensor, wanted: Tensor) -> Tensor:
    """Return (N, d) how far each pixel goes if those of largest weight go first."""
    order = weight.argsort(dim=1, descending=True, stable=True)
    weights, bounds = weight.gather(1, order), bound.gather(1, order)
    gain = weights * bounds
    left = (wanted - (gain.cumsum(dim=1) - gain)).clamp(min=0)
    spent = torch.where(left >= gain, bounds, left / weights.clamp(min=torch.finfo(weights.dtype).tiny))
    return torch.zeros_like(weight).scatter(1, order, torch.minimum(spent, bounds))


def _common_rate(weight: Tensor, bound: Tensor, wanted: Tensor, norm: Norm) -> Tensor:
    """Return (N, d) how far each pixel goes if all go at a common rate λ, in l2 times their weight, to their bounds."""
    rate = weight if norm == "l2" else (weight > 0).to(weight.dtype)
    tiny = torch.finfo(weight.dtype).tiny
    meets, order = torch.where(rate > 0, bound / rate.clamp(min=tiny), torch.zeros_like(rate)).sort(dim=1)
    gain, speed = ((weight * each).gather(1, order) for each in (bound, rate))
    stopped = gain.cumsum(dim=1) - gain
    moving = speed.flip(1).cumsum(dim=1).flip(1)
    reached = stopped + meets * moving
    place = (reached < wanted).sum(dim=1, keepdim=True).clamp(max=weight.shape[1] - 1)
    pace = (wanted - stopped.gather(1, place)).clamp(min=0) / moving.gather(1, place).clamp(min=tiny)
    corner = gain.sum(dim=1, keepdim=True) <= wanted
    return torch.where(corner, bound, torch.minimum(pace * rate, bound))
