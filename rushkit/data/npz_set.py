"""A data set in an ``.npz`` file: arrays of images and of labels, under the names that people give them.

The file may come from anybody; see ``npz_file``.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rushkit.data.cache import cached, fingerprint, place_of
from rushkit.data.files import Check, known_split
from rushkit.data.memory import Choice, Split, resize
from rushkit.data.named_splits import Part, arranged, check_holdout, split_word
from rushkit.data.npz_file import Array, NpzFile, open_npz
from rushkit.data.picture import Fit, check_image_size
from rushkit.data.squares import squared, with_channels
from rushkit.errors import DataError, first_few, shorten
from rushkit.paths import exists, expand, regular_stat

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_WORDS = frozenset({"image", "images", "img", "imgs", "x", "data", "pixels"})
LABEL_WORDS = frozenset({"label", "labels", "y", "target", "targets"})
NAME_KEYS = ("classes", "class_names", "label_names")
CHANNELS = (1, 3, 4)
_WANTED = (
    "it takes images (uint8, N x H x W, N x H x W x C or N x C x H x W) and labels (whole numbers, N), called images "
    "and labels, x_train, y_train, x_test and y_test, or train_images, train_labels and so on"
)


def npz(
    root: str,
    path: str = "",
    image_size: int = 0,
    channels: Literal[0, 1, 3, 4] = 0,
    fit: Fit = "crop",
    holdout: float = 0.2,
) -> Npz:
    """Return the data set in an ``.npz`` file of arrays, as ``numpy.savez`` writes it.

    Args:
        root: The folder of data sets.
        path: The file, below the root or absolute.
        image_size: Height and width that the images are resized to, with antialiasing; 0: those of the file.
        channels: 0: as many as the file has; 3: grey images become RGB by three equal channels, and opacity is dropped.
        fit: How images that are not square become so: ``crop`` keeps the centre, ``pad`` adds black bars, ``stretch``
            distorts them.
        holdout: The share of each class that becomes ``test`` where neither the arrays nor the file are called like a
            split; 0 and 1 make all of them ``train`` and ``test``.

    Raises:
        UsageError: an image size below 0 or above ``MOST_SIDE``, a share outside [0, 1].
    """
    place = expand(root) / expand(path) if path else None
    return Npz(place, check_image_size(image_size, least=0), channels, fit, holdout)


class _Pair(NamedTuple):
    """The names of the arrays of one split; ``labels`` is empty where it has none."""

    images: str
    labels: str


class Npz:
    """Arrays of images and labels in a file; nothing is read before it is needed."""

    def __init__(self, path: Path | None, size: int, channels: int, fit: Fit, holdout: float) -> None:
        self.path = path or Path("npz")
        self.name = self.path.stem
        self._is_named = path is not None
        self._size, self._channels, self._fit, self._holdout = size, channels, fit, check_holdout(holdout)

    def __repr__(self) -> str:
        return f"Npz({str(self.path)!r})"

    @cached_property
    def _parts(self) -> dict[str, Part[_Pair]]:
        with self._open() as file:
            found = _pairs(file)
        return arranged(found, self.path.stem, self._holdout, str(self.path))

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that the arrays' names tell of, or ``train`` and ``test``."""
        return tuple(self._parts)

    @cached_property
    def _labels(self) -> dict[str, NDArray[Any]]:
        """The labels (N,) of each pair of arrays, by the name of the array of images: whole numbers or texts."""
        with self._open() as file:
            pairs = {part.source for part in self._parts.values()}
            return {pair.images: _read_labels(file, pair) for pair in sorted(pairs) if pair.labels}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names in the file, or the labels that are texts in the order of text, or the numbers from 0 on.

        Raises:
            DataError: the file cannot be read, or its labels are not of classes.
        """
        with self._open() as file:
            named = next((key for key in NAME_KEYS if key in file.names), "")
            names = _texts(file, named) if named else ()
        labels = list(self._labels.values())
        if not labels:
            return names
        if labels[0].dtype.kind == "U":
            return tuple(sorted({str(name) for part in labels for name in np.unique(part)}))
        low, high = min(int(part.min()) for part in labels), max(int(part.max()) for part in labels)
        if low < 0 or high >= (len(names) or 2**20):
            raise DataError(
                f"{self.path} has label {low if low < 0 else high}, outside 0..{(len(names) or 2**20) - 1}", _WANTED
            )
        return names or tuple(map(str, range(high + 1)))

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the images in the file."""
        with self._open() as file:
            shapes = {part.source.images: _layout(file, part.source.images).shape for part in self._parts.values()}
        if len(set(shapes.values())) > 1:
            raise DataError(
                f"{self.path} has images of several shapes: {first_few([f'{n} {s}' for n, s in shapes.items()])}",
                "bring them to one shape (C, H, W)",
            )
        return next(iter(shapes.values()))

    @property
    def channels(self) -> int:
        """The number asked for, or that of the images of the file."""
        return self._channels or self._shape[0]

    @property
    def image_size(self) -> int:
        """The size asked for, or that of the images of the file. Raises DataError where these are not square."""
        _, height, width = self._shape
        if not self._size and height != width:
            raise DataError(
                f"the images of {self.path} are {width}x{height}, not square",
                f"--set data.image_size={min(height, width)} brings them to one size",
            )
        return self._size or height

    @property
    def stored_size(self) -> int:
        """The side of the images in the file; 0 where they are not square."""
        _, height, width = self._shape
        return height if height == width else 0

    def split(self, name: str, choose: Choice | None = None) -> Split:
        """Return a split, from the cache where it is there: uint8 (N, C, S, S), int64 (N,) or None.

        Args:
            name: One of ``splits``.
            choose: Which of its images; only these are resized.

        Raises:
            UsageError: no such split.
            DataError: the file is missing or damaged, or holds something else; the cache cannot be written.
        """
        import torch

        known_split(self.name, name, self.splits)
        part, classes, size = self._parts[name], self.classes, self.image_size
        stored = self._labels.get(part.source.images)
        labels = None if stored is None else torch.from_numpy(_numbers(stored, classes))
        images = self._images(part.source.images)
        if labels is not None and len(labels) != len(images):
            raise DataError(f"{self.path}: {len(labels)} labels for {len(images)} images of {name}", _WANTED)
        indices = part.indices(len(images), labels, self._holdout, str(self.path))
        count, mine = (len(images), labels) if indices is None else (len(indices), _at(labels, indices))
        if choose and (chosen := choose(count, mine)) is not None:
            indices = chosen if indices is None else indices[chosen]
        if indices is not None:
            images, labels = images[indices], _at(labels, indices)
        images = squared(with_channels(images, self.channels, str(self.path)), self._fit)
        return Split(resize(images, size), labels, f"{self.name}/{name}")

    def sizes(self, name: str) -> Counter[tuple[int, int]]:
        """Return how many images of the arrays of a split have each (width, height), which is one and the same."""
        _, height, width = self._shape
        with self._open() as file:
            return Counter({(width, height): file.array(self._parts[name].source.images).shape[0]})

    def check(self) -> list[Check]:
        """Read every array once: its shape, its labels and its checksum."""
        try:
            counts = {name: len(self.split(name)) for name in self.splits}
        except DataError as error:
            there = self._is_named and exists(self.path)
            return [Check(str(self.path), "wrong" if there else "missing", error.message)]
        return [Check(str(self.path), "ok", ", ".join(f"{name}: {count} images" for name, count in counts.items()))]

    def _open(self) -> AbstractContextManager[NpzFile]:
        hint = "--set data.path=... names the file, below the folder of data sets or absolute"
        if not self._is_named:
            raise DataError("no .npz file is named", hint)
        return open_npz(self.path, _WANTED, DataError(f"there is no file {self.path}", hint))

    def _images(self, key: str) -> Tensor:
        """Return an array of images as it is in the file, in the cache: uint8 (N, C, H, W)."""
        import torch

        with self._open() as file:
            layout = _layout(file, key)
            about = regular_stat(self.path)
            source = fingerprint([(str(self.path), about.st_size, about.st_mtime_ns)], "npz", key, layout.first)
            everything = torch.arange(layout.array.shape[0])
            found = cached(
                f"{self.path.name}-{place_of(self.path)}-{key}",
                source,
                layout.array.shape[1:],
                lambda _: file.blocks(layout.array, everything),
            )
        images = found.images
        if images.ndim == 3:
            return images.unsqueeze(1)
        return images if layout.first else images.permute(0, 3, 1, 2)


