"""Read arrays from an ``.npz`` file of anybody: nothing in it is unpickled, and no size in it is believed.

The file is a zip of arrays. Sizes are checked before memory is taken, and a file that unpacks to much more than its
size is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rushkit.errors import DataError, first_few
from rushkit.paths import open_file, reason, regular_stat

if TYPE_CHECKING:
    from torch import Tensor

# Images hardly shrink when they are packed: a file that unpacks to this many times its size holds none.
MOST_EXPANSION = 200
# Bytes of labels or names that are read into memory.
MOST_VALUES_BYTES = 2**30
# What a damaged or encrypted member raises.
_UNREADABLE = (BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, ValueError)
# What numpy raises on a header that nobody but an attacker writes.
_BAD_HEADER = (ValueError, TypeError, SyntaxError, TokenError, OverflowError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Array:
    """What the header of an array says, and how many bytes of its member come before the data."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """An opened ``.npz`` file.

    Attributes:
        path: The file, for messages.
        wanted: What should be in it, for hints.
        names: The names of its arrays.
    """

    def __init__(self, path: Path, archive: ZipFile, wanted: str) -> None:
        self.path, self.wanted, self._archive = path, wanted, archive
        members = archive.namelist()
        self.names = tuple(name.removesuffix(".npy") for name in members if name.endswith(".npy"))
        self._members = members

    def array(self, name: str) -> Array:
        """Return what the header of an array says. Raises DataError if it is missing, or not as long as it says."""
        path, wanted = self.path, self.wanted
        if name not in self.names:
            raise DataError(f"{path} has no array {name!r}; it has {first_few(self._members) or 'none'}", wanted)
        about = self._archive.getinfo(f"{name}.npy")
        if about.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise DataError(
                f"{path}: the array {name!r} is packed in an unusual way", "numpy.savez writes what is read here"
            )
        with self._archive.open(about) as stream:
            try:
                # Later versions are for arrays of records, and their headers may take gigabytes.
                if npy.read_magic(stream) != (1, 0):
                    raise ValueError
                shape, fortran, dtype = npy.read_array_header_1_0(stream)
            except _BAD_HEADER as error:
                raise DataError(f"{path}: the array {name!r} has no header that can be read", wanted) from error
            offset = stream.tell()
        if fortran and len(shape) > 1:
            raise DataError(f"{path}: the array {name!r} is in Fortran's order", "save np.ascontiguousarray of it")
        if dtype.hasobject:
            raise DataError(f"{path}: the array {name!r} is pickled (dtype object), and nothing is unpickled", wanted)
        if min(shape, default=0) < 1:
            raise DataError(f"{path}: the array {name!r} is empty: its shape is {shape}", wanted)
        if prod(shape) * dtype.itemsize != about.file_size - offset:
            raise DataError(f"{path}: the array {name!r} is {dtype} {shape}, which is not what the file holds", wanted)
        return Array(name, shape, dtype, offset)

    def check_expansion(self, images: Array) -> None:
        """Raise DataError if images are more than a file of this size can hold."""
        if images.nbytes > MOST_EXPANSION * regular_stat(self.path).st_size:
            raise DataError(
                f"{self.path} would unpack to {images.nbytes / 2**30:.1f} GiB, more than {MOST_EXPANSION} times its "
                "size",
                "no images can be packed so well: the file is damaged, or made to fill the disk",
            )

    def values(self, array: Array) -> NDArray[Any]:
        """Return a whole array: labels or names. Raises DataError where it is too large for these."""
        if array.nbytes > MOST_VALUES_BYTES:
            raise DataError(f"{self.path}: the array {array.name!r} has {array.nbytes} bytes", self.wanted)
        with self._archive.open(f"{array.name}.npy") as stream:
            stream.read(array.offset)
            content = _exactly(stream, array.nbytes)
            # Behind the last byte the checksum is compared.
            stream.read(1)
        return np.frombuffer(content, array.dtype).reshape(array.shape)

    def blocks(self, array: Array, chosen: Tensor) -> Iterator[Tensor]:
        """Yield the chosen items (n, *item shape) of an array of bytes, in blocks and in order.

        The whole member is read, and so its checksum compared.
        """
        import torch

        from rushkit.data.memory import blocks

        item = prod(array.shape[1:])
        with self._archive.open(f"{array.name}.npy") as stream:
            stream.read(array.offset)
            for start, stop in blocks(array.shape[0], item):
                block = torch.frombuffer(bytearray(_exactly(stream, (stop - start) * item)), dtype=torch.uint8)
                here = chosen[(chosen >= start) & (chosen < stop)] - start
                yield block.view(-1, *array.shape[1:])[here]
            stream.read(1)


@contextmanager
def open_npz(path: Path, wanted: str, missing: DataError) -> Iterator[NpzFile]:
    """Open an ``.npz`` file, and turn what a damaged one raises, here or while it is read, into DataError.

    Args:
        path: The file.
        wanted: What should be in it, for hints.
        missing: Raised where there is no such file.
    """
    try:
        with open_file(path) as file, ZipFile(file) as archive:
            yield NpzFile(path, archive, wanted)
    except FileNotFoundError:
        raise missing from None
    except _UNREADABLE as error:
        raise DataError(f"{path} is no .npz file that can be read: {reason(error)}", wanted) from error


def _exactly(stream: IO[bytes], count: int) -> bytes:
    """Read exactly so many bytes. Raises EOFError if there are fewer."""
    content = stream.read(count)
    if len(content) != count:
        raise EOFError("it ends early")
    return content
