"""Decode an untrusted image file to the pixels that a model takes; all of rushkit uses this decoder.

Bounds on memory are bounds on pixels, which a few bytes of a file can claim: an image is measured when its header is
read, before there is memory for its pixels.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rushkit.errors import DataError, UsageError
from rushkit.image_size import ImageSize, as_size, sides, size_line, size_words
from rushkit.paths import open_file, reason

# By content, whatever the name says: Pillow reads more, some of it with the help of other programs.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# What decoding takes for all images at once, in Pillow's own copies and the decoder's.
MOST_BYTES = 2**30
MOST_SIDE = 8192
# Some decoders read the whole file first.
MOST_FILE_BYTES = 2**30

# How an image that is not square becomes so: its middle, with black bars, or distorted.
Fit: TypeAlias = Literal["crop", "pad", "stretch"]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Decoded row by row, so that there is one copy of the pixels, and another where they are turned.
_ROW_FORMATS = frozenset({"BMP", "DIB", "PNG", "PPM", "TIFF"})
_SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})


class ImageFault(DataError):
    """An image that cannot be used; ``skippable`` where the file itself is at fault."""

    skippable = True


class SizeFault(ImageFault):
    """An image of another size than the others."""

    skippable = False


class Room:
    """Memory that decoding threads share: a thread that finds too little waits for the others.

    Args:
        size: How many bytes there are.
    """

    def __init__(self, size: int = MOST_BYTES) -> None:
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Hold so many bytes, at most as many as there are in all."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


@dataclass(frozen=True)
class Form:
    """What every image of a split is brought to.

    Attributes:
        size: Height and width; one number for a square.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and opacity).
        fit: How an image of another shape gets this one: ``crop`` fills it and keeps the centre, ``pad`` fits into it
            and adds black bars, ``stretch`` distorts it.
        resizes: Whether an image of another size is resized; otherwise it is refused.
    """

    size: ImageSize
    channels: int = 3
    fit: Fit = "crop"
    resizes: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: (C, H, W)."""
        return self.channels, *sides(self.size)


def check_image_sizes(size: ImageSize, least: int = 1) -> ImageSize:
    """Return the image size, a square as one number. Raises UsageError as ``check_image_size``, for each side."""
    if isinstance(size, int):
        return check_image_size(size, least)
    return as_size(*(check_image_size(side, max(least, 1)) for side in sides(size)))


def check_image_size(size: int, least: int = 1) -> int:
    """Return the image size. Raises UsageError unless it lies between ``least`` and ``MOST_SIDE`` pixels."""
    if size < least:
        meaning = " (all images have one size)" if least == 0 else ""
        raise UsageError(f"image_size must be {least}{meaning} or more (got {size})", "for example 32")
    if size > MOST_SIDE:
        raise UsageError(f"image_size must be {MOST_SIDE} at most (got {size})", "for example 32")
    return size


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image: its header is read, its pixels are not. There is no bound on what it claims to have.

    Raises:
        OSError: no regular file.
        Exception: nearly anything, of a damaged one.
    """
    with open_file(path) as file:
        if file.seek(0, 2) > MOST_FILE_BYTES:
            raise ValueError(f"it is larger than {MOST_FILE_BYTES} bytes")
        with _opened(file) as image:
            yield image


def _opened(file: IO[bytes]) -> Image.Image:
    """Open an image as ``Image.open`` does, without Pillow's own bound on pixels.

    That bound is one for the whole process, counts pixels that are never decoded, and warns in the user's terminal.
    """
    file.seek(0)
    prefix = file.read(16)
    for name in _formats():
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(prefix) is not True:
            continue
        file.seek(0)
        try:
            return factory(file, "")
        # By these Pillow's plugins say that a file is not of their format.
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise UnidentifiedImageError("of no format that is read")


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: uint8 (C, H, W).
        width: The width of the image in the file, the right way up.
        height: Its height.
    """

    pixels: np.ndarray
    width: int
    height: int


def read_picture(source: Path | IO[bytes], form: Form, room: Room | None = None, name: str = "") -> Picture:
    """Decode the first frame of an image file as pixels of 8 bits a channel, in the form that a model takes.

    Resizing is Pillow's antialiased bilinear filter. An image that EXIF says is turned is put upright. An alpha channel
    is dropped, except for four channels, and of 16 bits a channel the upper eight are kept. A JPEG much larger than
    ``form.size`` is decoded at a half, a quarter or an eighth of its size, which is at least twice ``form.size``.

    Args:
        source: The path of the file, or the opened file itself.
        form: What the image is brought to.
        room: Memory that decoding threads share; None: this image has all of it.
        name: What the image is called in messages; the path where there is one.

    Raises:
        ImageFault: no such file, or one that is damaged, too large, of another format, or of more than 16 bits a
            channel.
        SizeFault: an image of another size that is not to be resized.
    """
    name = name or str(source)
    try:
        with open_image(source) if isinstance(source, Path) else _opened(source) as image:
            width, height = image.size
            if not form.resizes and (height, width) != sides(form.size):
                words = f"{name} is {width}x{height}, others are {size_words(form.size)}"
                raise SizeFault(words, f"{size_line(form.size)} brings all images to one size")
            with _decoded(image, form, room or Room()) as decoded:
                if decoded.width != decoded.height and (decoded.width > decoded.height) != (width > height):
                    width, height = height, width
                pixels = np.asarray(_fitted(decoded, form))
            return Picture(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), width, height)
    except SizeFault:
        raise
    # Pillow's decoders raise nearly anything on a damaged file: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise unreadable(name, error) from error


