"""A data set in Parquet files with encoded images, as the Hugging Face hub has them, often in many shards.

The images are decoded by the decoder of all image files; see ``picture``.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rushkit.data.cache import Notes, cached, fingerprint, part_of, place_of
from rushkit.data.files import Check, known_split, verify_labels
from rushkit.data.memory import BLOCK_BYTES, Choice, Split
from rushkit.data.named_splits import Part, arranged, check_holdout
from rushkit.data.parquet_files import (
    NO_FILE,
    Columns,
    columns_of,
    count_rows,
    encoded_rows,
    label_values,
    opened,
    shards,
)
from rushkit.data.picture import Fit, Form, ImageFault, Room, check_image_size, read_picture
from rushkit.data.progress import reporting
from rushkit.errors import DataError, UsageError, first_few, showable
from rushkit.image_size import square
from rushkit.paths import exists, expand, regular_stat

if TYPE_CHECKING:
    from torch import Tensor

# What `data check` lists one by one.
MOST_LISTED = 20

logger = logging.getLogger("rushkit.data")


def parquet(
    root: str,
    path: str = "",
    image_size: int = 0,
    channels: Literal[0, 1, 3, 4] = 0,
    fit: Fit = "crop",
    columns: str | list[str] = "",
    holdout: float = 0.2,
    on_unreadable: Literal["stop", "skip"] = "stop",
) -> Parquet:
    """Return the data set in a Parquet file, or in all Parquet files of a folder, with encoded images.

    Args:
        root: The folder of data sets.
        path: The file or the folder, below the root or absolute.
        image_size: Height and width. 0: every image must have the one, square size of the first. Otherwise the images
            are resized to it with antialiasing.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and opacity); 0: 3.
        fit: How an image that is not square becomes so: ``crop`` keeps its centre, ``pad`` adds black bars, ``stretch``
            distorts it.
        columns: The column of images and that of labels, ``["image", "fine_label"]``; what is empty or not said is the
            only one that can be meant.
        holdout: The share of each class that becomes ``test`` where no name of a file or a folder is that of a split;
            0 and 1 make all of them ``train`` and ``test``.
        on_unreadable: Whether an image that cannot be decoded stops the reading, or is left out, logged and counted.

    Raises:
        UsageError: an image size below 0 or above ``MOST_SIDE``, a share outside [0, 1], more than two columns.
    """
    form = Form(check_image_size(image_size, least=0), channels or 3, fit, resizes=image_size > 0)
    asked = [columns] if isinstance(columns, str) else columns
    if len(asked) > 2:
        raise UsageError(f"data.columns names {len(asked)} columns", 'for example ["image", "label"]')
    image, label = [*asked, "", ""][:2]
    place = expand(root) / expand(path) if path else None
    return Parquet(place, form, (image, label), check_holdout(holdout), on_unreadable == "skip")


@dataclass(frozen=True)
class _Labels:
    """The labels of a split: whole numbers or texts (N,), or None; and how many rows each file has."""

    values: NDArray[Any] | None
    rows: tuple[int, ...]


class Parquet:
    """Parquet files with a column of encoded images; nothing is read before it is needed."""

    def __init__(self, path: Path | None, form: Form, asked: tuple[str, str], holdout: float, skips: bool) -> None:
        self.path = path or Path("parquet")
        self.name = self.path.stem if self.path.suffix else self.path.resolve().name
        self._is_named = path is not None
        self.channels = form.channels
        self._form, self._asked, self._holdout, self._skips = form, asked, holdout, skips
        self._read: dict[tuple[Path, ...], _Labels] = {}

    def __repr__(self) -> str:
        return f"Parquet({str(self.path)!r})"

    @cached_property
    def _parts(self) -> dict[str, Part[tuple[Path, ...]]]:
        if not self._is_named:
            raise DataError("no Parquet file or folder is named", NO_FILE)
        return arranged(shards(self.path), self.path.stem, self._holdout, str(self.path))

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that the names of files and folders tell of, or ``train`` and ``test``."""
        return tuple(self._parts)

    @cached_property
    def _columns(self) -> Columns:
        """The columns of images and labels, the same in every file."""
        files = [file for part in self._parts.values() for file in part.source]
        first = columns_of(files[0], *self._asked)
        for file in files[1:]:
            if (other := columns_of(file, *self._asked)) != first:
                raise DataError(
                    f"{file} has other columns than {files[0]}: {other.describe()}, not {first.describe()}",
                    "--set data.path=... names the files of one data set, such as a folder of one configuration",
                )
        return first

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names in the files, or the labels that are texts in the order of text, or the numbers from 0 on."""
        if self._columns.names or not self._columns.label:
            return self._columns.names
        values = [labels for part in self._parts.values() if (labels := self._labels(part.source).values) is not None]
        if values[0].dtype.kind == "U":
            return tuple(sorted({str(name) for part in values for name in np.unique(part)}))
        return tuple(map(str, range(1 + max(int(part.max(initial=-1)) for part in values))))

    @cached_property
    def image_size(self) -> int:
        """The size asked for, or that of the first image. Raises DataError where that is not square."""
        width = height = square(self._form.size, "a Parquet file")
        if not width:
            width, height = self._size_of_first()
        if width != height:
            raise DataError(
                f"the first image of {self.path} is {width}x{height}, not square",
                f"--set data.image_size={min(width, height)} brings all images to one size",
            )
        return width

    @property
    def stored_size(self) -> int:
        """The size of the images where they are taken as they are; where the first is resized, 0: each has its own."""
        return self.image_size if not self._form.size or self._size_of_first() == (self.image_size,) * 2 else 0

    def split(self, name: str, choose: Choice | None = None) -> Split:
        """Return a split, from the cache where it is there: uint8 (N, C, S, S) mapped from a file, int64 (N,) or None.

        Args:
            name: One of ``splits``.
            choose: Which of its images; only these are decoded. Others do not take the place of skipped ones.

        Raises:
            UsageError: no such split; pyarrow is not installed.
            DataError: a file is missing, damaged, or without such columns; an image that cannot be decoded, unless
                skipped, or of another size where image_size is 0; a label that is no class; the cache cannot be
                written.
        """
        import torch

        known_split(self.name, name, self.splits)
        part = self._parts[name]
        read = self._labels(part.source)
        labels = None if read.values is None else torch.from_numpy(self._numbers(read.values))
        indices = part.indices(sum(read.rows), labels, self._holdout, str(self.path))
        chosen = torch.arange(sum(read.rows)) if indices is None else indices
        mine = None if labels is None else labels[chosen]
        if choose and (few := choose(len(chosen), mine)) is not None:
            chosen = chosen[few]
        # Read in the order of the files, and asked for in any order.
        order = chosen.argsort()
        images, readable = self._images(name, part.source, read.rows, chosen[order])
        mine = None if labels is None else labels[chosen[order]][readable]
        split = Split(images, mine, f"{self.name}/{name}", len(chosen) - len(images))
        if len(images) == len(chosen) and bool((order == torch.arange(len(order))).all()):
            return split
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        kept = readable[rank]
        split = split.take((readable.cumsum(0) - 1)[rank[kept]])
        return split if bool(kept.all()) else replace(split, places=torch.nonzero(kept).flatten())

    def sizes(self, name: str) -> Counter[tuple[int, int]]:
        """Return how many images of a split have each (width, height); those that cannot be decoded are left out.

        Raises:
            DataError: a file is missing, damaged, or without such columns.
        """
        files = self._parts[name].source
        rows, found = self._labels(files).rows, Counter[tuple[int, int]]()
        for row, content in self._encoded(files, rows, np.arange(sum(rows))):
            with suppress(ImageFault):
                picture = read_picture(io.BytesIO(content), Form(1, self._form.channels), name=row)
                found[picture.width, picture.height] += 1
        return found

    def check(self) -> list[Check]:
        """Decode every image; return one entry for each split, and one for each image in it that cannot be used."""
        try:
            splits = self.splits
            _ = self._columns
        except DataError as error:
            there = self._is_named and exists(self.path)
            return [Check(str(self.path), "wrong" if there else "missing", error.message)]
        return [check for name in splits for check in self._check_split(name)]

    def _check_split(self, name: str) -> list[Check]:
        where = f"{self.path} ({name})"
        part, faults, count = self._parts[name], list[Check](), 0
        try:
            import torch

            read = self._labels(part.source)
            labels = None if read.values is None else torch.from_numpy(self._numbers(read.values))
            chosen = part.indices(sum(read.rows), labels, self._holdout, str(self.path))
            everything = torch.arange(sum(read.rows)) if chosen is None else chosen.sort().values
            for row, found in self._decoded(part.source, read.rows, everything):
                count += 1
                if isinstance(found, ImageFault) and len(faults) <= MOST_LISTED:
                    faults.append(Check(row, "partial" if self._skips else "wrong", found.message))
        except DataError as error:
            return [Check(where, "wrong", error.message), *faults]
        words = f"{count} images" + (f", {len(faults)} of them unusable" if faults else "")
        return [Check(where, "partial" if faults else "ok", words), *faults]

    def _labels(self, files: tuple[Path, ...]) -> _Labels:
        """Read the labels of files, and count their rows."""
        if files not in self._read:
            column, parts, rows = self._columns.label, list[NDArray[Any]](), list[int]()
            for file in files:
                with opened(file) as table:
                    rows.append(count_rows(file, table))
                    if column:
                        parts.append(label_values(file, table, column, rows[-1]))
            if not sum(rows):
                raise DataError(f"{first_few([str(file) for file in files])} has no rows", "name another file")
            self._read[files] = _Labels(np.concatenate(parts) if column else None, tuple(rows))
        return self._read[files]

    def _numbers(self, values: NDArray[Any]) -> NDArray[np.int64]:
        if values.dtype.kind == "U":
            return np.searchsorted(np.array(self.classes), values).astype(np.int64)
        verify_labels(values, 0, len(self.classes) - 1, self.path)
        return values.astype(np.int64)

    def _size_of_first(self) -> tuple[int, int]:
        """Return width and height of the first image that can be decoded."""
        files = next(iter(self._parts.values())).source
        for name, content in self._encoded(files, self._labels(files).rows, np.arange(1)):
            found = read_picture(io.BytesIO(content), Form(1, self._form.channels), name=name)
            return found.width, found.height
        raise DataError(f"{self.path} has no image that can be read", "name another file")

    def _images(
        self, name: str, files: tuple[Path, ...], rows: tuple[int, ...], chosen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return those of the chosen images, sorted, that can be read, and which these are; decode what is not cached.

        Returns:
            uint8 (M, C, S, S) and bool (N,).
        """
        import torch

        form = replace(self._form, size=self.image_size)
        about = [(str(file), (stat := regular_stat(file)).st_size, stat.st_mtime_ns) for file in files]
        part = part_of(chosen)
        source = fingerprint(about, form, self._columns, self._skips, part)
        stem = f"{self.name}-{name}-{form.size}-{part}-{place_of(self.path)}"
        stored = cached(stem, source, form.shape, lambda notes: self._decode(files, rows, chosen, notes))
        readable = torch.ones(len(chosen), dtype=torch.bool)
        readable[stored.notes["skipped"]] = False
        if skipped := chosen[~readable].tolist():
            named = first_few([str(row) for row in skipped[:5]], 5, len(skipped))
            logger.warning("%s", showable(f"{self.path}: {len(skipped)} images skipped, unreadable: rows {named}"))
        return stored.images, readable

    def _decode(self, files: tuple[Path, ...], rows: tuple[int, ...], chosen: Tensor, notes: Notes) -> Iterator[Tensor]:
        """Yield blocks of decoded images, in the order of the files; the notes list the places that are skipped."""
        import torch

        skipped: list[int] = []
        kept: list[NDArray[np.uint8]] = []
        with reporting(f"decoding {self.path}") as report:
            for place, (_, found) in enumerate(self._decoded(files, rows, chosen)):
                if not isinstance(found, ImageFault):
                    kept.append(found)
                elif self._skips and found.skippable:
                    skipped.append(place)
                else:
                    raise found
                if kept and (len(kept) + 1) * kept[0].nbytes > BLOCK_BYTES:
                    yield torch.from_numpy(np.stack(kept))
                    kept = []
                report(place + 1, len(chosen))
        if kept:
            yield torch.from_numpy(np.stack(kept))
        if chosen.numel() and len(skipped) == len(chosen):
            raise DataError(f"{self.path} has no image that can be read", "`rushkit data check` lists what is wrong")
        notes["skipped"] = skipped

    def _decoded(
        self, files: tuple[Path, ...], rows: tuple[int, ...], chosen: Tensor
    ) -> Iterator[tuple[str, NDArray[np.uint8] | ImageFault]]:
        """Yield the pixels of each chosen row in order, or what is wrong with it, and the name of the row."""
        form, room = replace(self._form, size=self.image_size), Room()
        for name, content in self._encoded(files, rows, chosen.numpy()):
            try:
                yield name, read_picture(io.BytesIO(content), form, room, name).pixels
            except ImageFault as fault:
                yield name, fault

    def _encoded(
        self, files: tuple[Path, ...], rows: tuple[int, ...], chosen: NDArray[np.int64]
    ) -> Iterator[tuple[str, bytes]]:
        """Yield name and encoded image of each chosen row (sorted), a few rows at a time."""
        start = 0
        for file, count in zip(files, rows, strict=True):
            here = chosen[(chosen >= start) & (chosen < start + count)] - start
            start += count
            if not len(here):
                continue
            with opened(file) as table:
                yield from encoded_rows(file, table, self._columns.image, here)
