"""A folder of images: ``train/`` and ``test/``, a folder a class in each; or images without class folders.

Images of any format that Pillow reads are decoded once, by all cores, into a cache that is mapped into memory, so that
a folder may be larger than memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from rushkit.data.cache import cached, fingerprint, place_of
from rushkit.data.files import Check, known_split
from rushkit.data.memory import BLOCK_BYTES, Split
from rushkit.data.progress import Progress, reporting
from rushkit.errors import DataError, UsageError, showable

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
BLOCK_IMAGES = 4096

logger = logging.getLogger("rushkit.data")


def folder(root: str, path: str = ".", image_size: int = 0, on_unreadable: Literal["stop", "skip"] = "stop") -> Folder:
    """Images in folders of your own.

    Args:
        root: The folder of data sets.
        path: This data set, below the root or absolute.
        image_size: Height and width. 0: every image must have the one, square size of the first. Otherwise the shorter
            side of each image is resized to it with antialiasing, and the centre is kept.
        on_unreadable: Whether an image that cannot be decoded stops the reading, or is left out, logged and counted.

    Raises:
        UsageError: a negative image size.
    """
    if image_size < 0:
        raise UsageError(
            f"image_size must be 0 (all images have one size) or more (got {image_size})", "for example 32"
        )
    return Folder(Path(root).expanduser() / Path(path).expanduser(), image_size, on_unreadable)


class ImageFile(NamedTuple):
    """One image on the disk: its path below the split's folder, bytes, and time of change in ns."""

    path: str
    size: int
    mtime_ns: int

    @property
    def class_name(self) -> str:
        """The class folder; empty for an image that lies in none."""
        first, separator, _ = self.path.partition("/")
        return first if separator else ""


@dataclass(frozen=True)
class Listing:
    """The images of one split, sorted by class and path; ``labelled`` where they lie in class folders."""

    folder: Path
    images: tuple[ImageFile, ...]

    @property
    def labelled(self) -> bool:
        """Whether the images lie in class folders."""
        return bool(self.images[0].class_name)


