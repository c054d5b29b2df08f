"""The draws of a smoothed classifier: what seeds each of its calls, and the stream or the panel that they come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.system import derived_seed, generator


@dataclass(frozen=True)
class Draws:
    """The draws of one call: those of the noise, block by block, and those of a model that is random by itself.

    Attributes:
        seed: Seed of the draws.
        purpose: What they are for.
        counters: What else tells them from others.
    """

    seed: int
    purpose: str
    counters: tuple[int, ...] = ()

    def of_noise(self, block: int, device: torch.device) -> torch.Generator:
        """Return the generator of a block of noise."""
        return generator(self.seed, self.purpose, *self.counters, block, device=device)

    def of_model(self, *draw: int) -> int:
        """Return the seed of the global generators for a draw of the model's own."""
        return derived_seed(self.seed, f"{self.purpose} of the model", *self.counters, *draw)


@dataclass
class Stream:
    """The source of draws: other ones at each call, or those of a panel that calls share.

    Attributes:
        seed: Seed of the stream.
        panel: Seed of the panel; None if every call makes new draws.
        keys: (N,) what identifies each image, if each has a panel of its own; None if they share one.
        calls: Number of calls that have drawn.
    """

    seed: int
    panel: int | None = None
    keys: Tensor | None = None
    calls: int = 0

    def next_call(self) -> Draws:
        """Return the draws of the next call."""
        if self.panel is not None:
            return Draws(self.panel, "panel")
        self.calls += 1
        return Draws(self.seed, "noise", (self.calls - 1,))
