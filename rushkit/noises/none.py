"""No noise: for classifiers that are not smoothed, such as undefended and adversarially trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from rushkit.errors import NoCertificate
from rushkit.noises import Norm

if TYPE_CHECKING:
    from rushkit.noises import Probability


@dataclass(frozen=True)
class NoNoise:
    """δ = 0: every draw is the image itself, so one pass stands for any number of draws, and nothing is certified.

    Attributes:
        std: 0.
        deterministic: True.
    """

    name: ClassVar[str] = "none"
    deterministic: ClassVar[bool] = True
    std: ClassVar[float] = 0.0

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return zeros with the shape, dtype and device of x; the generator is not used."""
        return torch.zeros_like(x)

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """Raise NoCertificate: votes that are all the same answer say nothing about images nearby."""
        raise NoCertificate(
            "without noise there is nothing to certify",
            "certify under a noise: --set noise.name=gaussian --set noise.std=0.25",
        )