class _Layout(NamedTuple):
    """An array of images: its header, the shape (C, H, W) of an image, and whether the channels come first."""

    array: Array
    shape: tuple[int, int, int]
    first: bool


def _pairs(file: NpzFile) -> dict[str, _Pair]:
    """Return the arrays of images and labels of each split; under "" those whose names tell of none."""
    images: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name in file.names:
        words = set(name.lower().replace("-", "_").split("_"))
        for kinds, found in ((IMAGE_WORDS, images), (LABEL_WORDS, labels)):
            if words & kinds and name not in NAME_KEYS:
                if (other := found.setdefault(split_word(name), name)) != name:
                    raise DataError(
                        f"{file.path} has two arrays for one thing: {shorten(other)} and {shorten(name)}", _WANTED
                    )
                break
    if not images:
        raise DataError(f"{file.path} has no images: its arrays are {first_few(file.names, 8) or 'none'}", _WANTED)
    return {split: _Pair(name, labels.get(split, "")) for split, name in images.items()}


def _layout(file: NpzFile, name: str) -> _Layout:
    """Return what an array of images is. Raises DataError unless it is uint8 of a shape that tells the channels."""
    array = file.array(name)
    shape, where = array.shape, f"{file.path}: `{shorten(name)}`"
    if array.dtype.kind == "f":
        raise DataError(
            f"{where} is {array.dtype} {shape}: images are 8-bit",
            f"of pixels in [0, 1]: ({shorten(name)} * 255).round().astype('uint8')",
        )
    if array.dtype != np.uint8 or len(shape) not in (3, 4):
        raise DataError(f"{where} is {array.dtype} {shape}", _WANTED)
    file.check_expansion(array)
    if len(shape) == 3:
        return _Layout(array, (1, shape[1], shape[2]), True)
    ways = [way for way in (False, True) if shape[1 if way else 3] in CHANNELS]
    if len(ways) == 2:
        # Of two readings the one with square images.
        square = [way for way in ways if (shape[2] == shape[3] if way else shape[1] == shape[2])]
        ways = square if len(square) == 1 else ways
    if len(ways) != 1:
        why = "no channels" if not ways else "channels in either place"
        raise DataError(f"{where} has the shape {shape}, with {why}", _WANTED)
    if ways[0]:
        return _Layout(array, (shape[1], shape[2], shape[3]), True)
    return _Layout(array, (shape[3], shape[1], shape[2]), False)


