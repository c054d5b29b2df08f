"""Make views from their parameters.

No value is read back from the device and no shape depends on a draw, so the code can be compiled or captured in a CUDA
graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from rushkit.errors import UsageError
from rushkit.image_size import ImageSize, sides
from rushkit.recipe.schema import ViewSettings
from rushkit.views.colour import by_hue_step, grayscale, grayscale_in_place, jitter, jitter_in_place
from rushkit.views.parameters import ViewParameters, sample_parameters
from rushkit.views.strength import weakened

Interpolation = Literal["bilinear", "bicubic"]

# Channels of grey images, of colours, and of colours with one channel more, such as opacity.
_COLOURED = (1, 3, 4)
_RGB = 3
# Pixels, read and written, that a CPU thread handles at a time: more leave its cache, fewer make many small operations.
_CPU_PIXELS = 2**19


@dataclass(frozen=True)
class Views:
    """SimCLR's random view of every image of a batch: draws the parameters, then applies them.

    >>> views = Views(size=32)
    >>> first, second = views(images, generator), views(images, generator)

    Args:
        size: Height and width of a view, in pixels; one number for squares.
        settings: The distribution; the defaults are the paper's.

    Raises:
        UsageError: a size below 1.
    """

    size: ImageSize
    settings: ViewSettings = field(default_factory=ViewSettings)

    def __post_init__(self) -> None:
        if min(sides(self.size)) < 1:
            raise UsageError(f"view size must be at least 1 pixel, got {self.size}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return one view of each image.

        Args:
            images: (N, C, H, W) uint8.
            generator: Source of every draw; on the CPU (the same draws for any device) or on the images' device.

        Returns:
            (N, C, *size) float32 in [0, 1].

        Raises:
            UsageError: not such images, or colour operations on images of other channels; see ``apply_views``.
        """
        check_images(images)
        n, _, height, width = images.shape
        return self.applied(images, sample_parameters(n, height, width, self.settings, generator, images.device))

    def applied(self, images: Tensor, parameters: ViewParameters) -> Tensor:
        """Return the views (N, C, *size) of images (N, C, H, W) that parameters already drawn describe."""
        return apply_views(images, parameters, self.size, self.settings.interpolation)

    def weakened(self, strength: float) -> Views:
        """Return views of a strength between 0 and 1; see ``views.strength.weakened``."""
        return replace(self, settings=weakened(self.settings, strength))


def apply_views(
    images: Tensor, parameters: ViewParameters, size: ImageSize, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Make the views that the parameters describe: crop, resize, flip, colour jitter, grayscale.

    Equal, within float32 rounding, to torchvision's functional operations on float tensors, with antialiasing. Images
    of one channel are grey: their brightness and contrast change, and there is no saturation, hue or grayscale to
    change. Of four channels the first three are red, green and blue, and the fourth keeps its values.

    Args:
        images: (N, C, H, W) uint8.
        parameters: N rows, as `sample_parameters` draws them for this height and width.
        size: Height and width of a view, in pixels; one number for squares.
        interpolation: How a crop is resized; a bicubic one is clamped to [0, 1], beyond which it may swing.

    Returns:
        (N, C, *size) float32 in [0, 1], on the images' device.

    Raises:
        UsageError: not such images or parameters, or colour operations on images of other than 1, 3 or 4 channels.
    """
    check_images(images)
    n, channels = images.shape[:2]
    if len(parameters) != n:
        raise UsageError(f"{n} images but parameters for {len(parameters)} views")
    if channels not in _COLOURED and (parameters.jitter is not None or parameters.gray is not None):
        raise UsageError(
            f"colour jitter and grayscale are for images with 1, 3 or 4 channels, got {channels}",
            "--set pretrain.views.jitter_p=0 --set pretrain.views.grayscale=0 leaves crop and flip",
        )
    parameters = parameters.to(images.device)
    # Under bf16 autocast the interpolation products would be rounded to the eighth bit of a pixel.
    with torch.autocast(images.device.type, enabled=False):
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return _render(images, parameters, size, interpolation)
        return _render_on_cpu(images, parameters, size, interpolation)


def check_images(images: Tensor) -> None:
    """Raise UsageError unless the images are (N, C, H, W) uint8."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UsageError(
            f"views are made from uint8 images (N, C, H, W), got {images.dtype} of shape {tuple(images.shape)}"
        )


