"""CIFAR's python layout, as torchvision downloads it: a pickle a batch, read as plain data; see ``pickled``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rushkit.data.files import Check, verify_labels
from rushkit.data.pickled import read_pickled
from rushkit.errors import DataError, shorten
from rushkit.paths import reason, regular_stat

PIXELS = 3 * 32 * 32
# Of an official batch 3104 bytes are an image, its label and the name of its file; written again for Python 2 by
# Python 3 an image takes half as much more.
_MOST_RECORD = 8192
_MOST_NAMES_BYTES = 2**16


class Batch(NamedTuple):
    """The content of a batch: uint8 images (N, 3072), planes R, G, B; int64 labels (N,) of each kind."""

    images: NDArray[np.uint8]
    labels: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class BatchFile:
    """A file of pickled images and labels.

    Attributes:
        path: Below the root, with forward slashes.
        records: How many images it has.
        keys: The key of each kind of labels, and how many classes that has: ``{"fine": ("fine_labels", 100)}``.
    """

    path: str
    records: int
    keys: Mapping[str, tuple[str, int]]

    @property
    def size(self) -> int:
        """The most bytes that the file may have."""
        return _MOST_RECORD * (1 + self.records)

    def check(self, root: Path) -> Check:
        """Check that the file is there; what is in it only ``read`` knows."""
        file = root / self.path
        try:
            return Check(str(file), "ok", f"{regular_stat(file).st_size} bytes")
        except FileNotFoundError:
            return Check(str(file), "missing", f"expected {self.records} images")
        except OSError as error:
            return Check(str(file), "wrong", f"not usable: {reason(error)}")

    def read(self, root: Path) -> Batch:
        """Read the images and the labels.

        Raises:
            DataError: the file is missing, damaged, anything but plain data, or of other images.
        """
        path = root / self.path
        content = _table(path, self.size)
        images = content.get("data")
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != (self.records, PIXELS):
            raise DataError(
                f"{path}: `data` is {_described(images)}, expected uint8 {(self.records, PIXELS)}", _restore(path)
            )
        labels = {}
        for kind, (key, classes) in self.keys.items():
            labels[kind] = _numbers(path, content, key, self.records)
            verify_labels(labels[kind], 0, classes - 1, path)
        return Batch(images, labels)


def read_label_names(path: Path, key: str, count: int) -> tuple[str, ...]:
    """Return the class names in a ``meta`` file.

    Raises:
        DataError: the file is anything but plain data, or has another number of names.
    """
    names = _table(path, _MOST_NAMES_BYTES).get(key)
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{path}: `{key}` is {_described(names)}, expected {count} names", _restore(path))
    return tuple(_text(name) for name in names)


def _table(path: Path, most: int) -> dict[str, Any]:
    """Return the dict of a pickle, with the keys as texts whichever Python has written them."""
    content = read_pickled(path, most)
    if not isinstance(content, dict):
        raise DataError(f"{path} has {_described(content)}, expected a dict with images and labels", _restore(path))
    return {_text(key): value for key, value in content.items()}


def _numbers(path: Path, content: dict[str, Any], key: str, count: int) -> NDArray[np.int64]:
    """Return a list or an array of whole numbers (count,)."""
    stored = content.get(key)
    values = np.asarray(stored) if isinstance(stored, np.ndarray) or _all_whole(stored) else np.empty(0)
    if values.dtype.kind not in "iu" or values.shape != (count,):
        raise DataError(f"{path}: `{key}` is {_described(stored)}, expected {count} whole numbers", _restore(path))
    return values.astype(np.int64)


def _all_whole(stored: object) -> bool:
    limit = 2**31
    return isinstance(stored, list) and all(type(value) is int and -limit <= value < limit for value in stored)


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _described(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | dict) else shorten(repr(value), 60)


def _restore(path: Path) -> str:
    return f"the file is altered or not of this data set: delete {path.name}, and unpack the official archive again"
