"""CIFAR-10 and CIFAR-100 from the official files: in the binary layout, or in the python layout that torchvision has.

A record of a binary file is label bytes, then 3072 bytes of pixels, planes R, G, B. The python layout has the same
images in the same order; see ``cifar_batches``.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from rushkit.data.cifar_batches import BatchFile, read_label_names
from rushkit.data.download import Archive, Source, first_folder
from rushkit.data.files import Check, RecordFile, known_split, locate, read_names, verify_labels
from rushkit.data.memory import Split
from rushkit.data.progress import Progress
from rushkit.errors import DataError
from rushkit.paths import is_file, reason

logger = logging.getLogger("rushkit.data")

IMAGE_SIZE = 32
PIXELS = 3 * IMAGE_SIZE * IMAGE_SIZE

# fmt: off
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_COARSE = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)
CIFAR100_FINE = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest",
    "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard",
    "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum",
    "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper",
    "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf",
    "woman", "worm",
)
# fmt: on


@dataclass(frozen=True)
class Labels:
    """One of the kinds of labels.

    Attributes:
        column: Which byte of a binary record.
        names_file: The official list of names, below the root.
        names: The same list, for where the file is missing.
        key: The key of the labels in a batch of the python layout.
        names_key: The key of the names in its list of names.
    """

    column: int
    names_file: str
    names: tuple[str, ...]
    key: str
    names_key: str


@dataclass(frozen=True)
class PythonLayout:
    """The files of the python layout.

    Attributes:
        url: Official address of the archive.
        md5: Official checksum of the archive.
        parts: The files of each split, in order.
        names_file: The list of names, below the root.
    """

    url: str
    md5: str
    parts: Mapping[str, tuple[BatchFile, ...]]
    names_file: str

    @property
    def folder(self) -> str:
        """The folder of the files, below the root."""
        return self.names_file.partition("/")[0]

    @property
    def archive(self) -> Archive:
        """The archive with every file of every split."""
        return Archive(self.url, self.md5, _joined(self.parts), (self.names_file,))

    def is_archive(self, path: Path) -> bool:
        """Return whether a file is the archive of this layout, by its name or by what is in it."""
        try:
            return path.name == self.archive.filename or first_folder(path) == self.folder
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason(error)}", "check its permissions") from error


@dataclass(frozen=True)
class Layout:
    """The files of one of the two data sets.

    Attributes:
        name: The registered name.
        url: Official address of the archive of the binary layout.
        md5: Official checksum of that archive.
        parts: The binary files of each split, in order.
        labels: The kinds of labels; the first is the default.
        python: The same images in the python layout.
        first_labels: First labels (of the first kind) of some official files, which tell the official order.
    """

    name: str
    url: str
    md5: str
    parts: Mapping[str, tuple[RecordFile, ...]]
    labels: Mapping[str, Labels]
    python: PythonLayout
    first_labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def archive(self) -> Archive:
        """The archive with every file of every split."""
        names_files = tuple(kind.names_file for kind in self.labels.values())
        return Archive(self.url, self.md5, _joined(self.parts), names_files)

    @property
    def folders(self) -> tuple[str, str]:
        """The folders of the binary and of the python layout, below the root."""
        return _joined(self.parts)[0].path.partition("/")[0], self.python.folder


File = TypeVar("File")


def _joined(parts: Mapping[str, tuple[File, ...]]) -> tuple[File, ...]:
    return tuple(file for part in parts.values() for file in part)


_BIN, _PY = "cifar-10-batches-bin", "cifar-10-batches-py"
_KEYS = {"fine": ("labels", 10)}
CIFAR10 = Layout(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    parts={
        "train": tuple(RecordFile(f"{_BIN}/data_batch_{i}.bin", 1 + PIXELS, 10_000) for i in range(1, 6)),
        "test": (RecordFile(f"{_BIN}/test_batch.bin", 1 + PIXELS, 10_000),),
    },
    labels={"fine": Labels(0, f"{_BIN}/batches.meta.txt", CIFAR10_CLASSES, "labels", "label_names")},
    python=PythonLayout(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        parts={
            "train": tuple(BatchFile(f"{_PY}/data_batch_{i}", 10_000, _KEYS) for i in range(1, 6)),
            "test": (BatchFile(f"{_PY}/test_batch", 10_000, _KEYS),),
        },
        names_file=f"{_PY}/batches.meta",
    ),
    first_labels={
        f"{_BIN}/data_batch_1.bin": (6, 9, 9, 4, 1, 1, 2, 7, 8, 3),
        f"{_BIN}/test_batch.bin": (3, 8, 8, 0, 6, 6, 1, 6, 3, 1),
    },
)

_BIN100, _PY100 = "cifar-100-binary", "cifar-100-python"
_KEYS100 = {"fine": ("fine_labels", 100), "coarse": ("coarse_labels", 20)}
CIFAR100 = Layout(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    parts={
        "train": (RecordFile(f"{_BIN100}/train.bin", 2 + PIXELS, 50_000),),
        "test": (RecordFile(f"{_BIN100}/test.bin", 2 + PIXELS, 10_000),),
    },
    labels={
        "fine": Labels(1, f"{_BIN100}/fine_label_names.txt", CIFAR100_FINE, "fine_labels", "fine_label_names"),
        "coarse": Labels(
            0, f"{_BIN100}/coarse_label_names.txt", CIFAR100_COARSE, "coarse_labels", "coarse_label_names"
        ),
    },
    python=PythonLayout(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        parts={
            "train": (BatchFile(f"{_PY100}/train", 50_000, _KEYS100),),
            "test": (BatchFile(f"{_PY100}/test", 10_000, _KEYS100),),
        },
        names_file=f"{_PY100}/meta",
    ),
    first_labels={f"{_BIN100}/train.bin": (19, 29, 0, 11, 1)},
)


def cifar10(root: str, path: str = ".") -> Cifar:
    """CIFAR-10: 50000 training and 10000 test images of 10 classes, 32x32.

    Args:
        root: The folder of data sets.
        path: Folder that has, or is to have, ``cifar-10-batches-bin/`` or ``cifar-10-batches-py/``; or one of these
            itself, or an official archive. Below the root, or absolute.
    """
    return Cifar(CIFAR10, root, path)


def cifar100(root: str, path: str = ".", labels: Literal["fine", "coarse"] = "fine") -> Cifar:
    """CIFAR-100: 50000 training and 10000 test images of 100 classes in 20 superclasses, 32x32.

    Args:
        root: The folder of data sets.
        path: Folder that has, or is to have, ``cifar-100-binary/`` or ``cifar-100-python/``; or one of these
            itself, or an official archive. Below the root, or absolute.
        labels: The 100 classes, or the 20 superclasses.
    """
    return Cifar(CIFAR100, root, path, labels)


class Cifar:
    """CIFAR-10 or CIFAR-100 under a root, in whichever of the two layouts it is there.

    The binary files come first, then the python ones, then an archive of either on this disk, then the network.
    """

    image_size = IMAGE_SIZE

    def __init__(self, layout: Layout, root: str, path: str = ".", labels: str = "fine") -> None:
        place, archive = locate(root, path, layout.folders)
        is_python = archive is not None and layout.python.is_archive(archive)
        self.name = layout.name
        self.splits = tuple(layout.parts)
        self.source = Source(layout.name, place, layout.archive, None if is_python else archive)
        self.url = layout.url
        self._python = Source(layout.name, place, layout.python.archive, archive if is_python else None)
        self._layout = layout
        self._labels = layout.labels[labels]
        self._kind = labels

    def __repr__(self) -> str:
        return f"Cifar({self.name!r}, root={str(self.source.root)!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in the official list of the layout that is there, or else the built-in ones."""
        kind, binary = self._labels, self.source.root / self._labels.names_file
        pickled = self.source.root / self._layout.python.names_file
        if not is_file(binary) and is_file(pickled):
            return read_label_names(pickled, kind.names_key, len(kind.names))
        return read_names(binary, kind.names)

    def split(self, name: str) -> Split:
        """Read ``train`` or ``test`` into memory: uint8 (N, 3, 32, 32), int64 (N,).

        Raises:
            UsageError: no such split.
            DataError: a file is missing and cannot be downloaded, short or long, has a label out of range, or is no
                plain data.
        """
        import torch

        known_split(self.name, name, self.splits)
        files = self._files(name)
        total = sum(file.records for file in files)
        images = torch.empty(total, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
        labels = torch.empty(total, dtype=torch.int64)
        start = 0
        for file in files:
            pixels, file_labels = self._read(file)
            stop = start + len(pixels)
            images.numpy()[start:stop] = pixels.reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
            labels.numpy()[start:stop] = file_labels[self._kind]
            start = stop
        return Split(images, labels, f"{self.name}/{name}")

    def check(self) -> list[Check]:
        """Check each file: its length, its labels, and whether its records are in the official order."""
        binary, python = self.source.check(), self._python.check()
        folder = self.source.root / self._layout.python.folder
        has_binary, has_python = (any(check.status != "missing" for check in checks) for checks in (binary, python))
        if has_binary or not has_python:
            if not has_binary and (archive := self.source.check_archive() or self._python.check_archive()):
                return [archive]
            checks = self._check_files(self._layout.parts, binary)
            return [*checks, Check(str(folder), "ok", "not read: the binary files are")] if has_python else checks
        return self._check_files(self._layout.python.parts, python)

    def fetch(self, progress: Progress | None = None) -> None:
        """Download what is missing; see ``Source.fetch``."""
        if not all(check.usable for check in self.check()):
            self.source.fetch(progress)

    def _files(self, split: str) -> tuple[RecordFile, ...] | tuple[BatchFile, ...]:
        """Return the files of a split, in the layout that is read; unpack or download them if none is there."""
        binary, python = self._layout.parts[split], self._layout.python.parts[split]
        if self.source.has(binary):
            if self._python.has(python):
                here, other = self._layout.folders
                logger.info("%s is read from %s; %s is there too, and is not read", self.name, here, other)
            return binary
        if not self._python.has(python) and not self.source.local_archive():
            self._python.unpack_local()
        if self._python.has(python):
            return python
        self.source.ensure(binary)
        return binary

    def _read(self, file: RecordFile | BatchFile) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
        """Return the pixels (N, 3072) of a file, and the labels (N,) of each kind. Raises DataError."""
        if isinstance(file, BatchFile):
            return file.read(self.source.root)
        records, labels = file.read(self.source.root), {}
        for name, kind in self._layout.labels.items():
            labels[name] = records[:, kind.column].astype(np.int64)
            verify_labels(labels[name], 0, len(kind.names) - 1, self.source.root / file.path)
        return records[:, -PIXELS:], labels

    def _check_files(
        self, parts: Mapping[str, tuple[RecordFile, ...]] | Mapping[str, tuple[BatchFile, ...]], checks: list[Check]
    ) -> list[Check]:
        """Return the checks of the files of a layout, after a look at what is in them."""
        official = [self._layout.first_labels.get(file.path) for file in _joined(self._layout.parts)]
        files = [file for part in parts.values() for file in part]
        return [
            self._check_labels(file, check, first) if check.usable else check
            for file, check, first in zip(files, checks, official, strict=True)
        ]

    def _check_labels(self, file: RecordFile | BatchFile, check: Check, first: tuple[int, ...] | None) -> Check:
        try:
            _, labels = self._read(file)
        except DataError as error:
            return check._replace(status="wrong", detail=error.message)
        words = f"{file.records} records, complete"
        if first is not None:
            default = next(iter(self._layout.labels))
            is_official = tuple(labels[default][: len(first)].tolist()) == first
            words += ", the official order" if is_official else ", not the official order"
        return check._replace(detail=words)
