"""The geometry of attacks: projection onto ball and box, steps along a gradient and random starts in l-inf, l2 and l1.

All functions work on δ = x' − x for a batch of images (N, C, H, W); the box requires x + δ to lie in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rushkit.attacks import Norm

# The active sets in l2 stabilise within a few rounds; the remaining error is far below float32 precision.
_L2_ROUNDS = 12
_L2_TOLERANCE = 1e-6
_L1_HALVINGS = 40
_MARGIN = 1e-12


def length(delta: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each δ: (N, C, H, W) -> (N,)."""
    flat = delta.flatten(1)
    if norm == "linf":
        return flat.abs().amax(dim=1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().sum(dim=1)


def project(x: Tensor, x_adv: Tensor, norm: Norm, eps: float) -> Tensor:
    """Return the point of {x': ‖x' − x‖ ≤ eps} ∩ [0, 1] nearest to x_adv in l2; exact for all three norms.

    Args:
        x: (N, C, H, W) clean images in [0, 1].
        x_adv: (N, C, H, W) finite, anywhere.
        norm: The norm of the ball.
        eps: The radius of the ball, pixel units.
    """
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, (x - eps).clamp(min=0)), (x + eps).clamp(max=1))
    delta = x_adv - x
    clip = _l2_in_box if norm == "l2" else _l1_in_box
    return (x + clip(delta.flatten(1), -x.flatten(1), 1 - x.flatten(1), eps).view_as(x)).clamp(0, 1)


