"""What objectives that train a smoothed classifier share: several draws of noise for each image, and log p̄ of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from rushkit.errors import UsageError
from rushkit.objectives.supervised import Supervised

if TYPE_CHECKING:
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Smoothed(Supervised):
    """A base for objectives that show the network several noisy copies of each image.

    Args:
        draws: Noisy copies of each image; all go through the network in one pass, so that BatchNorm sees them together.

    Raises:
        UsageError: there is not a single draw.
    """

    draws: int = 2

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError(f"draws must be at least 1 (got {self.draws})", "2 noisy copies of each image is usual")

    @property
    def kept_passes(self) -> int:
        """The passes of the batch that are kept at once: one for each draw."""
        return self.draws

    def copies(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) as many times as there are draws, batch after batch: (draws * N, C, H, W)."""
        return x.repeat(self.draws, 1, 1, 1)

    def noisy(self, x: Tensor, batch: Batch) -> Tensor:
        """Return noisy copies of images x (N, C, H, W), draw after draw: (draws * N, C, H, W), not clamped."""
        several = self.copies(x)
        return several + batch.noise(several)

    def by_draw(self, values: Tensor) -> Tensor:
        """Return values (draws * N, ...) of the noisy copies as (draws, N, ...)."""
        # A rank without rows has N = 0, which a view with -1 could not tell.
        apart: Tensor = values.unflatten(0, (self.draws, len(values) // self.draws))
        return apart


def check_weight(name: str, weight: float) -> None:
    """Raise UsageError for the weight of a loss that is negative, infinite or NaN."""
    if not (weight >= 0 and math.isfinite(weight)):
        raise UsageError(f"{name} must be a finite number, 0 or more (got {weight!r})", "0 leaves this loss out")
