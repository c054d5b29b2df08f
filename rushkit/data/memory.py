"""A split: its images as one uint8 array, in memory, mapped from a file or decoded on demand; selections from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rushkit.data.cache import scratch
from rushkit.data.decoding import DIGEST_BYTES, OnDemand, digest_of
from rushkit.errors import DataError, UsageError
from rushkit.image_size import ImageSize, sides

if TYPE_CHECKING:
    from torch import Tensor

# A block of images is turned to float32 at once; this many bytes of it bound what a resize needs.
BLOCK_BYTES = 2**26
# A selection beyond this goes to a file, so that a split larger than memory can be divided.
MEMORY_BYTES = 2**31

# From how many images there are, and their int64 labels (N,) or None, to the int64 indices of those that are wanted, in
# order; None: all of them. A data set whose ``split`` takes one as ``choose`` reads no others.
Choice: TypeAlias = "Callable[[int, Tensor | None], Tensor | None]"
# uint8, (N, C, H, W): a tensor, or images that become one where they are indexed.
Images: TypeAlias = "Tensor | OnDemand"


@dataclass(frozen=True)
class Split:
    """Images and labels of one part of a data set.

    Attributes:
        images: uint8, (N, C, H, W); a tensor, which may be mapped from a file and need not be contiguous, or
            ``OnDemand``, which gives one for each index.
        labels: int64, (N,); None if there are none.
        name: The data set and the split, such as ``"cifar10/train"``, for messages.
        skipped: How many images were left out because they could not be read.
        resized: What was done to their size, such as "from 8x8 to 32x32"; empty if nothing was.
        places: int64, (N,), the place of each image among those that these were chosen from; None: they are all of
            them, in order. A data set sets it where it leaves out images that were asked for, ``load_split`` where it
            chooses.
        of: How many images these were chosen from; 0: as many as there are.
    """

    images: Images
    labels: Tensor | None
    name: str
    skipped: int = 0
    resized: str = ""
    places: Tensor | None = None
    of: int = 0

    def __post_init__(self) -> None:
        import torch

        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataError(
                f"{self.name}: images are {self.images.dtype} {tuple(self.images.shape)}",
                "a data set must give uint8 images of shape (N, C, H, W)",
            )
        if self.labels is not None and (self.labels.dtype != torch.int64 or self.labels.shape != (len(self),)):
            raise DataError(
                f"{self.name}: labels are {self.labels.dtype} {tuple(self.labels.shape)} for {len(self)} images",
                "a data set must give int64 labels of shape (N,), or None",
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        labels = "no labels" if self.labels is None else f"{len(self.labels.unique())} classes"
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"Split({self.name!r}: {len(self)} images of {size}, {labels}{skipped})"

    def take(self, indices: Tensor) -> Split:
        """Return the images and labels at int64 ``indices`` (M,), in that order; a large selection lies in a file."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, images=_taken(self.images, indices), labels=labels, places=None, of=0)

    def digests(self) -> Tensor:
        """Return a hash of the pixels of each image: uint8 (N, 16)."""
        import torch

        if isinstance(self.images, OnDemand):
            return self.images.digests()
        hashes = b"".join(
            digest_of(image)
            for start, stop in blocks(len(self), _image_bytes(self.images))
            for image in self.images[start:stop].numpy()
        )
        return torch.from_numpy(np.frombuffer(bytearray(hashes), dtype=np.uint8)).view(len(self), DIGEST_BYTES)


def _taken(images: Images, indices: Tensor) -> Images:
    if isinstance(images, OnDemand):
        return images.take(indices)
    if len(indices) * _image_bytes(images) <= MEMORY_BYTES:
        return images[indices].contiguous()
    taken = scratch((len(indices), *images.shape[1:]))
    for start, stop in blocks(len(indices), _image_bytes(images)):
        taken[start:stop] = images[indices[start:stop]]
    return taken