class Folder:
    """Class folders of images under ``path``; nothing is read before it is asked for."""

    name = "folder"

    def __init__(self, path: Path, image_size: int, on_unreadable: str) -> None:
        self.path = path
        self._image_size = image_size
        self._skips = on_unreadable == "skip"
        self._listings: dict[str, Listing] = {}

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r})"

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The folders under the path, ``train`` and ``test`` first. Raises DataError where there are none."""
        try:
            found = sorted(entry.name for entry in self.path.iterdir() if entry.is_dir() and entry.name[0] != ".")
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be listed: {error.strerror}",
                "RUSHKIT_DATA names the folder of data sets, --set data.path=... the one in it with train/ and test/",
            ) from error
        if "train" not in found and "test" not in found:
            raise DataError(
                f"{self.path} has neither train/ nor test/",
                "put the class folders of a split into train/ or test/; --set data.path=... names another folder",
            )
        return tuple(name for name in ("train", "test") if name in found) + tuple(
            name for name in found if name not in ("train", "test")
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

    def split(self, name: str) -> Split:
        """Read a split, from the cache where it is there: uint8 (N, 3, S, S) mapped from a file, int64 (N,) or None.

        Raises:
            UsageError: no such split.
            DataError: no images, an unreadable one (unless skipped), one of another size where image_size is 0, a
                class that the training split does not have; the cache cannot be written.
        """
        known_split(f"the folder {self.path}", name, self.splits)
        listing, size = self._listing(name), self.image_size
        labels = self._labels(listing)
        settings = (size, self._image_size > 0, self._skips)
        stored = cached(
            f"{self.path.resolve().name}-{name}-{size}-{place_of(listing.folder)}",
            fingerprint(listing.images, *settings),
            (3, size, size),
            lambda notes: self._decode_all(listing, size, notes),
        )
        skipped = stored.notes["skipped"]
        if skipped and labels is not None:
            kept = torch.ones(len(labels), dtype=torch.bool)
            kept[skipped] = False
            labels = labels[kept]
        if skipped:
            named = ", ".join(listing.images[index].path for index in skipped[:5])
            logger.warning("%s", showable(f"{listing.folder}: {len(skipped)} images skipped, unreadable: {named}"))
        return Split(stored.images, labels, f"{self.path.resolve().name}/{name}", len(skipped))

    def check(self) -> list[Check]:
        """Decode every image: one entry for each split, and one for each image that cannot be used."""
        try:
            listings, size = [self._listing(name) for name in self.splits], self.image_size
        except DataError as error:
            return [Check(str(self.path), "wrong" if self.path.is_dir() else "missing", error.message)]
        checks = []
        for listing in listings:
            try:
                self._labels(listing)
            except DataError as error:
                checks.append(Check(str(listing.folder), "wrong", error.message))
                continue
            faults = [
                Check(str(listing.folder / image.path), "partial" if self._skips else "wrong", str(found))
                for image, found in self._decoded(listing, size)
                if isinstance(found, DataError)
            ]
            words = f"{len(listing.images)} images" + (f", {len(faults)} of them unusable" if faults else "")
            checks += [Check(str(listing.folder), "partial" if faults else "ok", words), *faults]
        return checks

    def fetch(self, progress: Progress | None = None) -> None:
        """Raise UsageError: the images are the user's to bring."""
        raise UsageError(
            "a folder of images cannot be downloaded", f"put class folders under {self.path / 'train'} and test/"
        )

    def _listing(self, name: str) -> Listing:
        if name not in self._listings:
            top = self.path / name
            images = tuple(sorted(_images_below(top), key=lambda image: (image.class_name, image.path)))
            if not images:
                raise DataError(f"{top} has no images", f"their names must end in one of {' '.join(sorted(SUFFIXES))}")
            if not images[0].class_name and images[-1].class_name:
                raise DataError(
                    f"{top} has images beside its class folders: {images[0].path}",
                    "move it into a class folder, or all images out of theirs for a split without labels",
                )
            self._listings[name] = Listing(top, images)
        return self._listings[name]

    def _labels(self, listing: Listing) -> Tensor | None:
        if not listing.labelled:
            return None
        index = {name: label for label, name in enumerate(self.classes)}
        if unknown := sorted({image.class_name for image in listing.images} - index.keys()):
            raise DataError(
                f"{listing.folder} has a class that the training images do not have: {', '.join(unknown)}",
                f"the classes are {', '.join(self.classes)}",
            )
        return torch.tensor([index[image.class_name] for image in listing.images])

    def _size_of_first(self) -> int:
        listing = self._listing(self.splits[0])
        for image in listing.images:
            try:
                with Image.open(listing.folder / image.path) as opened:
                    width, height = opened.size
            except Exception as error:
                if self._skips:
                    continue
                raise _unreadable(listing.folder / image.path, error) from error
            if width != height:
                raise DataError(
                    f"{listing.folder / image.path} is {width}x{height}, not square",
                    f"--set data.image_size={min(width, height)} brings all images to one size",
                )
            return width
        raise DataError(
            f"{listing.folder} has no image that can be read", "`rushkit data check folder` lists what is wrong"
        )

    def _decode_all(self, listing: Listing, size: int, notes: dict[str, Any]) -> Iterator[Tensor]:
        """Blocks of decoded images in order; ``notes["skipped"]`` lists the indices that are left out."""
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
        """Every image in order, decoded by all cores, or what is wrong with it."""

        def decode(image: ImageFile) -> np.ndarray | ImageFault:
            return _decode(listing.folder / image.path, size, resizes=self._image_size > 0)

        # Threads: Pillow lets go of the interpreter while it decodes and resizes. By blocks, to bound the memory.
        step = max(os.cpu_count() or 1, min(BLOCK_IMAGES, BLOCK_BYTES // (3 * size * size)))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(listing.images), step):
                block = listing.images[start : start + step]
                yield from zip(block, pool.map(decode, block), strict=True)


class ImageFault(DataError):
    """An image that cannot be used; ``skippable`` where that is for the file being damaged."""

    skippable = True


class SizeFault(ImageFault):
    """An image of another size than the others."""

    skippable = False


def _images_below(top: Path) -> Iterator[ImageFile]:
    """Every file under ``top`` whose name looks like an image's; folders may nest and be links."""
    for folder, folders, names in os.walk(top, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in names:
            if name[0] != "." and Path(name).suffix.lower() in SUFFIXES:
                path = Path(folder, name)
                try:
                    about = path.stat()
                    size, mtime_ns = about.st_size, about.st_mtime_ns
                except OSError:  # a broken link is an unreadable image, and is named when it is decoded
                    size = mtime_ns = 0
                yield ImageFile(path.relative_to(top).as_posix(), size, mtime_ns)


def _decode(path: Path, size: int, resizes: bool) -> np.ndarray | ImageFault:
    """One image as uint8 (3, size, size), or what is wrong with it."""
    try:
        with Image.open(path) as image:
            if resizes:
                # A JPEG much larger than needed is decoded at a half, a quarter or an eighth, at least twice too large.
                image.draft("RGB", (2 * size, 2 * size))
            elif image.size != (size, size):
                words = f"{path} is {image.width}x{image.height}, others are {size}x{size}"
                return SizeFault(words, f"--set data.image_size={size} brings all images to one size")
            rgb = _rgb(image)
            if resizes:
                side = min(rgb.size)
                left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
                # As resizing the shorter side and then cropping: the filter looks beyond the box where there is more.
                rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        return np.asarray(rgb).transpose(2, 0, 1)
    # Pillow's decoders raise nearly anything on a damaged file: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:  # noqa: BLE001
        return _unreadable(path, error)


def _rgb(image: Image.Image) -> Image.Image:
    """Three channels of eight bits; transparency is dropped. Raises ValueError for more than eight bits a channel."""
    if image.mode[0] in "IF":
        raise ValueError(f"more than 8 bits a channel (mode {image.mode})")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _unreadable(path: Path, error: Exception) -> ImageFault:
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, UnidentifiedImageError):
        reason = "not an image"
    return ImageFault(
        f"{path} cannot be read: {reason or type(error).__name__}",
        "delete or repair it, or leave such images out with --set data.on_unreadable=skip",
    )


def _block(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images))
