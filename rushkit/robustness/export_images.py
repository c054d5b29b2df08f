"""Write the adversarial images of an attack, and the clean ones beside them, as PNG files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from rushkit.attacks.grid import LEVELS
from rushkit.errors import RushkitError, UsageError

# The modes of Pillow by number of channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def check_folder(path: Path) -> None:
    """Raise UsageError unless a folder for images is new or empty: nothing is overwritten."""
    try:
        empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name a folder of yours") from error
    if not empty:
        raise UsageError(f"{path} is there already, and holds something", "name a new folder for --export")


def export_images(folder: Path, clean: Tensor, attacked: Tensor, indices: Tensor) -> None:
    """Write ``INDEX-original.png`` and ``INDEX-attacked.png`` for each image, lossless.

    Args:
        folder: The folder, which is made.
        clean: (N, C, H, W) in [0, 1], every pixel at k/255.
        attacked: (N, C, H, W), likewise.
        indices: (N,) the images' indices in the data set's split.

    Raises:
        UsageError: images of another number of channels than PNG files have.
        RushkitError: a file cannot be written.
    """
    channels = clean.shape[1]
    if channels not in _MODES:
        raise UsageError(f"PNG files have 1, 3 or 4 channels (the images have {channels})", "leave --export out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, images in (("original", clean), ("attacked", attacked)):
            for index, pixels in zip(indices.tolist(), _levels(images), strict=True):
                _picture(pixels).save(folder / f"{index:06d}-{kind}.png")
    except OSError as error:
        raise RushkitError(f"{folder} cannot be written: {error.strerror}", "name another folder") from error


def _levels(images: Tensor) -> Tensor:
    """Return the grey levels (N, H, W, C) uint8 of images (N, C, H, W)."""
    return (images.cpu() * LEVELS).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _picture(levels: Tensor) -> Image.Image:
    height, width, channels = levels.shape
    return Image.frombytes(_MODES[channels], (width, height), levels.numpy().tobytes())