def blocks(count: int, item_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges (start, stop) that cover ``count`` items in order, each of at most ``BLOCK_BYTES``."""
    step = max(1, BLOCK_BYTES // max(1, item_bytes))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def resize(images: Tensor, size: ImageSize) -> Tensor:
    """Resize with antialiased bilinear interpolation, in blocks that bound the memory.

    Args:
        images: uint8, (N, C, H, W).
        size: The new height and width.

    Returns:
        uint8, (N, C, H, W), rounded to nearest; the images themselves where nothing changes. What is large lies
        in a file.
    """
    import torch
    from torch.nn import functional as F

    if images.shape[2:] == sides(size):
        return images
    shape = (*images.shape[:2], *sides(size))
    item_bytes = shape[1] * shape[2] * shape[3]
    resized = torch.empty(shape, dtype=torch.uint8) if len(images) * item_bytes <= MEMORY_BYTES else scratch(shape)
    for start, stop in blocks(len(images), 4 * max(item_bytes, _image_bytes(images))):
        block = images[start:stop].float()
        block = F.interpolate(block, sides(size), mode="bilinear", align_corners=False, antialias=True)
        resized[start:stop] = block.round_().clamp_(0, 255).to(torch.uint8)
    return resized


def limit(split: Split, count: int) -> Split:
    """Return at most ``count`` images, as ``limit_indices`` chooses them; 0 means all.

    Raises:
        UsageError: a negative count.
    """
    indices = limit_indices(len(split), count)
    return split if indices is None else split.take(indices)


def limit_indices(images: int, count: int) -> Tensor | None:
    """Return the indices of the images that a limit of ``count`` keeps: int64 (count,); None for all.

    They are the first of one fixed permutation, whatever the seed of the run, so that smaller limits are subsets of
    larger ones and all runs see the same images.

    Raises:
        UsageError: a negative count.
    """
    import torch

    from rushkit.system import generator

    if count < 0:
        raise UsageError(f"limit must be 0 (all images) or more (got {count})")
    if count == 0 or count >= images:
        return None
    return torch.randperm(images, generator=generator(0, "data-limit"))[:count]


def chosen_indices(images: int, limit: int, skip: int) -> Tensor | None:
    """Return the indices of every ``skip``-th image, and of these the ones that ``limit`` keeps: int64; None for all.

    Raises:
        UsageError: a limit below 0, or a skip below 1.
    """
    import torch

    if skip < 1:
        raise UsageError(f"skip must be 1 (every image) or more (got {skip})")
    if skip == 1:
        return limit_indices(images, limit)
    kept = torch.arange(0, images, skip)
    few = limit_indices(len(kept), limit)
    return kept if few is None else kept[few]


def hold_out_indices(
    images: int, labels: Tensor | None, validation: int, seed: int, name: str
) -> tuple[Tensor, Tensor]:
    """Divide images at random into (training, validation): int64 indices of each.

    Where there are labels, each class gives its share (largest remainders decide the last images). Both parts keep the
    order of the split.

    Args:
        images: How many there are.
        labels: int64, (images,), or None.
        validation: How many images to hold out.
        seed: Seed of the run.
        name: What they are, for messages.

    Raises:
        UsageError: not between 1 and all images but one.
    """
    import torch

    from rushkit.system import generator

    if not 0 < validation < images:
        raise UsageError(
            f"cannot hold {validation} of the {images} images of {name} out for validation",
            f"validation must lie between 1 and {images - 1}",
        )
    labels = torch.zeros(images, dtype=torch.int64) if labels is None else labels
    order = torch.randperm(images, generator=generator(seed, "hold-out"))
    # A stable sort by label of a random order: the images of a class follow each other, shuffled.
    order = order[torch.argsort(labels[order], stable=True)]
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    held = torch.zeros(images, dtype=torch.bool)
    for start, share in zip(starts.tolist(), _shares(counts, validation), strict=True):
        held[order[start : start + share]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def _shares(counts: Tensor, total: int) -> list[int]:
    """Divide ``total`` in proportion to ``counts``, in whole numbers, by largest remainders."""
    import torch

    exact = counts * total
    everything = int(counts.sum())
    shares = exact // everything
    left = total - int(shares.sum())
    largest = torch.argsort(exact % everything, descending=True, stable=True)[:left]
    shares[largest] += 1
    return shares.tolist()


def _image_bytes(images: Images) -> int:
    return images.shape[1:].numel()
