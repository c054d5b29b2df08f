"""ColorJitter and grayscale on a whole batch, every image with its own factors and its own order."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import Tensor

from rushkit.views.parameters import CONTRAST, HUE, SATURATION, ViewParameters

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale; they add up to 0.9999


def jitter(colours: Tensor, parameters: ViewParameters, applied: Tensor) -> Tensor:
    """Apply the four colour operations, in each image's own order, to (N, C, pixels) in [0, 1] where `applied` (N,).

    C is 3, or 1 for grey images, whose saturation and hue there is nothing of.

    Brightness, contrast and saturation are blends, and one pass can do a different one to each image. The hue is
    turned once, for the whole batch: passes before it do what an image's order puts before, passes after it the
    rest, and a pass that has nothing to do for an image leaves it as it is. So orders are independent draws,
    torchvision's distribution exactly, and shapes are static; equal shares of the 24 orders are not needed.
    """
    order, factors = parameters.order, _factors(parameters, colours)
    step = torch.arange(4, device=order.device)
    hue_step = _hue_step(order)[:, None]

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


def by_hue_step(parameters: ViewParameters, applied: Tensor) -> tuple[Tensor, list[int]]:
    """Return an order of the images (N,) for `jitter_in_place`, and the step at which each one's hue is turned.

    The steps are ascending, 0 to 3, and -1 stands for no jitter. Reads them back from the device.
    """
    steps, rows = torch.where(applied, _hue_step(parameters.order), -1).sort()
    return rows, steps.tolist()


def jitter_in_place(colours: Tensor, parameters: ViewParameters, hue_steps: list[int]) -> None:
    """Do what `jitter` does, on a CPU: every image gets its own four operations, and none that leave it as it is.

    Args:
        colours: (N, C, pixels) in [0, 1], C being 3 or 1, in the order that `by_hue_step` gives; overwritten.
        parameters: Theirs.
        hue_steps: The step at which each one's hue is turned, ascending; -1 for no jitter.
    """
    order = parameters.order
    own = _factors(parameters, colours).gather(1, order)
    rest = 1 - own
    gray, mean = rest * (order == SATURATION), rest * (order == CONTRAST)
    start, stop = bisect_left(hue_steps, 0), len(hue_steps)

    def blend(k: int, rows: slice) -> None:
        if rows.start < rows.stop:
            _blend(colours[rows], own[rows, k], gray[rows, k], mean[rows, k], out=colours[rows])

    for k in (0, 1, 2):
        blend(k, slice(bisect_left(hue_steps, k + 1), stop))
    if start < stop:
        colours[start:] = _turn_hue(colours[start:], parameters.hue[start:])
    for k in (1, 2, 3):
        blend(k, slice(start, bisect_left(hue_steps, k)))


def grayscale_in_place(colours: Tensor, applied: Tensor) -> None:
    """Do what `grayscale` does, on a CPU, to the images (N, C, pixels) that are made grey alone."""
    if colours.shape[1] == 1:
        return
    rows = applied.nonzero()[:, 0]
    gray = _luma(colours[rows]).clamp_(0.0, 1.0)
    colours.index_copy_(0, rows, gray[:, None].expand(-1, 3, -1))


def _factors(parameters: ViewParameters, colours: Tensor) -> Tensor:
    """Return the factors (N, 4) of the operations by their number; grey images keep the saturation that they have."""
    grey = colours.shape[1] == 1
    saturation = torch.ones_like(parameters.saturation) if grey else parameters.saturation
    return torch.stack((parameters.brightness, parameters.contrast, saturation, parameters.hue), 1)


def _hue_step(order: Tensor) -> Tensor:
    """Return the step (N,) at which the hue is turned."""
    return (order == HUE).int().argmax(1)


def grayscale(colours: Tensor, applied: Tensor) -> Tensor:
    """Replace (N, 3, pixels) by each pixel's luma in all three channels, where `applied` (N,); grey images stay."""
    if colours.shape[1] == 1:
        return colours
    gray = applied.float()
    return _blend(colours, 1 - gray, gray, torch.zeros_like(gray))


def _luma(colours: Tensor) -> Tensor:
    """Return the grayscale (N, pixels) of (N, 3, pixels); a copy of (N, 1, pixels)."""
    if colours.shape[1] == 1:
        return colours[:, 0].clone()
    red, green, blue = colours.unbind(1)
    return torch.mul(red, _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def _blend(colours: Tensor, own: Tensor, gray: Tensor, mean: Tensor, out: Tensor | None = None) -> Tensor:
    """own * colours + gray * their grayscale + mean * its mean over the image, clamped to [0, 1]; weights are (N,).

    Brightness f is (f, 0, 0), saturation (f, 1 - f, 0), contrast (f, 0, 1 - f), grayscale (0, 1, 0), nothing (1, 0, 0).
    """
    luma = _luma(colours)
    constant = luma.mean(1, keepdim=True) * mean[:, None]
    luma.mul_(gray[:, None]).add_(constant)
    return torch.addcmul(luma[:, None], colours, own[:, None, None], out=out).clamp_(0.0, 1.0)


def _turn_hue(colours: Tensor, turns: Tensor) -> Tensor:
    """Turn the HSV hue of (N, 3, pixels) by (N,) turns; value and saturation stay, and so do greys and (N, 1, pixels).

    In sixths of a turn, the distance of a hue from red is 1 + (g + b - r - min) / (max - min), towards green where
    g > b and towards blue elsewhere. That needs no case for each sixth of the circle.
    """
    if colours.shape[1] == 1:
        return colours
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
