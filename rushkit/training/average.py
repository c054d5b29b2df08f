"""The moving average of a network's weights, which may be the product of a training in place of the live ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rushkit.models.branches import follow, frozen_copy
from rushkit.models.network import Network

# The prefix of the live weights in a checkpoint whose weights are averages.
LIVE = "training.live."


class Average:
    """Averaged weights, a ← τa + (1 − τ)θ after each batch, with τ = min(decay, (1 + t) / (10 + t)) at batch t from 0.

    So the first batches, whose weights are hardly better than the start, are soon forgotten (Rebuffi et al. 2021; their
    public training code). Buffers, such as the statistics of BatchNorm, are the live ones.

    Args:
        live: The network that trains, with the weights that it starts from.
        decay: The largest τ, in (0, 1).

    Attributes:
        network: The network with the averaged weights.
    """

    def __init__(self, live: Network, decay: float) -> None:
        self.network = frozen_copy(live)
        self._live = live
        self._decay = decay

    def follow(self, batch: int) -> None:
        """Move the average after a batch, from 0, of the whole run."""
        follow(self.network, self._live, min(self._decay, (1 + batch) / (10 + batch)))
        self._take_buffers()

    def live_weights(self) -> dict[str, nn.Parameter]:
        """Return the live weights by name that differ from their averages: those that train."""
        return {name: weight for name, weight in self._live.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def restore(self, stored: Mapping[str, Tensor]) -> None:
        """Take the averages from the live network, where a checkpoint was loaded, and give it these live weights.

        Args:
            stored: Tensors with the names and shapes of ``live_weights``.
        """
        for average, weight in zip(self.network.parameters(), self._live.parameters(), strict=True):
            average.copy_(weight)
        self._take_buffers()
        for name, weight in self.live_weights().items():
            weight.copy_(stored[name])

    @torch.no_grad()
    def _take_buffers(self) -> None:
        for average, buffer in zip(self.network.buffers(), self._live.buffers(), strict=True):
            average.copy_(buffer)
