"""CIFAR-10 and CIFAR-100 from the official binary files: label bytes, then 3072 bytes of pixels, planes R, G, B.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rushkit.data.download import Archive, Source
from rushkit.data.files import Check, RecordFile, known_split, read_names, verify_labels
from rushkit.data.memory import Split
from rushkit.data.progress import Progress
from rushkit.errors import DataError
from rushkit.paths import expand

if TYPE_CHECKING:
    pass

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
    """One of the label bytes of a record.

    Attributes:
        column: Which byte of the record.
        names_file: The official list of names, below the root.
        names: The same list, for where the file is missing.
    """

    column: int
    names_file: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The files of one of the two data sets.

    Attributes:
        name: The registered name.
        url: Official address of the archive.
        md5: Official checksum of the archive.
        parts: The files of each split, in order.
        labels: The kinds of labels; the first is the default.
        first_labels: First labels (of the first kind) of some official files, which tell the official order.
    """

    name: str
    url: str
    md5: str
    parts: Mapping[str, tuple[RecordFile, ...]]
    labels: Mapping[str, Labels]
    first_labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def archive(self) -> Archive:
        """The archive with every file of every split."""
        files = tuple(file for part in self.parts.values() for file in part)
        return Archive(self.url, self.md5, files, tuple(kind.names_file for kind in self.labels.values()))


_BIN = "cifar-10-batches-bin"
CIFAR10 = Layout(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    parts={
        "train": tuple(RecordFile(f"{_BIN}/data_batch_{i}.bin", 1 + PIXELS, 10_000) for i in range(1, 6)),
        "test": (RecordFile(f"{_BIN}/test_batch.bin", 1 + PIXELS, 10_000),),
    },
    labels={"fine": Labels(0, f"{_BIN}/batches.meta.txt", CIFAR10_CLASSES)},
    first_labels={
        f"{_BIN}/data_batch_1.bin": (6, 9, 9, 4, 1, 1, 2, 7, 8, 3),
        f"{_BIN}/test_batch.bin": (3, 8, 8, 0, 6, 6, 1, 6, 3, 1),
    },
)

_BIN100 = "cifar-100-binary"
CIFAR100 = Layout(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    parts={
        "train": (RecordFile(f"{_BIN100}/train.bin", 2 + PIXELS, 50_000),),
        "test": (RecordFile(f"{_BIN100}/test.bin", 2 + PIXELS, 10_000),),
    },
    labels={
        "fine": Labels(1, f"{_BIN100}/fine_label_names.txt", CIFAR100_FINE),
        "coarse": Labels(0, f"{_BIN100}/coarse_label_names.txt", CIFAR100_COARSE),
    },
    first_labels={f"{_BIN100}/train.bin": (19, 29, 0, 11, 1)},
)


def cifar10(root: str) -> Cifar:
    """CIFAR-10: 50000 training and 10000 test images of 10 classes, 32x32.

    Args:
        root: Folder that has, or is to have, ``cifar-10-batches-bin/``.
    """
    return Cifar(CIFAR10, root)


def cifar100(root: str, labels: Literal["fine", "coarse"] = "fine") -> Cifar:
    """CIFAR-100: 50000 training and 10000 test images of 100 classes in 20 superclasses, 32x32.

    Args:
        root: Folder that has, or is to have, ``cifar-100-binary/``.
        labels: The 100 classes, or the 20 superclasses.
    """
    return Cifar(CIFAR100, root, labels)


class Cifar:
    """CIFAR-10 or CIFAR-100 under a root."""

    image_size = IMAGE_SIZE

    def __init__(self, layout: Layout, root: str, labels: str = "fine") -> None:
        self.name = layout.name
        self.splits = tuple(layout.parts)
        self.source = Source(layout.name, expand(root), layout.archive)
        self.url = layout.url
        self._layout = layout
        self._labels = layout.labels[labels]

    def __repr__(self) -> str:
        return f"Cifar({self.name!r}, root={str(self.source.root)!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in the official list, or else the built-in ones."""
        return read_names(self.source.root / self._labels.names_file, self._labels.names)

    def split(self, name: str) -> Split:
        """Read ``train`` or ``test`` into memory: uint8 (N, 3, 32, 32), int64 (N,).

        Raises:
            UsageError: no such split.
            DataError: a file is missing and cannot be downloaded, short or long, or has a label out of range.
        """
        import torch

        known_split(self.name, name, self.splits)
        files = self._layout.parts[name]
        self.source.ensure(files)
        total = sum(file.records for file in files)
        images = torch.empty(total, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
        labels = torch.empty(total, dtype=torch.int64)
        start = 0
        for file in files:
            records = torch.from_numpy(file.read(self.source.root))
            file_labels = records[:, self._labels.column].long()
            verify_labels(file_labels.numpy(), 0, len(self._labels.names) - 1, self.source.root / file.path)
            stop = start + len(records)
            images[start:stop] = records[:, -PIXELS:].reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
            labels[start:stop] = file_labels
            start = stop
        return Split(images, labels, f"{self.name}/{name}")

    def check(self) -> list[Check]:
        """Check each file: its length, its labels, and whether its records are in the official order."""
        files = self.source.archive.files
        return [
            self._check_labels(file, check) if check.usable else check
            for file, check in zip(files, self.source.check(), strict=True)
        ]

    def fetch(self, progress: Progress | None = None) -> None:
        """Download what is missing; see ``Source.fetch``."""
        self.source.fetch(progress)

    def _check_labels(self, file: RecordFile, check: Check) -> Check:
        first = self._layout.first_labels.get(file.path)
        try:
            records = file.read(self.source.root)
            for kind in self._layout.labels.values():
                verify_labels(records[:, kind.column], 0, len(kind.names) - 1, Path(check.file))
        except DataError as error:
            return check._replace(status="wrong", detail=error.message)
        if first is None:
            return check
        default = next(iter(self._layout.labels.values()))
        official = tuple(records[: len(first), default.column].tolist()) == first
        order = "complete, the official order" if official else "complete, not the official order"
        return check._replace(detail=f"{check.detail}, {order}")
