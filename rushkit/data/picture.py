"""Decode an untrusted image file to the pixels that a model takes; all of rushkit uses this decoder.

Bounds on memory are bounds on pixels, which a few bytes of a file can claim: an image is measured when its header is
read, before there is memory for its pixels.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rushkit.errors import DataError, UsageError
from rushkit.paths import open_file, reason

# By content, whatever the name says: Pillow reads more, some of it with the help of other programs.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Decoding takes up to 16 bytes a pixel, in Pillow's own copies and the decoder's: 1 GiB for all images at once.
MOST_PIXELS = 2**26
MOST_SIDE = 8192
# Some decoders read the whole file first.
MOST_FILE_BYTES = 2**30


class ImageFault(DataError):
    """An image that cannot be used; ``skippable`` where the file itself is at fault."""

    skippable = True


class SizeFault(ImageFault):
    """An image of another size than the others."""

    skippable = False


class Room:
    """Memory for pixels that decoding threads share: a thread that finds too little waits for the others.

    Args:
        pixels: How many there may be at once.
    """

    def __init__(self, pixels: int = MOST_PIXELS) -> None:
        self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Hold memory for so many pixels, at most as many as there is room for in all."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


def check_image_size(size: int, least: int = 1) -> int:
    """Return the image size. Raises UsageError unless it lies between ``least`` and ``MOST_SIDE`` pixels."""
    if size < least:
        meaning = " (all images have one size)" if least == 0 else ""
        raise UsageError(f"image_size must be {least}{meaning} or more (got {size})", "for example 32")
    if size > MOST_SIDE:
        raise UsageError(f"image_size must be {MOST_SIDE} at most (got {size})", "for example 32")
    return size


@contextmanager
def own_bounds() -> Iterator[None]:
    """Silence Pillow's warning about large images, which are bounded here; for one thread at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image: its header is read, its pixels are not.

    Raises:
        OSError: no regular file.
        Exception: nearly anything, of a damaged one.
    """
    with open_file(path) as file:
        if file.seek(0, 2) > MOST_FILE_BYTES:
            raise ValueError(f"it is larger than {MOST_FILE_BYTES} bytes")
        file.seek(0)
        with Image.open(file, formats=_formats()) as image:
            yield image


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: uint8 (3, S, S), RGB.
        width: The width that the file has.
        height: The height that the file has.
    """

    pixels: np.ndarray
    width: int
    height: int


def read_picture(path: Path, size: int, room: Room | None = None, resizes: bool = True) -> Picture:
    """Decode the first frame of an image file as ``size`` x ``size`` pixels of 8-bit RGB.

    The shorter side is resized to ``size`` with Pillow's antialiased bilinear filter, and the centre is kept. An alpha
    channel is dropped. As in torchvision's ``ImageFolder``, the pixels are taken as they are stored: the EXIF
    orientation is not applied. A JPEG much larger than ``size`` is decoded at a half, a quarter or an eighth of its
    size, which is at least twice ``size``.

    Args:
        path: The file.
        size: Height and width of the result.
        room: Memory for pixels that decoding threads share; None: this image has all of it.
        resizes: Whether an image of another size is resized; otherwise it is refused.

    Raises:
        ImageFault: no such file, or one that is damaged, too large, of another format, or of more than 8 bits a
            channel.
        SizeFault: an image of another size that is not to be resized.
    """
    try:
        with open_image(path) as image:
            width, height = image.size
            if not resizes and (width, height) != (size, size):
                words = f"{path} is {width}x{height}, others are {size}x{size}"
                raise SizeFault(words, f"--set data.image_size={size} brings all images to one size")
            with _decoded(image, 2 * size if resizes else 0, room or Room()) as rgb:
                return Picture(_square(rgb, size), width, height)
    except SizeFault:
        raise
    # Pillow's decoders raise nearly anything on a damaged file: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise unreadable(path, error) from error


@contextmanager
def _decoded(image: Image.Image, least: int, room: Room) -> Iterator[Image.Image]:
    """Decode an opened image as 8-bit RGB.

    Args:
        image: Its pixels are not decoded yet.
        least: A JPEG may be decoded smaller than it is, but not below this side; 0: it may not.
        room: Where it must find memory.
    """
    width, height = image.size
    if least:
        image.draft("RGB", (least, least))
    pixels = image.width * image.height
    if image.info.get("progressive"):
        # Its coefficients are kept at full size until the last scan.
        pixels = max(pixels, width * height // 2)
    if pixels > MOST_PIXELS:
        raise ValueError(f"{width}x{height} are too many pixels to decode: {MOST_PIXELS} at most")
    with room.take(pixels):
        yield _rgb(image)


def _square(rgb: Image.Image, size: int) -> np.ndarray:
    """Return the resized centre of an image: uint8 (3, size, size)."""
    if rgb.size != (size, size):
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        # As resizing the shorter side and then cropping: the filter looks beyond the box where there is more.
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.asarray(rgb).transpose(2, 0, 1)


def unreadable(path: Path, error: Exception) -> ImageFault:
    """Return the fault of an image that Pillow or the system refused."""
    why = reason(error)
    if isinstance(error, UnidentifiedImageError):
        why = "not an image of a format that is read"
    elif isinstance(error, Image.DecompressionBombError):
        why = f"too many pixels to decode: {MOST_PIXELS} at most"
    return ImageFault(
        f"{path} cannot be read: {why}",
        "delete or repair it, or leave such images out with --set data.on_unreadable=skip",
    )


@cache
def _formats() -> list[str]:
    """Return the ``FORMATS`` that this build of Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF" or any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")
