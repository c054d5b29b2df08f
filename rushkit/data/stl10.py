"""STL-10 from the official binary files: 96x96 images stored column by column, labels 1..10, 100000 without labels.

A. Coates, H. Lee, A. Y. Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.
https://cs.stanford.edu/~acoates/stl10/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from rushkit.data.cache import Notes, cached, fingerprint, map_file, part_of, place_of
from rushkit.data.download import Archive, Source
from rushkit.data.files import Check, RecordFile, known_split, locate, read_names, verify_labels
from rushkit.data.memory import Choice, Split, blocks, resize
from rushkit.data.picture import check_image_size
from rushkit.data.progress import Progress, reporting
from rushkit.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SIZE = 96
PIXELS = 3 * IMAGE_SIZE * IMAGE_SIZE
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

_BIN = "stl10_binary"
# A cut file is usable: the unlabelled images take 2.8 GB, and a part of them is enough to try things.
IMAGES = {
    "train": RecordFile(f"{_BIN}/train_X.bin", PIXELS, 5_000, any_count=True),
    "test": RecordFile(f"{_BIN}/test_X.bin", PIXELS, 8_000, any_count=True),
    "unlabeled": RecordFile(f"{_BIN}/unlabeled_X.bin", PIXELS, 100_000, any_count=True),
}
LABELS = {
    "train": RecordFile(f"{_BIN}/train_y.bin", 1, 5_000, any_count=True),
    "test": RecordFile(f"{_BIN}/test_y.bin", 1, 8_000, any_count=True),
}
ARCHIVE = Archive(
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    md5="91f7769df0f17e558f3565bffb0c7dfb",
    files=(*IMAGES.values(), *LABELS.values()),
    extras=(f"{_BIN}/class_names.txt",),
)


def stl10(root: str, path: str = ".", image_size: int = IMAGE_SIZE) -> STL10:
    """STL-10: 5000 training and 8000 test images of 10 classes, 100000 unlabelled ones, 96x96.

    Args:
        root: The folder of data sets.
        path: Folder that has, or is to have, ``stl10_binary/``; or that folder itself, or the official archive. Below
            the root, or absolute.
        image_size: Height and width that the images are resized to, with antialiasing; the resized copy is cached.

    Raises:
        UsageError: an image size below 1, or above ``MOST_SIDE``.
    """
    place, archive = locate(root, path, (_BIN,))
    return STL10(Source("stl10", place, ARCHIVE, archive), check_image_size(image_size))


class STL10:
    """STL-10 under a root."""

    name = "stl10"
    splits = tuple(IMAGES)
    url = ARCHIVE.url
    stored_size = IMAGE_SIZE

    def __init__(self, source: Source, image_size: int) -> None:
        self.image_size = image_size
        self.source = source

    def __repr__(self) -> str:
        return f"STL10(root={str(self.source.root)!r}, image_size={self.image_size})"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in the official list, or else the built-in ones."""
        return read_names(self.source.root / _BIN / "class_names.txt", CLASSES)

    def split(self, name: str, choose: Choice | None = None) -> Split:
        """Read ``train``, ``test`` or ``unlabeled``: uint8 (N, 3, S, S) mapped from a file, int64 (N,) from 0, or None.

        Args:
            name: One of ``splits``.
            choose: Which of its images; only these are resized.

        Raises:
            UsageError: no such split.
            DataError: a file is missing and cannot be downloaded, or is cut, or has a label out of range; the cache
                cannot be written.
        """
        known_split(self.name, name, self.splits)
        files = (IMAGES[name], LABELS[name]) if name in LABELS else (IMAGES[name],)
        self.source.ensure(files)
        path = IMAGES[name].verify(self.source.root)
        images, labels = _map_images(path), self._labels(name) if name in LABELS else None
        if labels is not None and len(labels) != len(images):
            raise DataError(
                f"{self.source.root / IMAGES[name].path} has {len(images)} images, and "
                f"{self.source.root / LABELS[name].path} has {len(labels)} labels",
                "restore the one that is cut",
            )
        split = Split(images, labels, f"{self.name}/{name}")
        chosen = choose(len(split), labels) if choose else None
        if chosen is not None:
            split = split.take(chosen)
        return replace(split, images=self._resized(cast("Tensor", split.images), path, name, chosen))

    def check(self) -> list[Check]:
        """Check each file: its length, and the range of its labels."""
        checks = self.source.check()
        if all(check.status == "missing" for check in checks) and (archive := self.source.check_archive()):
            return [archive]
        for index, file in enumerate(ARCHIVE.files):
            if isinstance(file, RecordFile) and file in LABELS.values() and checks[index].usable:
                try:
                    _read_labels(file, self.source.root)
                except DataError as error:
                    checks[index] = checks[index]._replace(status="wrong", detail=error.message)
        return checks

    def fetch(self, progress: Progress | None = None) -> None:
        """Download what is missing, or unpack the archive on this disk; see ``Source.fetch``."""
        self.source.fetch(progress)

    def _labels(self, name: str) -> Tensor:
        import torch

        return torch.from_numpy(_read_labels(LABELS[name], self.source.root)).long() - 1

    def _resized(self, images: Tensor, path: Path, name: str, chosen: Tensor | None) -> Tensor:
        """Return the images at the requested size, from the cache where it has them."""
        if self.image_size == IMAGE_SIZE:
            return images

        def build(notes: Notes) -> Iterator[Tensor]:
            with reporting(f"resizing {self.name}/{name} to {self.image_size}x{self.image_size}") as report:
                for start, stop in blocks(len(images), 4 * 3 * max(IMAGE_SIZE, self.image_size) ** 2):
                    yield resize(images[start:stop], self.image_size)
                    report(stop, len(images))

        about = path.stat()
        part = "" if chosen is None else f"{part_of(chosen)}-"
        source = fingerprint([(path.name, about.st_size, about.st_mtime_ns)], self.image_size, part)
        stem = f"stl10-{name}-{self.image_size}-{part}{place_of(path)}"
        return cached(stem, source, (3, self.image_size, self.image_size), build).images


def _map_images(path: Path) -> Tensor:
    """uint8 (N, 3, 96, 96), mapped. The file goes down each column before it goes to the next: its third axis is the
    width.
    """
    return map_file(path, (path.stat().st_size // PIXELS, 3, IMAGE_SIZE, IMAGE_SIZE)).transpose(2, 3)


def _read_labels(file: RecordFile, root: Path) -> NDArray[np.uint8]:
    labels = file.read(root).flatten()
    verify_labels(labels, 1, len(CLASSES), root / file.path)
    return labels
