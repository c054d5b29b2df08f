"""Counting votes of noisy copies of many images in full batches, each image with draws of its own.

An image's draws come in units of up to ``UNIT``, each from a generator seeded by the run's seed, what the draws are
for, the image and the unit's number. How units are packed into batches, and where a run was stopped, changes no draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rushkit.checked import checked_logits, not_finite
from rushkit.distributed import ranks
from rushkit.noises import Noise, noisy_images
from rushkit.system import generator
from rushkit.votes import SCORE, VoteCounter

Integers = NDArray[np.int64]

# Draws of one generator.
UNIT = 100
# Draws whose squared scores, in 64 bits, cannot overflow: the most that one row may count.
MOST_DRAWS = (2**63 - 1) // SCORE**2

# The row that a batch of noisy images is counted in, and the images.
Piece = tuple[int, Tensor]


@dataclass(frozen=True, eq=False)
class Counts:
    """What noisy copies said, by row.

    Attributes:
        votes: (R, K) int64, how often each class had the largest logit.
        scores: (R, K) int64, sum of the softmax in units of 1/SCORE.
        squares: (R, K) int64, sum of its squares in units of 1/SCORE².
    """

    votes: Integers
    scores: Integers
    squares: Integers


def unit_sizes(draws: int) -> list[int]:
    """How many draws each unit has: all ``UNIT`` but for the last."""
    full, rest = divmod(draws, UNIT)
    return [UNIT] * full + [rest] * bool(rest)


def noisy_unit(noise: Noise, x: Tensor, size: int, seed: int, purpose: str, *counters: int) -> Tensor:
    """(C, H, W) image in [0, 1] -> (size, C, H, W) noisy copies, draws of the generator that the rest names."""
    copies = x.expand(size, *x.shape)
    return noisy_images(noise, copies, generator(seed, purpose, *counters, device=x.device))


def all_splits(noise: Any, x: Tensor) -> Iterator[Tensor]:
    """(C, H, W) image -> every noisy version of it, in slices of up to ``UNIT``."""
    for start in range(0, noise.num_splits, UNIT):
        yield noise.exhaustive(x[None], start, min(start + UNIT, noise.num_splits))[:, 0]


@torch.no_grad()
def count_votes(
    model: nn.Module, pieces: Iterable[Piece], rows: int, classes: int, batch: int, device: torch.device
) -> Counts:
    """Pass noisy images through the model, ``batch`` at a time, and count what it says.

    Args:
        model: (N, C, H, W) -> (N, K) logits.
        pieces: Rows and their noisy images, in any order; each of several ranks has its own, and all get the sums.
        rows: R, how many rows there are; none has more than ``MOST_DRAWS`` images.
        classes: K.
        batch: Images in one pass; only the last pass has fewer.
        device: Where the model is.

    Raises:
        NumericsError: a logit that is not finite.
    """
    counter = VoteCounter(rows, classes, device, whole=True)
    for images, row in _packed(pieces, batch):
        counter.add(checked_logits(model(images), len(images)).float(), row)
    if ranks.any_rank(not counter.finite):
        raise not_finite()
    sums = torch.stack([counter.votes, counter.confidence, counter.confidence_squared])
    return Counts(*ranks.total(sums).cpu().numpy())


def _packed(pieces: Iterable[Piece], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Full batches and the row of each image in them; a batch is overwritten once the next one is asked for."""
    images = owner = torch.empty(0)
    held = 0
    for row, noisy in pieces:
        if not len(images):
            images = noisy.new_empty(batch, *noisy.shape[1:])
            owner = torch.empty(batch, dtype=torch.int64, device=noisy.device)
        while len(noisy):
            count = min(batch - held, len(noisy))
            images[held : held + count] = noisy[:count]
            # A fill on the device: a copy from the host would wait for it.
            owner[held : held + count] = row
            noisy, held = noisy[count:], held + count
            if held == batch:
                yield images, owner
                held = 0
    if held:
        yield images[:held], owner[:held]
