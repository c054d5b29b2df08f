"""A training batch as objectives see it: a rank's rows, and draws that are those of a single process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rushkit.distributed import ranks
from rushkit.distributed.share import Share
from rushkit.noises import Noise

Views = Callable[[Tensor, torch.Generator], Tensor]


@dataclass
class Draws:
    """Where the draws of a batch come from.

    Attributes:
        views: Maps uint8 images and a generator to float32 views.
        smoothing: The smoothing distribution.
        noise_drawn: Whether noise that is not always zero was drawn, ever.
    """

    views: Views
    smoothing: Noise
    noise_drawn: bool = False


@dataclass
class StepBatch:
    """This rank's rows of the batch of one step; see ``objectives.Batch``.

    All views and noise come from one generator, in the order in which the objective asks for them.

    Attributes:
        images: (n, C, H, W) uint8.
        labels: (n,) int64, or None.
        progress: The share of the run that is done, in [0, 1).
        epoch: The epochs that are done, with fraction.
        share: The rows of the whole batch that they are.
        source: The generator of the step, of which every rank has its own in the same state.
        draws: The views and the noise.
    """

    images: Tensor
    labels: Tensor | None
    progress: float
    epoch: float
    share: Share
    source: torch.Generator
    draws: Draws = field(repr=False)

    def view(self) -> Tensor:
        """Return a fresh view of each image, (n, C, H, W) float32."""
        return self.share.views(self.draws.views)(self.images, self.source)

    def noise(self, x: Tensor) -> Tensor:
        """Draw δ for images x (k * n, C, H, W), and note that noise was drawn."""
        self.draws.noise_drawn |= self.draws.smoothing.std > 0.0
        return self.share.noise(self.draws.smoothing).sample(x, self.source)

    def mean(self, values: Tensor) -> Tensor:
        """Return this rank's part of the mean of values (k * n,) over the whole batch."""
        if ranks.world() == 1:
            return values.mean()
        copies = len(values) // self.share.count if self.share.count else 1
        return values.sum() * (ranks.world() / (copies * self.share.total))
