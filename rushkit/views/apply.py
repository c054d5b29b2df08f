"""Make views from their parameters.

No value is read back from the device and no shape depends on a draw, so the code can be compiled or captured in a CUDA
graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rushkit.errors import UsageError
from rushkit.recipe.schema import ViewSettings
from rushkit.views.colour import grayscale, jitter
from rushkit.views.parameters import ViewParameters, sample_parameters

# Pixels, read and written, that a CPU thread handles at a time: the intermediate planes of so many stay in its cache.
_CPU_PIXELS = 2**18


@dataclass(frozen=True)
class Views:
    """SimCLR's random view of every image of a batch: draws the parameters, then applies them.

    >>> views = Views(size=32)
    >>> first, second = views(images, generator), views(images, generator)

    Args:
        size: Height and width of a view, in pixels.
        settings: The distribution; the defaults are the paper's.

    Raises:
        UsageError: a size below 1.
    """

    size: int
    settings: ViewSettings = field(default_factory=ViewSettings)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"view size must be at least 1 pixel, got {self.size}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return one view of each image.

        Args:
            images: (N, C, H, W) uint8.
            generator: Source of every draw; on the CPU (the same draws for any device) or on the images' device.

        Returns:
            (N, C, size, size) float32 in [0, 1].

        Raises:
            UsageError: not such images, or colour operations on images without 3 channels.
        """
        check_images(images)
        n, _, height, width = images.shape
        parameters = sample_parameters(n, height, width, self.settings, generator, images.device)
        return apply_views(images, parameters, self.size)


def apply_views(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Make the views that the parameters describe: crop, resize, flip, colour jitter, grayscale.

    Equal, within float32 rounding, to torchvision's functional operations on float tensors, with antialiasing.

    Args:
        images: (N, C, H, W) uint8.
        parameters: N rows, as `sample_parameters` draws them for this height and width.
        size: Height and width of a view, in pixels.

    Returns:
        (N, C, size, size) float32 in [0, 1], on the images' device.

    Raises:
        UsageError: not such images or parameters, or colour operations on images without 3 channels.
    """
    check_images(images)
    n, channels, height, width = images.shape
    if len(parameters) != n:
        raise UsageError(f"{n} images but parameters for {len(parameters)} views")
    if channels != 3 and (parameters.jitter is not None or parameters.gray is not None):
        raise UsageError(
            f"colour jitter and grayscale need images with 3 channels, got {channels}",
            "set the views' jitter_p and grayscale to 0: crop and flip work with any number of channels",
        )
    parameters = parameters.to(images.device)
    # Under bf16 autocast the interpolation products would be rounded to the eighth bit of a pixel.
    with torch.autocast(images.device.type, enabled=False):
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return _render(images, parameters, size)
        views = torch.empty(n, channels, size, size)
        chunk = max(1, _CPU_PIXELS // (height * width + size * size)) * torch.get_num_threads()
        for start in range(0, n, chunk):
            rows = slice(start, start + chunk)
            views[rows] = _render(images[rows], parameters[rows], size)
        return views


def check_images(images: Tensor) -> None:
    """Raise UsageError unless the images are (N, C, H, W) uint8."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UsageError(
            f"views are made from uint8 images (N, C, H, W), got {images.dtype} of shape {tuple(images.shape)}"
        )


def _render(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    views = _crop_resize_flip(images, parameters, size)
    colours = views.flatten(2)
    if parameters.jitter is not None:
        colours = jitter(colours, parameters, parameters.jitter)
    if parameters.gray is not None:
        colours = grayscale(colours, parameters.gray)
    return colours.view_as(views)


def _crop_resize_flip(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Return the crops resized to (N, C, size, size) in [0, 1], by one matrix product along each axis."""
    n, channels, height, width = images.shape
    upright = torch.zeros_like(parameters.flip)
    down = _interpolation(parameters.top, parameters.height, upright, size, height)
    across = _interpolation(parameters.left, parameters.width, parameters.flip, size, width).div_(255)
    rows = torch.bmm(images.reshape(n, channels * height, width).float(), across.mT)
    return torch.matmul(down[:, None], rows.view(n, channels, height, size)).clamp_(max=1.0)


def _interpolation(start: Tensor, length: Tensor, flip: Tensor, size: int, total: int) -> Tensor:
    """Return matrices (N, size, total) that resize pixels [start, start + length) of a line of `total` to `size`.

    Bilinear with antialiasing: a triangle around the output pixel's centre, as wide as the step between outputs
    and never narrower than an input pixel, normalised over the crop. A flip reverses the rows.
    """
    outputs = torch.arange(size, device=start.device)
    inputs = torch.arange(total, device=start.device)
    start, length, flip = start[:, None], length[:, None], flip[:, None]
    step = length / size
    sharpness = 1 / step.clamp(min=1.0)
    centre = (torch.where(flip, size - 1 - outputs, outputs) + 0.5) * (step * sharpness)
    offset = inputs - start
    # Pixels outside the crop are infinitely far from every centre.
    position = torch.where((offset >= 0) & (offset < length), (offset + 0.5) * sharpness, math.inf)
    distance = (position[:, None, :] - centre[:, :, None]).abs_()
    weight = distance.neg_().add_(1).clamp_(min=0)
    return weight.div_(weight.sum(2, keepdim=True))
