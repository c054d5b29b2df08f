"""The optical recognition digits of the UCI repository: 1797 handwritten digits, embedded, for demos and tests.

E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49, CC BY 4.0. These are the 1797 images of its test part, by 13 writers; 8x8, values 0..16.

``digits.bin`` is zlib-compressed: 1797 label bytes, then 1797 images of 64 bytes, row by row. The first 1437 are our
training split, the other 360 the test split: a fixed random choice, stratified by class.
"""

from __future__ import annotations

import zlib
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from rushkit.data.files import Check, known_split
from rushkit.data.memory import Choice, Split, resize
from rushkit.data.picture import check_image_size
from rushkit.data.progress import Progress
from rushkit.errors import DataError

COUNT, TRAIN = 1797, 1437
STORED_SIZE = 8
LARGEST = 16


def digits(root: str = "", image_size: int = 32) -> Digits:
    """The embedded digits: 1437 training and 360 test images of 10 classes.

    Args:
        root: Not used; nothing is read from outside the package.
        image_size: Height and width that the 8x8 images are resized to.

    Raises:
        UsageError: an image size below 1, or above ``MOST_SIDE``.
    """
    return Digits(check_image_size(image_size))


class Digits:
    """The embedded digits at one image size."""

    name = "digits"
    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    splits = ("train", "test")
    stored_size = STORED_SIZE

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size

    def __repr__(self) -> str:
        return f"Digits(image_size={self.image_size})"

    def split(self, name: str, choose: Choice | None = None) -> Split:
        """Return ``train`` or ``test``: uint8 (N, 3, S, S), three equal channels, 0..16 scaled to 0..255; int64 (N,).

        Args:
            name: One of ``splits``.
            choose: Which of its images; only these are resized.

        Raises:
            UsageError: no such split.
            DataError: the installed package is damaged.
        """
        import torch

        known_split(self.name, name, self.splits)
        stored_labels, values = _read()
        labels, stored = torch.from_numpy(stored_labels).long(), torch.from_numpy(values)
        part = slice(TRAIN) if name == "train" else slice(TRAIN, COUNT)
        grey = (stored[part].float() * (255 / LARGEST)).round().to(torch.uint8).view(-1, 1, STORED_SIZE, STORED_SIZE)
        labels = labels[part]
        chosen = choose(len(grey), labels) if choose else None
        if chosen is not None:
            grey, labels = grey[chosen], labels[chosen]
        return Split(resize(grey.repeat(1, 3, 1, 1), self.image_size), labels, f"{self.name}/{name}")

    def check(self) -> list[Check]:
        """Check that the embedded file is whole."""
        try:
            _read()
        except DataError as error:
            return [Check("digits.bin", "wrong", error.message)]
        return [Check("digits.bin", "ok", f"{COUNT} images, embedded")]

    def fetch(self, progress: Progress | None = None) -> None:
        """Do nothing: the images are part of the package."""


def _read() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return labels (1797,) and values (1797, 64)."""
    resource = files("rushkit.data").joinpath("digits.bin")
    try:
        content = bytearray(zlib.decompress(resource.read_bytes()))
    except (OSError, zlib.error) as error:
        raise DataError(f"{resource} is damaged: {error}", "install rushkit again") from error
    if len(content) != COUNT * (1 + STORED_SIZE**2):
        raise DataError(f"{resource} is damaged: {len(content)} bytes", "install rushkit again")
    both = np.frombuffer(content, dtype=np.uint8)
    return both[:COUNT], both[COUNT:].reshape(COUNT, -1)
