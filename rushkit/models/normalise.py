"""Pixels normalised inside the encoder, for models that were trained on (x − mean) / std."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rushkit.errors import UsageError


class Normalised(nn.Module):
    """``model((x − mean) / std)``: the noise is added to pixels in [0, 1] before this, as in Cohen et al. 2019.

    The figures stand in the recipe, not among the saved tensors.

    Args:
        model: An encoder, with ``num_features``.
        mean: Mean of each channel, pixel units.
        std: Standard deviation of each channel, pixel units.
        in_channels: How many channels the images have.

    Raises:
        UsageError: not one mean and one positive std a channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], in_channels: int) -> None:
        super().__init__()
        if not len(mean) == len(std) == in_channels or not all(value > 0 for value in std):
            raise UsageError(
                f"images of {in_channels} channels are normalised by as many means and positive stds "
                f"(got mean {list(mean)}, std {list(std)})",
                "for example --set 'backbone.mean=[0.485, 0.456, 0.406]' --set 'backbone.std=[0.229, 0.224, 0.225]'",
            )
        self.model = model
        self.num_features = model.num_features
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of images (N, C, H, W) with pixels in [0, 1], plus noise."""
        features: Tensor = self.model(self.normalise(x))
        return features

    def normalise(self, x: Tensor) -> Tensor:
        """Return the input of the model, (x - mean) / std, for images (N, C, H, W)."""
        return (x - self.mean) / self.std
