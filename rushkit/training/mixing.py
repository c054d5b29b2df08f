"""Which images each batch of a training stage consists of: those of the split, and extra ones in a fixed proportion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from rushkit.data import Dataset
from rushkit.data.decoding import OnDemand
from rushkit.data.memory import Images, Split
from rushkit.distributed.share import Share, share_of
from rushkit.errors import UsageError
from rushkit.recipe.schema import Recipe
from rushkit.setup import components
from rushkit.setup.subject import fingerprint_of
from rushkit.system import generator


@dataclass(frozen=True)
class Extra:
    """Extra training images, such as generated ones, that make up a part of every batch.

    Attributes:
        split: The images, with labels.
        share: The part of each batch that they make up, in (0, 1).
        smoothing: The share of their labels that is spread over all classes; the split's own labels stay exact.
    """

    split: Split
    share: float
    smoothing: float = 0.0

    def count(self, batch_size: int) -> int:
        """Return how many extra images a batch has, to the nearest whole number.

        Raises:
            UsageError: a batch would be without extra images, or consist of nothing else.
        """
        count = math.floor(self.share * batch_size + 0.5)
        if 0 < count < batch_size:
            return count
        raise UsageError(
            f"finetune.extra.share = {self.share:g} of a batch of {batch_size} is {count} extra images",
            "a batch must have at least one image of each kind: another share, or a larger batch",
        )

    def describe(self, batch_size: int) -> str:
        """Say how many extra images each batch has, and where they come from."""
        smoothed = f" with labels smoothed by {self.smoothing:g}" if self.smoothing else ""
        count = self.count(batch_size)
        return f"and {count} of {batch_size} in each batch from the {len(self.split)} of {self.split.name}{smoothed}"


def extra_of(recipe: Recipe, dataset: Dataset) -> Extra | None:
    """Return the extra training images of a recipe; None if it names none.

    Raises:
        DataError: they cannot be read, or do not fit the data set.
        UsageError: their share of a batch is none of its images, or all of them.
    """
    settings = recipe.finetune
    split = components.load_extra(recipe, dataset)
    if split is None:
        return None
    extra = Extra(split, settings.extra.share, settings.extra.smoothing)
    extra.count(settings.batch_size)
    return extra


def fingerprint_with(split: Split, extra: Extra | None) -> str:
    """Return the hash of all training images, by which a resumed run knows them."""
    fingerprint = fingerprint_of(split)
    return fingerprint if extra is None else f"{fingerprint}+{fingerprint_of(extra.split)}"


@dataclass(frozen=True)
class Rows:
    """This rank's rows of a batch, on the device.

    Attributes:
        images: (n, C, H, W) uint8.
        labels: (n,) or (n, J) int64, or None.
        label_smoothing: (n,) float32, the share of each label that is spread over all classes; None for none.
        share: The rows of the whole batch that they are.
    """

    images: Tensor
    labels: Tensor | None
    label_smoothing: Tensor | None
    share: Share


class Feed:
    """The images of every batch of a stage; a batch follows from (seed, epoch, index), so a run resumes exactly.

    Without extra images an epoch is one pass over the split in a random order, and its last batch is what is left. With
    them all batches are full: split images first, then extra ones. Both come from endless sequences of passes, each in
    an order of its own, so within a pass no image comes twice (Rebuffi et al. 2021; their public training code).

    Args:
        split: The images of the data set.
        extra: Extra images; None for none.
        batch_size: Images of a full batch, over all ranks.
        seed: Seeds the orders.
        stage: ``"pretrain"`` or ``"finetune"``; the stages have different orders.
        device: The device that trains; images lie there if they take less than half of its free memory.
        labels: Labels (N,) or (N, J) in place of the split's own; None for those.
    """

    def __init__(
        self,
        split: Split,
        extra: Extra | None,
        batch_size: int,
        seed: int,
        stage: str,
        device: torch.device,
        labels: Tensor | None = None,
    ) -> None:
        self._device, self._batch_size = device, batch_size
        self._main = _Source(split, seed, f"{stage}-order", device, labels)
        self._extra = None if extra is None else _Source(extra.split, seed, f"{stage}-extra-order", device)
        self._of_extra = 0 if extra is None else extra.count(batch_size)
        self._smoothing = 0.0 if extra is None else extra.smoothing

    def rows(self, epoch: int, index: int, per_epoch: int) -> Rows:
        """Return this rank's rows of a batch.

        Args:
            epoch: From 0.
            index: Of the batch in its epoch, from 0.
            per_epoch: Batches of an epoch.
        """
        if self._extra is None:
            chosen, share = self._share_of_pass(epoch, index)
            follows = (epoch, index + 1) if index + 1 < per_epoch else (epoch + 1, 0)
            rows = self._main.rows(chosen, self._device, lambda: self._share_of_pass(*follows)[0])
            return Rows(*rows, None, share)
        step, of_main = epoch * per_epoch + index, self._batch_size - self._of_extra
        share = share_of(self._batch_size)
        stop = share.first + share.count
        own = self._main.indices(step * of_main, of_main)[share.first : stop]

        def later() -> Tensor:
            return self._main.indices((step + 1) * of_main, of_main)[share.first : stop]

        extra = self._extra.indices(step * self._of_extra, self._of_extra)
        extra = extra[max(share.first - of_main, 0) : max(stop - of_main, 0)]
        parts = [self._main.rows(own, self._device, later), self._extra.rows(extra, self._device)]
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        smoothing = None
        if self._smoothing:
            smoothing = torch.zeros(len(images), device=self._device)
            smoothing[len(own) :] = self._smoothing
        return Rows(images, labels, smoothing, share)

    def _share_of_pass(self, epoch: int, index: int) -> tuple[Tensor, Share]:
        """Return this rank's part of a batch of one pass over the split: indices, and which rows they are."""
        chosen = self._main.order(epoch)[index * self._batch_size : (index + 1) * self._batch_size]
        share = share_of(len(chosen))
        return chosen[share.rows], share


