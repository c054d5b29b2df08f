"""A folder of images: class folders in ``train/`` and ``test/``, class folders alone, or images without labels.

A split of moderate size is decoded once, into a cache that is mapped into memory; the images of a larger one stay in
their files, and are decoded when they are asked for.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rushkit.data.cache import Cached, Notes, cached, find_cached, fingerprint, part_of, place_of
from rushkit.data.class_order import given_classes, ordered
from rushkit.data.decoding import BLOCK_BYTES, Decoder, OnDemand
from rushkit.data.files import Check, known_split
from rushkit.data.layout import Layout, Listing
from rushkit.data.memory import MEMORY_BYTES, Choice, Images, Split
from rushkit.data.picture import Fit, Form, ImageFault, check_image_sizes, open_image, unreadable
from rushkit.data.progress import Progress, reporting
from rushkit.data.scan import ImageFile, describe_left_out
from rushkit.errors import DataError, UsageError, first_few, showable
from rushkit.image_size import ImageSize, sides, size_flag, size_line, size_words
from rushkit.paths import cache_root, expand, is_folder

if TYPE_CHECKING:
    from torch import Tensor

# What `data check` lists of a split one by one.
MOST_LISTED = 20
_FITTED = {
    "crop": "the middle of those that are {}",
    "pad": "those that are {} with black bars",
    "stretch": "those that are {} distorted",
}

logger = logging.getLogger("rushkit.data")


def folder(
    root: str,
    path: str = ".",
    image_size: int | list[int] = 0,
    channels: Literal[0, 1, 3, 4] = 0,
    fit: Fit = "crop",
    classes: str | list[str] = "",
    holdout: float = 0.2,
    on_unreadable: Literal["stop", "skip"] = "stop",
) -> Folder:
    """Return a data set of images in your own folders.

    Args:
        root: The folder of data sets.
        path: This data set, below the root or absolute.
        image_size: Height and width; one number for squares. 0: every image must have the one, square size of the
            first. Otherwise the images are resized to it with antialiasing.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and opacity); 0: 3.
        fit: How an image of another shape gets that one: ``crop`` keeps its centre, ``pad`` adds black bars,
            ``stretch`` distorts it.
        classes: The class folders in the order of their labels, or a file that lists them; empty: the order of text.
        holdout: The share of each class that becomes ``test`` where there is neither ``train/`` nor ``test/``.
        on_unreadable: Whether an image that cannot be decoded stops the reading, or is left out, logged and counted.

    Raises:
        UsageError: an image size below 0 or above ``MOST_SIDE``, a share outside [0, 1], a class that is named twice.
        DataError: the file of the classes cannot be read.
    """
    size = check_image_sizes(_size_asked(image_size), least=0)
    form = Form(size, channels or 3, fit, resizes=size != 0)
    if not 0 <= holdout <= 1:
        raise UsageError(f"holdout must lie in [0, 1] (got {holdout:g})", "for example 0.2")
    top = expand(root) / expand(path)
    given = given_classes(classes, (top, expand(root))) if classes else ()
    return Folder(Layout(top, holdout), form, given, on_unreadable)


def _size_asked(size: int | list[int]) -> ImageSize:
    if isinstance(size, int):
        return size
    if len(size) != 2:
        raise UsageError(f"image_size must be one number, or height and width (got {size})", "for example [24, 16]")
    return size[0], size[1]


def _unfit(size: ImageSize) -> str:
    """Return what images are in words, of which ``fit`` makes images of a size."""
    return "not square" if isinstance(size, int) else "of another shape"


@dataclass(frozen=True)
class _Read:
    """What was read of chosen images.

    Attributes:
        images: Those that can be read.
        skipped: The places, among the chosen ones, of the others.
        resized: What was done to their size, in words; empty if nothing was.
    """

    images: Images
    skipped: list[int]
    resized: str


class Folder:
    """A folder of images; nothing is read before it is needed.

    Args:
        layout: Where the splits lie.
        form: What the images are brought to; its size is 0 where it is that of the first image.
        given: The classes in their order; empty for that of text.
        on_unreadable: "stop" or "skip".
    """

    def __init__(self, layout: Layout, form: Form, given: tuple[str, ...], on_unreadable: str) -> None:
        self.path = layout.path
        self.name = layout.path.resolve().name or "folder"
        self.channels = form.channels
        self._layout, self._form, self._given = layout, form, given
        self._skips = on_unreadable == "skip"

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r})"

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, ``train`` and ``test`` first; see ``Layout``.

        Raises:
            DataError: there are none, or another is a link to the training images.
        """
        return tuple(self._layout.parts)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes that are given, else the class folders of the first split that has some; empty where none has."""
        for name in self.splits:
            listing = self._layout.listing(name)
            if listing.labelled:
                return ordered((image.class_name for image in listing.images), self._given, listing.folder)
        return self._given

    @cached_property
    def image_size(self) -> ImageSize:
        """The size asked for, or that of the first image that can be opened."""
        return self._form.size or self._size_of_first(self._layout.listing(self.splits[0]))

    def split(self, name: str, choose: Choice | None = None, memory: int = MEMORY_BYTES) -> Split:
        """Return a split: uint8 (N, C, S, S), mapped from the cache or decoded on demand; int64 (N,) or None.

        Args:
            name: One of ``splits``.
            choose: Which of its images; no other file is opened. The choice is among all image files, so that of chosen
                ones that cannot be decoded and are skipped, others do not take the place.
            memory: Images that take more bytes than that, or than the disk of the cache has room for, stay in their
                files.

        Raises:
            UsageError: no such split.
            DataError: no images, an unreadable one (unless skipped), one of another size where image_size is 0, a
                class that the training split does not have; the cache cannot be written.
        """
        known_split(f"the folder {self.path}", name, self.splits)
        listing = self._layout.listing(name)
        labels = self._labels(listing)
        chosen = choose(len(listing.images), labels) if choose else None
        read = self._read(name, listing, chosen, memory)
        images: Sequence[ImageFile] = listing.images
        if chosen is not None:
            images = _at(images, chosen)
            labels = None if labels is None else labels[chosen]
        if left_out := listing.left_out:
            words = f"{listing.folder}: {len(left_out)} left out: {describe_left_out(left_out)}"
            logger.warning("%s", showable(words))
        split = f"{self.name}/{name}"
        if not read.skipped:
            return Split(read.images, labels, split, resized=read.resized)
        named = first_few([images[index].path for index in read.skipped[:5]], 5, len(read.skipped))
        logger.warning("%s", showable(f"{listing.folder}: {len(read.skipped)} images skipped, unreadable: {named}"))
        places = _all_but(read.skipped, len(images)).nonzero().flatten()
        labels = None if labels is None else labels[places]
        return Split(read.images, labels, split, len(read.skipped), read.resized, places)

    def sizes(self, name: str) -> Counter[tuple[int, int]]:
        """Return how many images of a split have each (width, height). Only headers are read.

        Raises:
            DataError: the split has no images.
        """
        listing, found = self._layout.listing(name), Counter[tuple[int, int]]()
        for image in listing.images:
            # Nearly anything is raised of a damaged file, which `check` names.
            with suppress(Exception), open_image(listing.folder / image.path) as opened:
                found[opened.size] += 1
        return found

    def check(self) -> list[Check]:
        """Decode every image; return one entry for each split, and one for each file in it that cannot be used."""
        try:
            splits = self.splits
        except DataError as error:
            return [Check(str(self.path), "wrong" if is_folder(self.path) else "missing", error.message)]
        return [check for name in splits for check in self._check_split(name)]

    def _check_split(self, name: str) -> list[Check]:
        try:
            listing, decoder = self._layout.listing(name), self._decoder(name)
            self._numbers(listing)
        except DataError as error:
            return [Check(str(self.path / name), "wrong", error.message)]
        (tall, wide), faults, oblong = sides(self.image_size), [], 0
        for image, found in decoder.all(listing.images):
            if isinstance(found, ImageFault):
                faults.append(
                    Check(str(listing.folder / image.path), "partial" if self._skips else "wrong", str(found))
                )
            else:
                oblong += found.width * tall != found.height * wide
        part = f"split {name}, divided by a hash of the names: " if self._layout.parts[name].side else ""
        words = f"{part}{len(listing.images)} images" + (f", {len(faults)} of them unusable" if faults else "")
        if oblong:
            words += f", {oblong} {_unfit(self.image_size)} (fit = {self._form.fit})"
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
                f"{listing.folder} has a class that the training images do not have: {first_few(unknown, 5)}",
                f"the classes are {first_few(self.classes, 20)}",
            )
        return [index[image.class_name] for image in listing.images]

    def _size_of_first(self, listing: Listing) -> int:
        for image in listing.images:
            path = listing.folder / image.path
            try:
                with open_image(path) as opened:
                    width, height = opened.size
            except Exception as error:
                if self._skips:
                    continue
                raise unreadable(path, error) from error
            if width != height:
                raise DataError(
                    f"{path} is {width}x{height}, not square",
                    f"--set data.image_size={min(width, height)} makes squares of all images, as data.fit says; "
                    f"{size_line((height, width))} keeps this shape, for a convolutional backbone",
                )
            return width
        raise _nothing_readable(listing.folder)

    def _decoder(self, name: str) -> Decoder:
        return Decoder(self._layout.listing(name).folder, replace(self._form, size=self.image_size))

    def _read(self, name: str, listing: Listing, chosen: Tensor | None, memory: int) -> _Read:
        """Return the chosen images of a split, or all, from where they are or belong."""
        decoder = self._decoder(name)
        images: Sequence[ImageFile] = listing.images
        stem = f"{self.name}-{name}-{size_flag(decoder.form.size)}-{place_of(listing.folder)}"
        shape, settings = decoder.form.shape, (decoder.form, self._skips)
        if chosen is not None and not len(chosen):
            return _Read(_none_of(shape), [], "")
        if chosen is not None:
            whole = find_cached(stem, fingerprint(images, *settings), shape)
            if whole is not None:
                return self._part(whole, chosen, len(images))
            images, stem = _at(images, chosen), f"{stem}-{part_of(chosen)}"
        source = fingerprint(images, *settings)
        stored = find_cached(stem, source, shape)
        if stored is None and (why := _too_large(len(images) * int(np.prod(shape)), memory)):
            return self._on_demand(OnDemand(decoder, images, why), listing.folder)
        if stored is None:
            stored = cached(stem, source, shape, lambda notes: self._decode_all(decoder, images, notes))
        return _Read(stored.images, stored.notes["skipped"], self._resized(stored.notes))

    def _part(self, whole: Cached, chosen: Tensor, count: int) -> _Read:
        """Return the chosen ones of ``count`` images that have all been read."""
        import torch

        readable = _all_but(whole.notes["skipped"], count)
        skipped = torch.nonzero(~readable[chosen]).flatten().tolist()
        places = (readable.cumsum(0) - 1)[chosen[readable[chosen]]]
        notes = {key: [whole.notes[key][place] for place in places.tolist()] for key in ("widths", "heights")}
        return _Read(Split(whole.images, None, "").take(places).images, skipped, self._resized(notes))

    def _on_demand(self, images: OnDemand, top: Path) -> _Read:
        form = replace(self._form, size=self.image_size)
        words = (
            f"from their own sizes to {size_words(form.size)} ({_FITTED[form.fit].format(_unfit(form.size))})"
            if form.resizes
            else ""
        )
        if not self._skips:
            return _Read(images, [], words)
        # Each is decoded once to see whether it can be.
        readable = images.digests(allow_faults=True).ne(0).any(dim=1)
        if not readable.any():
            raise _nothing_readable(top)
        return _Read(images.take(readable.nonzero().flatten()), (~readable).nonzero().flatten().tolist(), words)

    def _resized(self, notes: Notes) -> str:
        """Say what was done to the size of images."""
        size, sizes = self.image_size, set(zip(notes["widths"], notes["heights"], strict=True))
        tall, wide = sides(size)
        if sizes <= {(wide, tall)}:
            return ""
        width, height = next(iter(sizes))
        first = "their own sizes" if len(sizes) > 1 else f"{width}x{height}"
        if isinstance(size, tuple) and len(sizes) == 1:
            first = f"{height}x{width}"
        oblong = any(width * tall != height * wide for width, height in sizes)
        return f"from {first} to {size_words(size)}" + (
            f" ({_FITTED[self._form.fit].format(_unfit(size))})" if oblong else ""
        )

    def _decode_all(self, decoder: Decoder, files: Sequence[ImageFile], notes: Notes) -> Iterator[Tensor]:
        """Yield blocks of decoded images in order, and note which are ``skipped`` and the size of the others."""
        skipped: list[int] = []
        notes |= {"skipped": skipped, "widths": [], "heights": []}
        kept: list[np.ndarray] = []
        with reporting(f"decoding {decoder.top}") as report:
            for index, (_, found) in enumerate(decoder.all(files)):
                if not isinstance(found, ImageFault):
                    kept.append(found.pixels)
                    notes["widths"].append(found.width)
                    notes["heights"].append(found.height)
                elif self._skips and found.skippable:
                    skipped.append(index)
                else:
                    raise found
                if kept and (len(kept) + 1) * kept[0].nbytes > BLOCK_BYTES:
                    yield _block(kept)
                    kept = []
                report(index + 1, len(files))
        if kept:
            yield _block(kept)
        if files and len(skipped) == len(files):
            raise _nothing_readable(decoder.top)


def _too_large(size: int, memory: int) -> str:
    """Say why images of ``size`` bytes are not decoded into the cache; empty if they are."""
    if size > memory:
        return f"{_gib(size)} are more than the {_gib(memory)} that may be in memory"
    place = cache_root()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    return f"{_gib(size)} do not fit on the disk of the cache, {cache_root()}" if size > free else ""


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _nothing_readable(top: Path) -> DataError:
    return DataError(f"{top} has no image that can be read", "`rushkit data check folder` lists what is wrong")


def _none_of(shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.empty((0, *shape), dtype=torch.uint8)


def _at(images: Sequence[ImageFile], chosen: Tensor) -> list[ImageFile]:
    return [images[index] for index in chosen.tolist()]


def _all_but(skipped: list[int], count: int) -> Tensor:
    """Return a bool mask (count,) that is False at the skipped indices."""
    import torch

    kept = torch.ones(count, dtype=torch.bool)
    kept[skipped] = False
    return kept


def _block(images: list[np.ndarray]) -> Tensor:
    import torch

    return torch.from_numpy(np.stack(images))
