"""What a data set has, for ``rushkit data check PATH``: the images of each split by class, and their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from rushkit.data import Dataset, HasSizes, channels_of
from rushkit.errors import first_few
from rushkit.registry import factory_parameters

if TYPE_CHECKING:
    from torch import Tensor

# The size that is proposed for images of several sizes is their smallest side, but no more than this.
MOST_PROPOSED = 224


@dataclass(frozen=True)
class SplitSurvey:
    """The images of one split.

    Attributes:
        name: The split.
        images: How many there are, unreadable ones included.
        per_class: How many of each class; empty where there are no labels.
        sizes: How many have each (width, height); empty where all have the data set's.
    """

    name: str
    images: int
    per_class: Mapping[str, int]
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def describe(self) -> str:
        """Say what there is in one line."""
        words = [f"{self.name}: {self.images} images"]
        if self.per_class:
            words.append(first_few([f"{name} {count}" for name, count in self.per_class.items()], 8))
        if self.sizes:
            words.append(_size_words(self.sizes))
        return "; ".join(words)


@dataclass(frozen=True)
class Survey:
    """A data set's splits, and the form of its images.

    Attributes:
        splits: One entry for each split.
        channels: C of every image.
    """

    splits: tuple[SplitSurvey, ...]
    channels: int


def survey(dataset: Dataset) -> Survey:
    """Count the images of a data set. No image of a folder is decoded, nor one of another set where that can be.

    Raises:
        DataError: its files are missing or cannot be read.
    """
    return Survey(tuple(_split(dataset, name) for name in dataset.splits), channels_of(dataset))


def sizes_of(dataset: Dataset) -> Counter[tuple[int, int]]:
    """Return how many images of all splits have each (width, height); empty where all have the data set's size."""
    total = Counter[tuple[int, int]]()
    if isinstance(dataset, HasSizes):
        for name in dataset.splits:
            total.update(dataset.sizes(name))
    return total


def proposed_size(sizes: Mapping[tuple[int, int], int]) -> int:
    """Return an image size that images of several sizes, or not square ones, can be brought to; 0 where none is needed.

    It enlarges no image, and is ``MOST_PROPOSED`` at most.
    """
    if len(sizes) < 2 and all(width == height for width, height in sizes):
        return 0
    return min(MOST_PROPOSED, *(min(size) for size in sizes))


def _split(dataset: Dataset, name: str) -> SplitSurvey:
    import torch

    counted: list[tuple[int, Tensor | None]] = []

    def choose(images: int, labels: Tensor | None) -> Tensor:
        counted.append((images, labels))
        return torch.arange(0)

    if "choose" in factory_parameters(dataset.split):
        cast(Any, dataset).split(name, choose)
        ((images, labels),) = counted
    else:
        split = dataset.split(name)
        images, labels = len(split), split.labels
    classes = dataset.classes
    counts = [] if labels is None else torch.bincount(labels, minlength=len(classes)).tolist()
    sizes = dataset.sizes(name) if isinstance(dataset, HasSizes) else {}
    return SplitSurvey(name, images, dict(zip(classes, counts, strict=False)), sizes)


def _size_words(sizes: Mapping[tuple[int, int], int]) -> str:
    widths, heights = ([size[axis] for size in sizes] for axis in (0, 1))
    oblong = sum(count for (width, height), count in sizes.items() if width != height)
    words = f"{widths[0]}x{heights[0]}"
    if len(sizes) > 1:
        words = f"{len(sizes)} sizes from {min(widths)}x{min(heights)} to {max(widths)}x{max(heights)} (width x height)"
    return words + (f", {oblong} not square" if oblong else "")