@contextmanager
def _decoded(image: Image.Image, form: Form, room: Room) -> Iterator[Image.Image]:
    """Decode an opened image in the mode of the form, upright; a JPEG may come out smaller than it is."""
    width, height = image.size
    if form.resizes:
        tall, wide = sides(form.size)
        image.draft("RGB", (2 * wide, 2 * tall))
    pixels, most = image.width * image.height, MOST_BYTES // _bytes_a_pixel(image)
    if image.info.get("progressive"):
        # Its coefficients are kept at full size until the last scan.
        pixels = max(pixels, width * height // 2)
    if pixels > most:
        raise ValueError(f"{width}x{height} are too many pixels to decode: {most} at most of this format")
    with room.take(pixels * _bytes_a_pixel(image)):
        yield _upright(image, MODES[form.channels])


def _bytes_a_pixel(image: Image.Image) -> int:
    """Return the memory that decoding an image takes at most, in bytes a pixel."""
    if image.format in _ROW_FORMATS and "transparency" not in image.info:
        if image.mode in ("1", "L") or image.mode in _SIXTEEN_BITS:
            return 4
        if image.mode == "RGB":
            return 8
    return 16


def _upright(image: Image.Image, mode: str) -> Image.Image:
    """Decode an image in a mode of 8 bits a channel, and turn it as its EXIF orientation says."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    image.load()
    # Other readers do not look at what damaged EXIF says, and show the image as it is stored.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    image = _eight_bits(image)
    # Grey stays grey while it is resized: a quarter of the memory, and the same pixels.
    return image if image.mode == mode or (image.mode, mode) == ("L", "RGB") else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of at most 8 bits a channel: of 16 bits the upper eight."""
    if image.mode[0] not in "IF":
        # Pillow has kept the upper bytes of 16-bit colours itself.
        return image
    # Pillow gives 16 bits of some formats as 32.
    if image.mode not in _SIXTEEN_BITS and (image.mode, image.format) not in (("I", "PNG"), ("I", "PPM")):
        raise ValueError(f"more than 16 bits a channel (mode {image.mode})")
    return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))


def _fitted(image: Image.Image, form: Form) -> Image.Image:
    """Return an image of the form's size and channels."""
    tall, wide = sides(form.size)
    size, bilinear = (wide, tall), Image.Resampling.BILINEAR
    if image.size != size:
        if form.fit == "crop":
            # The largest box of the form's shape; of a square exactly the shorter side.
            width = min(image.width, image.height * wide / tall)
            height = min(image.height, image.width * tall / wide)
            left, top = (image.width - width) / 2, (image.height - height) / 2
            # As resizing first and then cropping: the filter looks beyond the box where there is more.
            image = image.resize(size, bilinear, (left, top, left + width, top + height))
        elif form.fit == "stretch":
            image = image.resize(size, bilinear)
        else:
            image = _padded(image, tall, wide)
    mode = MODES[form.channels]
    return image if image.mode == mode else image.convert(mode)


def _padded(image: Image.Image, tall: int, wide: int) -> Image.Image:
    """Return an image that just fits into ``tall`` x ``wide``, between black bars (transparent ones, with opacity)."""
    if image.width * tall >= image.height * wide:
        width, height = wide, max(1, round(wide * image.height / image.width))
    else:
        width, height = max(1, round(tall * image.width / image.height)), tall
    canvas = Image.new(image.mode, (wide, tall))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), ((wide - width) // 2, (tall - height) // 2))
    return canvas


def unreadable(name: Path | str, error: Exception) -> ImageFault:
    """Return the fault of an image that Pillow or the system refused."""
    why = reason(error)
    # The last is what Pillow raises of a file that ends within its first bytes.
    if isinstance(error, UnidentifiedImageError | struct.error):
        why = "not an image of a format that is read"
    elif isinstance(error, Image.DecompressionBombError):
        why = "too many pixels to decode"
    return ImageFault(
        f"{name} cannot be read: {why}",
        "delete or repair it, or leave such images out with --set data.on_unreadable=skip",
    )


@cache
def _formats() -> list[str]:
    """Return the ``FORMATS`` that this build of Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
