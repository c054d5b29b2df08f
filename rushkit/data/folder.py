"""A folder of images: ``train/`` and ``test/``, a folder a class in each; or images without class folders.

Images are decoded once into a cache that is mapped into memory, so that a folder may be larger than memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rushkit.data.cache import Notes, cached, find_cached, fingerprint, part_of, place_of
from rushkit.data.files import Check, known_split
from rushkit.data.memory import BLOCK_BYTES, Choice, Split
from rushkit.data.picture import ImageFault, Room, check_image_size, open_image, own_bounds, read_picture, unreadable
from rushkit.data.progress import Progress, reporting
from rushkit.data.scan import SUFFIXES, ImageFile, LeftOut, describe_left_out, is_hidden, scan
from rushkit.errors import DataError, UsageError, first_few, showable
from rushkit.paths import expand, is_folder, reason

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_IMAGES = 4096
# What `data check` lists of a split one by one.
MOST_LISTED = 20

logger = logging.getLogger("rushkit.data")


def folder(root: str, path: str = ".", image_size: int = 0, on_unreadable: Literal["stop", "skip"] = "stop") -> Folder:
    """Return a data set of images in your own folders.

    Args:
        root: The folder of data sets.
        path: This data set, below the root or absolute.
        image_size: Height and width. 0: every image must have the one, square size of the first. Otherwise the shorter
            side of each image is resized to it with antialiasing, and the centre is kept.
        on_unreadable: Whether an image that cannot be decoded stops the reading, or is left out, logged and counted.

    Raises:
        UsageError: an image size below 0 or above ``MOST_SIDE``.
    """
    return Folder(expand(root) / expand(path), check_image_size(image_size, least=0), on_unreadable)


@dataclass(frozen=True)
class Listing:
    """The images of one split, sorted by class and path; ``labelled`` where they lie in class folders.

    Attributes:
        folder: The split's folder.
        images: What is read.
        left_out: What looks as if it had images too, and is not read.
    """

    folder: Path
    images: tuple[ImageFile, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def labelled(self) -> bool:
        """Whether the images lie in class folders."""
        return bool(self.images[0].class_name)


class Folder:
    """Class folders of images under ``path``; nothing is read before it is needed."""

    def __init__(self, path: Path, image_size: int, on_unreadable: str) -> None:
        self.path = path
        self.name = path.resolve().name or "folder"
        self._image_size = image_size
        self._skips = on_unreadable == "skip"
        self._listings: dict[str, Listing] = {}

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r})"

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The folders under the path, ``train`` and ``test`` first.

        Raises:
            DataError: there is neither of these two, or another is a link to the training images.
        """
        try:
            names = sorted(path.name for path in self.path.iterdir() if self._is_split(path))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path} cannot be listed: {reason(error)}",
                "RUSHKIT_DATA names the folder of data sets, --set data.path=... the one in it with train/ and test/",
            ) from error
        if "train" not in names and "test" not in names:
            raise DataError(
                f"{self.path} has neither train/ nor test/",
                "put the class folders of a split into train/ or test/; --set data.path=... names another folder",
            )
        if "train" in names:
            train = self._target("train")
            if twin := next((name for name in names if name != "train" and train == self._target(name)), None):
                raise DataError(
                    f"{self.path / twin} is the same folder as {self.path / 'train'}",
                    f"what is measured on it would be measured on training images: put others into {twin}/, or remove "
                    "the link",
                )
        return tuple(name for name in ("train", "test") if name in names) + tuple(
            name for name in names if name not in ("train", "test")
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class folders of the first split that has some; empty where none has."""
        for name in self.splits:
            listing = self._listing(name)
            if listing.labelled:
                return tuple(sorted({image.class_name for image in listing.images}))
        return ()

    @cached_property
    def image_size(self) -> int:
        """The size asked for, or that of the first image that can be opened."""
        return self._image_size or self._size_of_first()

    @property
    def stored_size(self) -> int:
        """The size of the images where they are taken as they are; where the first is resized, 0: each has its own."""
        if not self._image_size:
            return self.image_size
        try:
            return self._image_size if self._size_of_first() == self._image_size else 0
        except DataError:
            return 0

    def split(self, name: str, choose: Choice | None = None) -> Split:
        """Read a split, from the cache where it is there: uint8 (N, 3, S, S) mapped from a file, int64 (N,) or None.

        Args:
            name: One of ``splits``.
            choose: Which of its images; only these are decoded. The choice is among all image files, so that of chosen
                ones that cannot be decoded and are skipped, others do not take the place.

        Raises:
            UsageError: no such split.
            DataError: no images, an unreadable one (unless skipped), one of another size where image_size is 0, a
                class that the training split does not have; the cache cannot be written.
        """
        known_split(f"the folder {self.path}", name, self.splits)
        listing = self._listing(name)
        labels = self._labels(listing)
        chosen = choose(len(listing.images), labels) if choose else None
        images, skipped = self._images(name, listing, chosen)
        if chosen is not None:
            listing = _chosen(listing, chosen)
            labels = None if labels is None else labels[chosen]
        if skipped and labels is not None:
            labels = labels[_all_but(skipped, len(labels))]
        if skipped:
            named = first_few([listing.images[index].path for index in skipped[:5]], 5, len(skipped))
            logger.warning("%s", showable(f"{listing.folder}: {len(skipped)} images skipped, unreadable: {named}"))
        if left_out := listing.left_out:
            words = f"{listing.folder}: {len(left_out)} left out: {describe_left_out(left_out)}"
            logger.warning("%s", showable(words))
        return Split(images, labels, f"{self.name}/{name}", len(skipped))

    def check(self) -> list[Check]:
        """Decode every image; return one entry for each split, and one for each file in it that cannot be used."""
        try:
            splits = self.splits
        except DataError as error:
            return [Check(str(self.path), "wrong" if is_folder(self.path) else "missing", error.message)]
        return [check for name in splits for check in self._check_split(name)]

    def _check_split(self, name: str) -> list[Check]:
        try:
            listing, size = self._listing(name), self.image_size
            self._numbers(listing)
        except DataError as error:
            return [Check(str(self.path / name), "wrong", error.message)]
        faults = [
            Check(str(listing.folder / image.path), "partial" if self._skips else "wrong", str(found))
            for image, found in self._decoded(listing, size)
            if isinstance(found, DataError)
        ]
        words = f"{len(listing.images)} images" + (f", {len(faults)} of them unusable" if faults else "")
        omitted = [Check(str(listing.folder / path), "partial", f"left out: {why}") for path, why in listing.left_out]
        if omitted:
            words += f", {len(omitted)} left out"
        if len(omitted) > MOST_LISTED:
            more = f"{len(omitted) - MOST_LISTED} more are left out"
            omitted = [*omitted[:MOST_LISTED], Check(str(listing.folder), "partial", more)]
        return [Check(str(listing.folder), "partial" if faults or omitted else "ok", words), *faults, *omitted]

    def fetch(self, progress: Progress | None = None) -> None:
        """Raise UsageError: the images are the user's to bring."""
        raise UsageError(
            "a folder of images cannot be downloaded", f"put class folders under {self.path / 'train'} and test/"
        )

    def _target(self, name: str) -> str:
        return os.path.realpath(self.path / name)

    def _is_split(self, path: Path) -> bool:
        """Return whether a path is a folder, and not a link to this one or one above it."""
        here = Path(os.path.realpath(self.path))
        return not is_hidden(path.name) and is_folder(path) and not here.is_relative_to(os.path.realpath(path))

    def _listing(self, name: str) -> Listing:
        if name not in self._listings:
            top = self.path / name
            contents = scan(top)
            if not contents.images:
                without = f": {describe_left_out(contents.left_out)}" if contents.left_out else ""
                raise DataError(
                    f"{top} has no images{without}", f"their names must end in one of {' '.join(sorted(SUFFIXES))}"
                )
            if not contents.images[0].class_name:
                _check_unlabelled(top, contents.images)
            elif contents.empty_classes:
                raise _empty(top, contents.empty_classes, contents.left_out)
            self._listings[name] = Listing(top, contents.images, contents.left_out)
        return self._listings[name]

    def _labels(self, listing: Listing) -> Tensor | None:
        import torch

        numbers = self._numbers(listing)
        return None if numbers is None else torch.tensor(numbers)

    def _numbers(self, listing: Listing) -> list[int] | None:
        """Return the label of each image; None where they lie in no class folders."""
        if not listing.labelled:
            return None
        index = {name: label for label, name in enumerate(self.classes)}
        if unknown := sorted({image.class_name for image in listing.images} - index.keys()):
            raise DataError(
                f"{listing.folder} has a class that the training images do not have: {', '.join(unknown)}",
                f"the classes are {', '.join(self.classes)}",
            )
        return [index[image.class_name] for image in listing.images]

    def _size_of_first(self) -> int:
        listing = self._listing(self.splits[0])
        for image in listing.images:
            path = listing.folder / image.path
            try:
                with own_bounds(), open_image(path) as opened:
                    width, height = opened.size
            except Exception as error:
                if self._skips:
                    continue
                raise unreadable(path, error) from error
            if width != height:
                raise DataError(
                    f"{path} is {width}x{height}, not square",
                    f"--set data.image_size={min(width, height)} brings all images to one size",
                )
            return width
        raise DataError(
            f"{listing.folder} has no image that can be read", "`rushkit data check folder` lists what is wrong"
        )

    def _images(self, name: str, listing: Listing, chosen: Tensor | None) -> tuple[Tensor, list[int]]:
        """Return a split's images, or the chosen ones, and the indices that are skipped; decode what is not cached."""
        import torch

        size = self.image_size
        stem, shape = f"{self.name}-{name}-{size}-{place_of(listing.folder)}", (3, size, size)
        settings = (size, self._image_size > 0, self._skips)
        if chosen is not None:
            whole = find_cached(stem, fingerprint(listing.images, *settings), shape)
            if whole is not None:
                readable = _all_but(whole.notes["skipped"], len(listing.images))
                skipped = torch.nonzero(~readable[chosen]).flatten().tolist()
                places = (readable.cumsum(0) - 1)[chosen[readable[chosen]]]
                return Split(whole.images, None, name).take(places).images, skipped
            listing = _chosen(listing, chosen)
            stem += f"-{part_of(chosen)}"
        source = fingerprint(listing.images, *settings)
        stored = cached(stem, source, shape, lambda notes: self._decode_all(listing, size, notes))
        return stored.images, stored.notes["skipped"]

    def _decode_all(self, listing: Listing, size: int, notes: Notes) -> Iterator[Tensor]:
        """Yield blocks of decoded images in order; ``notes["skipped"]`` lists the indices that are left out."""
        skipped: list[int] = []
        kept: list[np.ndarray] = []
        with reporting(f"decoding {listing.folder}") as report:
            for index, (_, found) in enumerate(self._decoded(listing, size)):
                if isinstance(found, np.ndarray):
                    kept.append(found)
                elif self._skips and found.skippable:
                    skipped.append(index)
                else:
                    raise found
                if kept and (len(kept) + 1) * kept[0].nbytes > BLOCK_BYTES:
                    yield _block(kept)
                    kept = []
                report(index + 1, len(listing.images))
        if kept:
            yield _block(kept)
        if len(skipped) == len(listing.images):
            raise DataError(
                f"{listing.folder} has no image that can be read", "`rushkit data check folder` lists what is wrong"
            )
        notes["skipped"] = skipped

    def _decoded(self, listing: Listing, size: int) -> Iterator[tuple[ImageFile, np.ndarray | ImageFault]]:
        """Yield every image in order, or what is wrong with it; all cores decode, as far as memory allows."""
        room = Room()

        def decode(image: ImageFile) -> np.ndarray | ImageFault:
            try:
                return read_picture(listing.folder / image.path, size, room, self._image_size > 0).pixels
            except ImageFault as fault:
                return fault

        # Threads: Pillow lets go of the interpreter while it decodes and resizes. By blocks, to bound the memory.
        step = max(1, min(BLOCK_IMAGES, BLOCK_BYTES // (3 * size * size)))
        with own_bounds(), ThreadPoolExecutor(min(step, os.cpu_count() or 1)) as pool:
            for start in range(0, len(listing.images), step):
                block = listing.images[start : start + step]
                yield from zip(block, pool.map(decode, block), strict=True)


def _check_unlabelled(top: Path, images: tuple[ImageFile, ...]) -> None:
    """Raise DataError if a split has images both inside and outside of class folders."""
    if images[-1].class_name:
        raise DataError(
            f"{top} has images beside its class folders: {images[0].path}",
            "move it into a class folder, or all images out of theirs for a split without labels",
        )


def _empty(top: Path, classes: tuple[str, ...], left_out: tuple[LeftOut, ...]) -> DataError:
    inside = tuple(entry for entry in left_out if entry.path.partition("/")[0] in classes)
    without = f"; left out: {describe_left_out(inside)}" if inside else ""
    return DataError(
        f"{top} has class folders without an image: {first_few(classes, 5)}{without}",
        f"without them the other classes would get other labels: put images there that end in one of "
        f"{' '.join(sorted(SUFFIXES))}, or remove the folders",
    )


def _chosen(listing: Listing, chosen: Tensor) -> Listing:
    return replace(listing, images=tuple(listing.images[index] for index in chosen.tolist()))


def _all_but(skipped: list[int], count: int) -> Tensor:
    """Return a bool mask (count,) that is False at the skipped indices."""
    import torch

    kept = torch.ones(count, dtype=torch.bool)
    kept[skipped] = False
    return kept


def _block(images: list[np.ndarray]) -> Tensor:
    import torch

    return torch.from_numpy(np.stack(images))