class _Source:
    """The images of a split, in one random order after another."""

    def __init__(
        self, split: Split, seed: int, purpose: str, device: torch.device, labels: Tensor | None = None
    ) -> None:
        self._images, own = resident(split, device)
        place = self._images.device if isinstance(self._images, Tensor) else torch.device("cpu")
        self._labels = own if labels is None else labels.to(place)

        @lru_cache(maxsize=2)
        def order(number: int) -> Tensor:
            drawn = torch.randperm(len(split), generator=generator(seed, purpose, number))
            # Moved once a pass: indices that came from the host at each step would make it wait for the device.
            return drawn.to(place)

        self.order = order

    def indices(self, start: int, count: int) -> Tensor:
        """Return the indices of images ``start`` to ``start + count`` of the sequence of passes."""
        size, stop = len(self._images), start + count
        return torch.cat(
            [
                self.order(number)[max(start - number * size, 0) : stop - number * size]
                for number in range(start // size, (stop - 1) // size + 1)
            ]
        )

    def rows(
        self, indices: Tensor, device: torch.device, later: Callable[[], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return images and labels at indices, which lie where the images do, on a device.

        ``later`` gives the indices of the next batch, whose images are decoded meanwhile if they are not in memory.
        """
        images = self._images[indices].to(device, non_blocking=True)
        if later is not None and isinstance(self._images, OnDemand):
            self._images.expect(later())
        return images, None if self._labels is None else self._labels[indices].to(device, non_blocking=True)


def resident(split: Split, device: torch.device) -> tuple[Images, Tensor | None]:
    """Return images and labels, on the device if they take less than half of its free memory."""
    if device.type == "cuda" and isinstance(split.images, Tensor):
        free, _ = torch.cuda.mem_get_info(device)
        if split.images.numel() < free / 2:
            labels = None if split.labels is None else split.labels.to(device)
            return split.images.to(device), labels
    return split.images, split.labels