def _render(
    images: Tensor, parameters: ViewParameters, size: ImageSize, interpolation: Interpolation = "bilinear"
) -> Tensor:
    views = _crop_resize_flip(images, parameters, size, interpolation)
    colours, others = views.flatten(2).split((min(_RGB, views.shape[1]), max(0, views.shape[1] - _RGB)), 1)
    if parameters.jitter is not None:
        colours = jitter(colours, parameters, parameters.jitter)
    if parameters.gray is not None:
        colours = grayscale(colours, parameters.gray)
    return torch.cat((colours, others), 1).view_as(views) if views.shape[1] > _RGB else colours.view_as(views)


def _render_on_cpu(images: Tensor, parameters: ViewParameters, size: ImageSize, interpolation: Interpolation) -> Tensor:
    """Return what `_render` returns, some images at a time, sorted by the step that turns the hue.

    Values may be read here, so that no image gets an operation that leaves it as it is.
    """
    n, channels, height, width = images.shape
    order, hue_steps = None, [0] * n
    if parameters.jitter is not None:
        order, hue_steps = by_hue_step(parameters, parameters.jitter)
        images, parameters = images.index_select(0, order), parameters[order]
    tall, wide = sides(size)
    sorted_views = torch.empty(n, channels, tall, wide)
    chunk = max(1, _CPU_PIXELS // (height * width + tall * wide)) * torch.get_num_threads()
    for start in range(0, n, chunk):
        rows = slice(start, start + chunk)
        sorted_views[rows] = _crop_resize_flip(images[rows], parameters[rows], size, interpolation)
        colours = sorted_views[rows].flatten(2)[:, :_RGB]
        if parameters.jitter is not None:
            jitter_in_place(colours, parameters[rows], hue_steps[rows])
        if parameters.gray is not None:
            grayscale_in_place(colours, parameters.gray[rows])
    # Faster than putting each part in its place by its rows.
    return sorted_views if order is None else sorted_views.index_select(0, order.argsort())


def _crop_resize_flip(
    images: Tensor, parameters: ViewParameters, size: ImageSize, interpolation: Interpolation
) -> Tensor:
    """Return the crops resized to (N, C, *size) in [0, 1], by one matrix product along each axis."""
    n, channels, height, width = images.shape
    tall, wide = sides(size)
    upright = torch.zeros_like(parameters.flip)
    kernel = _triangle if interpolation == "bilinear" else _cubic
    down = _interpolation(parameters.top, parameters.height, upright, tall, height, kernel)
    across = _interpolation(parameters.left, parameters.width, parameters.flip, wide, width, kernel).div_(255)
    rows = torch.bmm(images.reshape(n, channels * height, width).float(), across.mT)
    return torch.matmul(down[:, None], rows.view(n, channels, height, wide)).clamp_(0.0, 1.0)


def _interpolation(
    start: Tensor, length: Tensor, flip: Tensor, size: int, total: int, kernel: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return matrices (N, size, total) that resize pixels [start, start + length) of a line of `total` to `size`.

    With antialiasing: a kernel around the output pixel's centre, whose unit is the step between outputs and never
    less than an input pixel, normalised over the crop. A flip reverses the rows.
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
    weight = kernel(distance)
    return weight.div_(weight.sum(2, keepdim=True))


def _triangle(distance: Tensor) -> Tensor:
    """Return the weights of bilinear interpolation, in place, at distances of any size."""
    return distance.neg_().add_(1).clamp_(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Return the weights of bicubic interpolation, with torchvision's and Pillow's parameter −1/2 (Keys 1981)."""
    d = distance.clamp_(max=2)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, far)
