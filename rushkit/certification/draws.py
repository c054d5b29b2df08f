"""Draw noisy copies of images in units, and count the model's answers by image; the ranks share the units."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rushkit.certification.tasks import Task
from rushkit.checked import checked_logits, not_finite
from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.noises import FiniteNoise, Noise
from rushkit.setup.components import to_float
from rushkit.system import uniform_draw
from rushkit.units import UNIT, Piece, noisy_unit, packed, unit_sizes
from rushkit.votes import SCORE, VoteCounter

Integers = NDArray[np.int64]

# The largest number of draws in one row for which the sum of squared scores cannot overflow 64 bits.
MOST_DRAWS = (2**63 - 1) // SCORE**2


@dataclass(frozen=True, eq=False)
class Counts:
    """A model's answers to noisy copies, added up by row; the sums are integers, so the order does not matter.

    Attributes:
        votes: (R, K) int64, how often each class had the largest logit.
        scores: (R, K) int64, sum of the softmax in units of 1/SCORE.
        squares: (R, K) int64, sum of its squares in units of 1/SCORE².
    """

    votes: Integers
    scores: Integers
    squares: Integers


@dataclass(frozen=True)
class Sampler:
    """Draws noisy copies of images and counts the model's answers.

    Attributes:
        model: (N, C, H, W) -> (N, K) logits.
        noise: The smoothing distribution.
        split: The images.
        indices: (N,) index of each image in the split that it was chosen from, which seeds its draws.
        seed: Seed of all draws.
        classes: K.
        batch: Number of images in one pass.
        device: The device of the model.
        verb: The command, which seeds the draws too: two commands make different draws.
        pause: Called before each unit of draws; it may raise to stop, which loses the unfinished line.
    """

    model: nn.Module
    noise: Noise
    split: Split
    indices: Tensor
    seed: int
    classes: int
    batch: int
    device: torch.device
    verb: str = "certify"
    pause: Callable[[], None] = lambda: None
    # The image that was last asked for.
    _image: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def image(self, row: int) -> Tensor:
        """Return an image on the device: (C, H, W) float32 in [0, 1]."""
        if row not in self._image:
            self._image.clear()
            # Once for all units of the image: each copy from the host waits until the device has nothing to do.
            self._image[row] = to_float(self.split.images[row].to(self.device))
        return self._image[row]

    def draw(self, row: int, part: str, unit: int, size: int) -> Tensor:
        """Return noisy copies of an image, (size, C, H, W): one unit of the draws for selection or estimation."""
        self.pause()
        number = int(self.indices[row])
        return noisy_unit(self.noise, self.image(row), size, self.seed, f"{self.verb} {part}", number, unit)

    def count(self, pieces: Iterable[Piece], rows: int) -> Counts:
        """Count the model's answers to noisy images by row, summed over all ranks."""
        return count_votes(self.model, pieces, rows, self.classes, self.batch, self.device)

    def count_task(self, task: Task) -> Counts:
        """Make the draws of a task and count them, with a row for each of its images; the ranks share its units."""
        # Only the last task may end within a unit, so every task begins with a whole unit.
        first, sizes = task.start // UNIT, unit_sizes(task.stop - task.start)
        units = [(place, row, unit) for place, row in enumerate(task.rows) for unit in range(len(sizes))]
        pieces = (
            (place, self.draw(row, task.part, first + unit, sizes[unit])) for place, row, unit in ranks.own(units)
        )
        return self.count(pieces, len(task.rows))

    def count_splits(self, noise: FiniteNoise, rows: range) -> Counts:
        """Count all noisy versions of the images in these rows; the ranks share the slices of each image."""
        starts = [(place, row, start) for place, row in enumerate(rows) for start in range(0, noise.num_splits, UNIT)]
        pieces = ((place, self._slice(noise, row, start)) for place, row, start in ranks.own(starts))
        return self.count(pieces, len(rows))

    def _slice(self, noise: FiniteNoise, row: int, start: int) -> Tensor:
        self.pause()
        return noise.exhaustive(self.image(row)[None], start, min(start + UNIT, noise.num_splits))[:, 0]

    def images_of(self, rows: range) -> list[int]:
        """Return the indices of the images in these rows, for the log."""
        indices: list[int] = self.indices[rows.start : rows.stop].tolist()
        return indices

    def uniforms_of(self, rows: range) -> list[float]:
        """Return the uniform draw of each image in these rows, which randomized bounds use, for the log."""
        return [image_uniform(self.seed, image, self.verb) for image in self.images_of(rows)]

    def labels_of(self, rows: range) -> list[int]:
        """Return the labels of the images in these rows, for the log."""
        assert self.split.labels is not None
        labels: list[int] = self.split.labels[rows.start : rows.stop].tolist()
        return labels


def image_uniform(seed: int, image: int, verb: str = "certify") -> float:
    """Return the uniform draw of an image, in (0, 1], which follows from the seed alone and so cannot follow counts."""
    return uniform_draw(seed, f"{verb} uniform", image)


@torch.no_grad()
def count_votes(
    model: nn.Module, pieces: Iterable[Piece], rows: int, classes: int, batch: int, device: torch.device
) -> Counts:
    """Pass noisy images through the model, ``batch`` at a time, and count its answers.

    Args:
        model: (N, C, H, W) -> (N, K) logits.
        pieces: Rows and their noisy images, in any order; each rank has its own, and all ranks get the sums.
        rows: R, the number of rows; none has more than ``MOST_DRAWS`` images.
        classes: K.
        batch: Number of images in one pass; only the last pass has fewer.
        device: The device of the model.

    Raises:
        NumericsError: a logit is not finite.
    """
    counter = VoteCounter(rows, classes, device, whole=True)
    for images, row in packed(pieces, batch):
        counter.add(checked_logits(model(images), len(images)).float(), row)
    if ranks.any_rank(not counter.finite):
        raise not_finite()
    sums = torch.stack([counter.votes, counter.confidence, counter.confidence_squared])
    return Counts(*ranks.total(sums).cpu().numpy())
