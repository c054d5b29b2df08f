"""Labelled images in an ``.npz`` file beside a data set, such as published sets of generated images.

The file has two arrays, ``image`` (uint8, N x H x W x 3) and ``label`` (whole numbers, N). It may come from anybody:
see ``npz_file``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rushkit.data.cache import cached, fingerprint, place_of
from rushkit.data.files import verify_labels
from rushkit.data.memory import Split, limit_indices
from rushkit.data.npz_file import Array, NpzFile, open_npz
from rushkit.errors import DataError
from rushkit.paths import regular_stat

CHANNELS = 3
# What the messages ask for.
_WANTED = "it takes an .npz file with `image` (uint8, N x H x W x 3) and `label` (whole numbers, N)"


def read_npz(path: Path, size: int, classes: int, limit: int = 0) -> Split:
    """Return the labelled images of an ``.npz`` file; they are decoded once, into the cache.

    Args:
        path: The file, with arrays ``image`` (uint8, N x size x size x 3) and ``label`` (N).
        size: Height and width that the images must have.
        classes: Labels must lie in [0, classes).
        limit: The most images that are kept, drawn once and for all; 0 keeps all.

    Raises:
        DataError: the file is missing, damaged, too large for its size, or of other images.
        UsageError: a negative limit.
    """
    missing = DataError(
        f"{path}, the file of extra images, is missing",
        "set finetune.extra.path to an .npz file, below system.data_dir or absolute",
    )
    with open_npz(path, _WANTED, missing) as file:
        images, labels = file.array("image"), file.array("label")
        _check_images(file, images, size)
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise DataError(f"{path}: `label` is {labels.dtype} {labels.shape} for {images.shape[0]} images", _WANTED)
        numbers = torch.from_numpy(file.values(labels).astype(np.int64))
        verify_labels(numbers.numpy(), 0, classes - 1, path)
        chosen = limit_indices(len(numbers), limit)
        chosen = torch.arange(len(numbers)) if chosen is None else chosen.sort().values
        about = regular_stat(path)
        source = fingerprint([(str(path), about.st_size, about.st_mtime_ns)], "npz", limit)
        found = cached(
            f"{path.name}-{place_of(path)}-{len(chosen)}",
            source,
            images.shape[1:],
            lambda _: file.blocks(images, chosen),
        )
    return Split(found.images.permute(0, 3, 1, 2), numbers[chosen], path.name)


def _check_images(file: NpzFile, images: Array, size: int) -> None:
    """Raise DataError unless images are uint8, of the wanted size, and no more than a file of this size can hold."""
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != CHANNELS:
        raise DataError(f"{file.path}: `image` is {images.dtype} {images.shape}", _WANTED)
    height, width = images.shape[1:3]
    if (height, width) != (size, size):
        raise DataError(
            f"the images of {file.path} are {height}x{width}, those of the data set {size}x{size}",
            "resize the images of the file to the size that the network takes",
        )
    file.check_expansion(images)