def _read_labels(file: NpzFile, pair: _Pair) -> NDArray[Any]:
    """Return labels (N,), int64 or texts. Rows with a single 1 among zeros are the number of its column."""
    array, images = file.array(pair.labels), file.array(pair.images)
    where = f"{file.path}: `{shorten(pair.labels)}` is {array.dtype} {array.shape}"
    if array.shape[0] != images.shape[0] or len(array.shape) > 2:
        raise DataError(f"{where} for {images.shape[0]} images", _WANTED)
    values = file.values(array)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        if values.dtype.kind not in "biuf" or not (
            ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()
        ):
            raise DataError(
                f"{where}: it has no single class for each image",
                "of scores or several labels an image, keep one: labels.argmax(1)",
            )
        values = values.argmax(1)
    if values.dtype.kind in "US":
        return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
    if values.dtype.kind not in "iu":
        raise DataError(f"{where}: labels are whole numbers", "labels.astype('int64') where they are whole")
    if values.dtype.itemsize == 8 and values.dtype.kind == "u" and (values > 2**62).any():
        raise DataError(f"{where}: it has labels beyond 2**62", _WANTED)
    return values.astype(np.int64)


def _numbers(labels: NDArray[Any], classes: tuple[str, ...]) -> NDArray[np.int64]:
    if labels.dtype.kind != "U":
        return labels
    return np.searchsorted(np.array(classes), labels).astype(np.int64)


def _texts(file: NpzFile, name: str) -> tuple[str, ...]:
    values = file.values(file.array(name))
    if values.ndim != 1 or values.dtype.kind not in "US":
        raise DataError(f"{file.path}: `{name}` is {values.dtype} {values.shape}, expected a list of names", _WANTED)
    return tuple(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)


def _at(labels: Tensor | None, indices: Tensor) -> Tensor | None:
    return None if labels is None else labels[indices]
