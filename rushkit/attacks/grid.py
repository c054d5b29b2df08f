"""Images of 8-bit pixels: the nearest ones to adversarial images that stay within the ball."""

from __future__ import annotations

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.errors import UsageError

# Grey levels above black.
LEVELS = 255
# How far a pixel may be from a grey level by the rounding of float32, in levels.
_ROUNDING = 1e-3
# By what share of a level a radius may fall short of a whole number of them: 8/255 * 255 is not 8.
_SLACK = 1e-6


def on_grid(x: Tensor, x_adv: Tensor, norm: Norm, eps: float) -> Tensor:
    """Return adversarial images with every pixel at k/255, within the ball.

    Pixels are rounded to the nearest level. In l-inf they stay within the whole levels of the radius. In l2 and l1,
    pixels that rounding moved away from the image go back a level, those that it moved furthest first, until the image
    lies within the ball; if all went back, no pixel would be further away than before.

    Args:
        x: (N, C, H, W) clean images, every pixel at k/255.
        x_adv: (N, C, H, W) images in [0, 1], within eps of x.
        norm: The norm of the ball.
        eps: The radius of the ball, pixel units.

    Raises:
        UsageError: clean images that have other pixels.
    """
    clean, exact = x.double() * LEVELS, x_adv.double() * LEVELS
    start = clean.round()
    if float((clean - start).abs().amax()) > _ROUNDING:
        raise UsageError("the images do not have 8-bit pixels", "round them first: (x * 255).round() / 255")
    move = exact.round() - start
    if norm == "linf":
        reach = int(eps * LEVELS + _SLACK)
        move = move.clamp(-reach, reach)
    else:
        move = _within(move.flatten(1), (exact - start).flatten(1), 2 if norm == "l2" else 1, eps).view_as(x)
    # Divided in the images' own precision, as decoded pixels are.
    return (start + move).clamp(0, LEVELS).to(x.dtype) / LEVELS


def _within(move: Tensor, exact: Tensor, power: int, eps: float) -> Tensor:
    """Return whole moves (N, D), in levels, taken back where rounding lengthened them until they fit the ball."""
    excess = move.abs() - exact.abs()
    away = excess > 0
    over = move.abs().pow(power).sum(dim=1, keepdim=True) - (eps * LEVELS) ** power * (1 + _SLACK)
    order = excess.masked_fill(~away, -torch.inf).argsort(dim=1, descending=True, stable=True)
    gain = (move.abs().pow(power) - (move.abs() - 1).pow(power)).masked_fill(~away, 0.0).gather(1, order)
    back = (gain.cumsum(dim=1) - gain < over) & (gain > 0)
    return move - move.sign() * torch.zeros_like(move).scatter(1, order, back.to(move.dtype))
