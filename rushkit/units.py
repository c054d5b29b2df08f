"""Draw noisy copies of an image in units, each from a generator of its own, and pack those of many images into batches.

The generator of a unit is seeded by the run's seed, the purpose of the draws, a number that identifies the image, and
the number of the unit. So neither the images beside it, nor the packing into batches, nor a stop changes any draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rushkit.noises import Noise, noisy_images
from rushkit.system import generator

# Number of draws from one generator.
UNIT = 100

# Noisy images (n, C, H, W), and the row that they are counted in: one for all of them, or (n,) int64.
Piece = tuple[int | Tensor, Tensor]


def unit_sizes(draws: int) -> list[int]:
    """Return the number of draws in each unit: ``UNIT``, except in the last."""
    full, rest = divmod(draws, UNIT)
    return [UNIT] * full + [rest] * bool(rest)


def noisy_unit(noise: Noise, x: Tensor, size: int, seed: int, purpose: str, *counters: int) -> Tensor:
    """Return noisy copies of an image, seeded by seed, purpose and counters: (C, H, W) -> (size, C, H, W)."""
    copies = x.expand(size, *x.shape)
    return noisy_images(noise, copies, generator(seed, purpose, *counters, device=x.device))


def packed(pieces: Iterable[Piece], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield full batches and the row of each image; a batch is overwritten once the next one is asked for.

    Args:
        pieces: Rows and their noisy images.
        batch: Number of images in a batch; only the last batch has fewer.
    """
    images = rows = torch.empty(0)
    held = 0
    for row, noisy in pieces:
        if not len(images):
            images = noisy.new_empty(batch, *noisy.shape[1:])
            rows = torch.empty(batch, dtype=torch.int64, device=noisy.device)
        done = 0
        while done < len(noisy):
            count = min(batch - held, len(noisy) - done)
            images[held : held + count] = noisy[done : done + count]
            # The row is filled in on the device, because a copy from the host would wait for it.
            rows[held : held + count] = row if isinstance(row, int) else row[done : done + count]
            done, held = done + count, held + count
            if held == batch:
                yield images, rows
                held = 0
    if held:
        yield images[:held], rows[:held]
