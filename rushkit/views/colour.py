"""ColorJitter and grayscale on a whole batch, every image with its own factors and its own order."""

from __future__ import annotations

import torch
from torch import Tensor

from rushkit.views.parameters import CONTRAST, HUE, SATURATION, ViewParameters

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale; they add up to 0.9999


def jitter(colours: Tensor, parameters: ViewParameters, applied: Tensor) -> Tensor:
    """Apply the four colour operations, in each image's own order, to (N, 3, pixels) in [0, 1] where `applied` (N,).

    Brightness, contrast and saturation are blends, and one pass can do a different one to each image. The hue is
    turned once, for the whole batch: passes before it do what an image's order puts before, passes after it the
    rest, and a pass that has nothing to do for an image leaves it as it is. So orders are independent draws,
    torchvision's distribution exactly, and shapes are static; equal shares of the 24 orders are not needed.
    """
    order = parameters.order
    factors = torch.stack((parameters.brightness, parameters.contrast, parameters.saturation, parameters.hue), 1)
    step = torch.arange(4, device=order.device)
    hue_step = (order == HUE).int().argmax(1, keepdim=True)

    def blends(active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.where(active & applied[:, None], factors.gather(1, order), 1.0)
        rest = 1 - own
        return own, rest * (order == SATURATION), rest * (order == CONTRAST)

    own, gray, mean = blends(step < hue_step)
    for k in (0, 1, 2):
        colours = _blend(colours, own[:, k], gray[:, k], mean[:, k])
    colours = _turn_hue(colours, parameters.hue * applied)
    own, gray, mean = blends(step > hue_step)
    for k in (1, 2, 3):
        colours = _blend(colours, own[:, k], gray[:, k], mean[:, k])
    return colours


def grayscale(colours: Tensor, applied: Tensor) -> Tensor:
    """Replace (N, 3, pixels) by each pixel's luma in all three channels, where `applied` (N,)."""
    gray = applied.float()
    return _blend(colours, 1 - gray, gray, torch.zeros_like(gray))


def _blend(colours: Tensor, own: Tensor, gray: Tensor, mean: Tensor) -> Tensor:
    """own * colours + gray * their grayscale + mean * its mean over the image, clamped to [0, 1]; weights are (N,).

    Brightness f is (f, 0, 0), saturation (f, 1 - f, 0), contrast (f, 0, 1 - f), grayscale (0, 1, 0), nothing (1, 0, 0).
    """
    red, green, blue = colours.unbind(1)
    luma = torch.mul(red, _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    constant = luma.mean(1, keepdim=True) * mean[:, None]
    luma.mul_(gray[:, None]).add_(constant)
    return torch.addcmul(luma[:, None], colours, own[:, None, None]).clamp_(0.0, 1.0)


def _turn_hue(colours: Tensor, turns: Tensor) -> Tensor:
    """Turn the HSV hue of (N, 3, pixels) by (N,) turns; value and saturation stay, and so do greys.

    In sixths of a turn, the distance of a hue from red is 1 + (g + b - r - min) / (max - min), towards green where
    g > b and towards blue elsewhere. That needs no case for each sixth of the circle.
    """
    red, green, blue = colours.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - low
    distance = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-12)).add_(1)
    hue = torch.copysign(distance, green - blue).add_((6 * turns)[:, None])
    hue.sub_(torch.floor(hue / 6), alpha=6)
    # On [0, 6): red is full within 1 of 0 = 6 and gone beyond 2; green likewise around 2, blue around 4.
    red = hue.sub(3).abs_().sub_(1).clamp_(0.0, 1.0).mul_(chroma).add_(low)
    green, blue = (hue.sub(centre).abs_().sub_(1).clamp_(0.0, 1.0).mul_(chroma).neg_().add_(high) for centre in (2, 4))
    return torch.stack((red, green, blue), 1)
