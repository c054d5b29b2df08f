"""The projector that contrastive objectives put on the encoder."""

from __future__ import annotations

from torch import Tensor, nn


class Projector(nn.Module):
    """Two-layer perceptron from features (N, num_features) to projections (N, out) (SimCLR, section 2.1).

    Args:
        num_features: Length of the encoder's features.
        hidden: Width of the hidden layer.
        out: Length of the projections.
        batch_norm: Whether to normalise the hidden layer; RUSH is silent, public contrastive-robustness code does not.
    """

    def __init__(self, num_features: int, hidden: int = 2048, out: int = 128, batch_norm: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, hidden, bias=not batch_norm)
        self.norm = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
        self.out = nn.Linear(hidden, out)

    def forward(self, features: Tensor) -> Tensor:
        """Return the projections (N, out) of features (N, num_features)."""
        projections: Tensor = self.out(self.norm(self.hidden(features)).relu())
        return projections
