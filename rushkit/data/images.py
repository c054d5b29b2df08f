"""Decoding one image file: which formats are read, and how much memory that may take.

The bounds are on pixels, which a few bytes of a file can claim: an image is measured when its header is read, before
there is memory for its pixels.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

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
    """An image that cannot be used; ``skippable`` where that is for the file being damaged."""

    skippable = True


class SizeFault(ImageFault):
    """An image of another size than the others."""

    skippable = False


class Room:
    """Memory for pixels that several decoding threads share: who finds too little waits for the others.

    Args:
        pixels: How many there may be at once.
    """

    def __init__(self, pixels: int = MOST_PIXELS) -> None:
        self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """A block with memory for so many pixels, which must be no more than there is room for in all."""
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
    """The side in pixels that images are brought to. Raises UsageError unless it is ``least`` to ``MOST_SIDE``."""
    if size < least:
        meaning = " (all images have one size)" if least == 0 else ""
        raise UsageError(f"image_size must be {least}{meaning} or more (got {size})", "for example 32")
    if size > MOST_SIDE:
        raise UsageError(f"image_size must be {MOST_SIDE} at most (got {size})", "for example 32")
    return size


@contextmanager
def own_bounds() -> Iterator[None]:
    """A block without Pillow's warning of large images, which have their bound here; for one thread at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image whose header has been read, and whose pixels have not.

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


@contextmanager
def decoded(path: Path, room: Room, wanted: int = 0) -> Iterator[Image.Image]:
    """An image as RGB of 8 bits, its first frame; transparency is dropped.

    Args:
        path: The file.
        room: Where it must find memory.
        wanted: The side that it will be resized to: a JPEG much larger than that is decoded at a half, a quarter or an
            eighth, at least twice too large. 0: it is wanted as it is.

    Raises:
        OSError: no regular file.
        ValueError: more pixels than ``MOST_PIXELS``, or more than 8 bits a channel.
        Exception: nearly anything else, of a damaged one.
    """
    with open_image(path) as image:
        width, height = image.size
        if wanted:
            image.draft("RGB", (2 * wanted, 2 * wanted))
        pixels = image.width * image.height
        if image.info.get("progressive"):
            # Its coefficients are kept at full size until the last scan.
            pixels = max(pixels, width * height // 2)
        if pixels > MOST_PIXELS:
            raise ValueError(f"{width}x{height} are too many pixels to decode: {MOST_PIXELS} at most")
        with room.take(pixels):
            yield _rgb(image)


def unreadable(path: Path, error: Exception) -> ImageFault:
    """What to tell of an image that Pillow or the system refused."""
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
    """Those of ``FORMATS`` that this build of Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF" or any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")
