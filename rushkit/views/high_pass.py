"""The high-pass filter: what is left of an image without its low frequencies."""

from __future__ import annotations

import torch
from torch import Tensor


def high_pass(images: Tensor, radius: float = 8.0) -> Tensor:
    """Remove every frequency that is nearer to 0 than a radius (Fan et al. 2021, section 4.2: AdvCL's third view).

    A frequency is a pair of numbers of cycles over the height and over the width of the image, so at any size it is
    details of the same share of the image that stay: a radius of 8 removes waves of more than 4 pixels at 32 pixels,
    193 of 1024 coefficients, and of more than 12 pixels at 96. ``size / 4`` keeps the length in pixels.

    >>> high_pass(torch.ones(1, 3, 32, 32)).abs().max() < 1e-6
    tensor(True)

    Args:
        images: (..., H, W), float32 or float64.
        radius: The least distance of a frequency that stays, in cycles per image.

    Returns:
        (..., H, W), not clamped: with a radius above 0 the mean is 0, and pixels lie on both sides of it.
    """
    height, width = images.shape[-2:]
    down = torch.fft.fftfreq(height, 1 / height, device=images.device)
    across = torch.fft.rfftfreq(width, 1 / width, device=images.device)
    stays = down[:, None].square() + across.square() >= radius**2
    rest: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * stays, s=(height, width))
    return rest