def _l2_in_box(delta: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    """Return min(max(tδ, low), high) with the t in [0, 1] for which its length is eps: the optimal projection.

    Clipped coordinates leave room for the others, so t grows from eps/‖δ‖ until the set of clipped ones is stable.
    """
    square = delta.square()
    scale = (eps / delta.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    for _ in range(_L2_ROUNDS):
        scaled = delta * scale
        clipped = scaled.clamp(low, high)
        free = clipped == scaled
        # Products with the mask: filling by it takes two to three times as long on a CPU.
        left = eps**2 - (clipped.square() * ~free).sum(dim=1, keepdim=True)
        spread = (square * free).sum(dim=1, keepdim=True)
        grown = (left.clamp(min=0) / spread.clamp(min=1e-30)).sqrt().clamp(max=1)
        # Each image by itself: its projection does not depend on when the others are done.
        growing = grown > scale * (1 + _L2_TOLERANCE)
        if not growing.any():
            break
        scale = torch.where(growing, grown, scale)
    inside: Tensor = (delta * scale).clamp(low, high)
    return inside


def _l1_in_box(delta: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    """Soft-threshold and clip δ; bisection from above finds the threshold that leaves length eps."""
    size = torch.minimum(delta.abs(), torch.where(delta > 0, high, -low))
    below = torch.zeros_like(delta[:, :1])
    above = torch.where(size.sum(dim=1, keepdim=True) <= eps, below, delta.abs().amax(dim=1, keepdim=True))
    room = torch.where(delta > 0, high, -low)
    for _ in range(_L1_HALVINGS):
        middle = (below + above) / 2
        fits = torch.minimum((delta.abs() - middle).clamp(min=0), room).sum(dim=1, keepdim=True) <= eps
        above, below = torch.where(fits, middle, above), torch.where(fits, below, middle)
    return torch.minimum((delta.abs() - above).clamp(min=0), room) * delta.sign()


def settle(x: Tensor, x_adv: Tensor, norm: Norm, eps: float) -> Tensor:
    """Return x_adv moved into ball and box exactly, to the last bit, ready to be returned by an attack.

    The sum x + δ is rounded to x's precision, in either direction. Every pixel that rounding took too far from x is
    moved to the neighbouring float towards x, so that the distance, computed in float64, is at most eps.
    """
    if x.device.type == "mps":
        # MPS has no float64.
        return settle(x.cpu(), x_adv.cpu(), norm, eps).to(x.device)
    x_adv = project(x, x_adv, norm, eps)
    delta = x_adv.double() - x.double()
    if norm == "linf":
        delta = delta.clamp(-eps, eps)
    else:
        # The rounding error of the distance in float64 is far below this fraction of it.
        scale = (eps * (1 - _MARGIN) / length(delta, norm).clamp(min=1e-30)).clamp(max=1)
        delta = delta * scale.view(-1, 1, 1, 1)
    settled = (x.double() + delta).to(x.dtype)
    further = (settled.double() - x.double()).abs() > delta.abs()
    return torch.where(further, torch.nextafter(settled, x), settled)


def rounding(norm: Norm, dim: int) -> float:
    """Return by how much rounding all ``dim`` float32 pixels in [0, 1] to a neighbour can lengthen a perturbation.

    Neighbours lie 2⁻²⁴ apart at most: 2⁻²⁴ in l-inf, √dim·2⁻²⁴ in l2, dim·2⁻²⁴ in l1.
    """
    return 2.0**-24 * {"linf": 1.0, "l2": math.sqrt(dim), "l1": float(dim)}[norm]


def ascent(gradient: Tensor, norm: Norm, size: Tensor | float) -> Tensor:
    """Return the step of an attack along the gradient, to be projected onto ball and box.

    l-inf: the sign, times ``size``. l2: the gradient, scaled to the length ``size``. l1: the gradient, scaled so that
    its largest coordinate is ``size``. The projection onto the l1 ball then keeps the largest coordinates, as many as
    the slopes ask for: a long step ends at the best point of the linear approximation within ball and box, which moves
    few coordinates, and short ones converge where many move, as projected gradients do in l2. A zero gradient gives a
    zero step.

    Args:
        gradient: (N, C, H, W) of the loss to be raised.
        norm: The norm of the ball.
        size: A number or (N, 1, 1, 1), pixel units.
    """
    if norm == "linf":
        return size * gradient.sign()
    # Scaled first: squares of small gradients underflow.
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    scaled = gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
    if norm == "l2":
        scaled = scaled / scaled.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return size * scaled


def random_start(x: Tensor, norm: Norm, eps: float, source: torch.Generator, shared: bool = False) -> Tensor:
    """Return random points (N, C, H, W) in the ball around x, projected onto the box.

    In l-inf they are uniform. In l2 and l1 direction and length are uniform, as in other libraries: nearly all of a
    ball's volume lies at its rim, which is a poor place to start.

    Args:
        x: (N, C, H, W) images.
        norm: The norm of the ball.
        eps: The radius of the ball, pixel units.
        source: Makes the random numbers.
        shared: Whether all images move alike, so that the start of an image does not depend on the others.
    """
    shape = (1 if shared else len(x), x[0].numel())
    uniform = torch.rand(shape, generator=source, device=x.device, dtype=x.dtype)
    if norm == "linf":
        delta = (2 * uniform - 1) * eps
    else:
        normal = torch.randn(shape, generator=source, device=x.device, dtype=x.dtype)
        # Normalised signed exponentials are uniform on the l1 sphere, as normalised normals are on the l2 sphere.
        ray = normal if norm == "l2" else -torch.log1p(-uniform) * normal.sign()
        radius = torch.rand(shape[0], 1, generator=source, device=x.device, dtype=x.dtype)
        delta = eps * radius * ray / ray.norm(p=2 if norm == "l2" else 1, dim=1, keepdim=True).clamp(min=1e-12)
    return project(x, x + delta.view(-1, *x.shape[1:]), norm, eps)


def rim_start(x: Tensor, norm: Norm, eps: float, source: torch.Generator) -> Tensor:
    """Return points (N, C, H, W) at the rim of the ball around x, clipped to the box, as official APGD starts.

    In l-inf and l2 they lie in a random direction at distance eps, in l1 at the projection of x plus normal noise. All
    images move alike, so that the start of an image does not depend on the others.
    """
    shape = (1, *x.shape[1:])
    if norm == "linf":
        ray = 2 * torch.rand(shape, generator=source, device=x.device, dtype=x.dtype) - 1
    else:
        ray = torch.randn(shape, generator=source, device=x.device, dtype=x.dtype)
    if norm == "l1":
        return project(x, x + ray, norm, eps)
    return (x + eps * ray / length(ray, norm).clamp(min=1e-12).view(-1, 1, 1, 1)).clamp(0, 1)
