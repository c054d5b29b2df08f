"""Find the image files to classify, read them at the model's size, and report those that cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rushkit.data.picture import Form, ImageFault, read_picture
from rushkit.data.scan import SUFFIXES, LeftOut, describe_left_out, scan
from rushkit.errors import DataError, UsageError
from rushkit.image_size import sides
from rushkit.paths import is_folder
from rushkit.results.prediction import UnreadableImage

_REPAIR = "repair it, or leave it out"


@dataclass(frozen=True)
class InputImage:
    """An image that was read from a file.

    Attributes:
        path: The file.
        pixels: uint8 (C, S, S) in the form that the model takes.
        notes: Sentences on how the image was converted.
    """

    path: Path
    pixels: Tensor
    notes: tuple[str, ...]


def read_images(paths: Sequence[Path], form: Form) -> tuple[list[InputImage], list[UnreadableImage]]:
    """Return the images that can be read, and the problems of the others. Raises DataError if none can be read."""
    pictures: list[InputImage] = []
    unreadable: list[UnreadableImage] = []
    for path in paths:
        try:
            pictures.append(read_image(path, form))
        except DataError as error:
            if len(paths) == 1:
                raise
            unreadable.append(UnreadableImage(image=str(path), problem=error.message))
    if not pictures:
        raise DataError(f"none of these {len(paths)} images can be read: {unreadable[0].problem}", _REPAIR)
    return pictures, unreadable


def image_files(given: Sequence[str | Path], warn: Callable[[str], None] | None = None) -> list[Path]:
    """Return the given files and the image files in the given folders, which are searched in order of name.

    Args:
        given: Files and folders.
        warn: Called with what a folder leaves out: circular links, special files, unsupported formats.

    Raises:
        UsageError: nothing is given, or a folder has no image files.
        DataError: a folder cannot be listed.
    """
    if not given:
        raise UsageError("no image is named", "for example rushkit predict photo.png")
    files: list[Path] = []
    for path in map(Path, given):
        if not is_folder(path):
            files.append(path)
            continue
        inside = scan(path)
        if not inside.images:
            raise UsageError(
                f"{path} has no images{_apart_from(inside.left_out)}",
                f"their names end in one of {' '.join(sorted(SUFFIXES))}",
            )
        if inside.left_out and warn:
            warn(f"{path}: {len(inside.left_out)} left out{_apart_from(inside.left_out)}")
        files += sorted(path / image.path for image in inside.images)
    return files


def _apart_from(left_out: tuple[LeftOut, ...]) -> str:
    return f": {describe_left_out(left_out)}" if left_out else ""


def read_image(path: Path, form: Form) -> InputImage:
    """Read an image in the form that the model takes, as the data set ``folder`` does.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    try:
        decoded = read_picture(path, form)
    except ImageFault as fault:
        if isinstance(fault.__cause__, FileNotFoundError):
            raise DataError(f"there is no image {path}", "check the path") from fault
        raise DataError(fault.message, _REPAIR) from fault
    notes = _notes(decoded.width, decoded.height, form)
    return InputImage(path, torch.from_numpy(decoded.pixels.copy()), tuple(notes))


def _notes(width: int, height: int, form: Form) -> list[str]:
    """Say what was done to an image to bring it to its form."""
    notes = []
    tall, wide = sides(form.size)
    if width * tall != height * wide:
        # The largest box of the form's shape in the image, or the smallest around it.
        least, most = sorted((width, height * wide / tall))
        box = round(least if form.fit == "crop" else most)
        middle = f"middle {box}x{round(box * tall / wide)} of"
        fitted = {"crop": middle, "pad": "black bars beside", "stretch": "stretched from"}
        notes.append(f"{fitted[form.fit]} {width}x{height}")
        width, height = box, round(box * tall / wide)
    if width != wide and form.fit != "stretch":
        notes.append(f"resized from {width}x{height} to {wide}x{tall}")
    return notes


def pixel_seed(pixels: Tensor) -> int:
    """Return a seed that depends only on the pixels of an image."""
    return int.from_bytes(hashlib.blake2b(pixels.numpy().tobytes(), digest_size=7).digest(), "big")
