"""Labelled images in an ``.npz`` file, such as published sets of generated images; nothing in it is unpickled.

The file is a zip of two arrays, ``image`` (uint8, N x H x W x 3) and ``label`` (whole numbers, N). It may come from
anybody: sizes are checked before memory is taken, and a file that unpacks to much more than its size is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from rushkit.data.cache import cached, fingerprint, place_of
from rushkit.data.files import verify_labels
from rushkit.data.memory import Split, blocks, limit_indices
from rushkit.errors import DataError, first_few
from rushkit.paths import open_file, reason, regular_stat

CHANNELS = 3
# Images hardly shrink when they are packed: a file that unpacks to this many times its size holds none.
MOST_EXPANSION = 200
# What the messages ask for.
_WANTED = "it takes an .npz file with `image` (uint8, N x H x W x 3) and `label` (whole numbers, N)"
# What a damaged or encrypted member raises.
_UNREADABLE = (BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, ValueError)
# What numpy raises on a header that nobody but an attacker writes.
_BAD_HEADER = (ValueError, TypeError, SyntaxError, TokenError, OverflowError, RecursionError, MemoryError)


class _Array(NamedTuple):
    """What the header of an array says, and how many bytes of its member come before the data."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


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
    with _explained(path), open_file(path) as file, ZipFile(file) as archive:
        images, labels = _member(path, archive, "image"), _member(path, archive, "label")
        _check_images(path, images, size)
        _check_labels(path, labels, images.shape[0])
        numbers = _read_labels(path, archive, labels, classes)
        chosen = limit_indices(len(numbers), limit)
        chosen = torch.arange(len(numbers)) if chosen is None else chosen.sort().values
        about = regular_stat(path)
        source = fingerprint([(str(path), about.st_size, about.st_mtime_ns)], "npz", limit)
        found = cached(
            f"{path.name}-{place_of(path)}-{len(chosen)}",
            source,
            images.shape[1:],
            lambda _: _read_images(archive, images, chosen),
        )
    return Split(found.images.permute(0, 3, 1, 2), numbers[chosen], path.name)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged file raises into DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{path}, the file of extra images, is missing",
            "set finetune.extra.path to an .npz file, below system.data_dir or absolute",
        ) from None
    except _UNREADABLE as error:
        raise DataError(f"{path} is no .npz file that can be read: {reason(error)}", _WANTED) from error


def _member(path: Path, archive: ZipFile, name: str) -> _Array:
    """Return what the header of an array says. Raises DataError if it is missing, or not as long as it says."""
    if f"{name}.npy" not in archive.namelist():
        raise DataError(f"{path} has no array {name!r}; it has {first_few(archive.namelist()) or 'none'}", _WANTED)
    about = archive.getinfo(f"{name}.npy")
    if about.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataError(
            f"{path}: the array {name!r} is packed in an unusual way", "numpy.savez writes what is read here"
        )
    with archive.open(about) as stream:
        try:
            # Later versions are for arrays of records, and their headers may take gigabytes.
            if npy.read_magic(stream) != (1, 0):
                raise ValueError
            shape, fortran, dtype = npy.read_array_header_1_0(stream)
        except _BAD_HEADER as error:
            raise DataError(f"{path}: the array {name!r} has no header that can be read", _WANTED) from error
        offset = stream.tell()
    if fortran and len(shape) > 1:
        raise DataError(f"{path}: the array {name!r} is in Fortran's order", "save np.ascontiguousarray of it")
    if dtype.hasobject:
        raise DataError(f"{path}: the array {name!r} is pickled (dtype object), and nothing is unpickled", _WANTED)
    if min(shape, default=0) < 1:
        raise DataError(f"{path}: the array {name!r} is empty: its shape is {shape}", _WANTED)
    if prod(shape) * dtype.itemsize != about.file_size - offset:
        raise DataError(f"{path}: the array {name!r} is {dtype} {shape}, which is not what the file holds", _WANTED)
    return _Array(shape, dtype, offset)


def _check_images(path: Path, images: _Array, size: int) -> None:
    """Raise DataError unless images are uint8, of the wanted size, and no more than a file of this size can hold."""
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[3] != CHANNELS:
        raise DataError(f"{path}: `image` is {images.dtype} {images.shape}", _WANTED)
    height, width = images.shape[1:3]
    if (height, width) != (size, size):
        raise DataError(
            f"the images of {path} are {height}x{width}, those of the data set {size}x{size}",
            "resize the images of the file to the size that the network takes",
        )
    if prod(images.shape) > MOST_EXPANSION * regular_stat(path).st_size:
        raise DataError(
            f"{path} would unpack to {prod(images.shape) / 2**30:.1f} GiB, more than {MOST_EXPANSION} times its size",
            "no images can be packed so well: the file is damaged, or made to fill the disk",
        )


def _check_labels(path: Path, labels: _Array, images: int) -> None:
    """Raise DataError unless there is a whole number for each image."""
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise DataError(f"{path}: `label` is {labels.dtype} {labels.shape} for {images} images", _WANTED)


def _read_labels(path: Path, archive: ZipFile, labels: _Array, classes: int) -> Tensor:
    """Return the labels (N,), int64. Raises DataError for one that is none of the classes."""
    with archive.open("label.npy") as stream:
        stream.read(labels.offset)
        stored = np.frombuffer(_exactly(stream, prod(labels.shape) * labels.dtype.itemsize), labels.dtype)
    numbers = torch.from_numpy(stored.astype(np.int64))
    verify_labels(numbers.numpy(), 0, classes - 1, path)
    return numbers


def _read_images(archive: ZipFile, images: _Array, chosen: Tensor) -> Iterator[Tensor]:
    """Yield the chosen images (n, H, W, 3) in blocks. The whole member is read, and so its checksum compared."""
    item = prod(images.shape[1:])
    with archive.open("image.npy") as stream:
        stream.read(images.offset)
        for start, stop in blocks(images.shape[0], item):
            block = torch.frombuffer(bytearray(_exactly(stream, (stop - start) * item)), dtype=torch.uint8)
            here = chosen[(chosen >= start) & (chosen < stop)] - start
            yield block.view(-1, *images.shape[1:])[here]


def _exactly(stream: IO[bytes], count: int) -> bytes:
    """Read exactly so many bytes. Raises EOFError if there are fewer."""
    content = stream.read(count)
    if len(content) != count:
        raise EOFError("it ends early")
    return content
