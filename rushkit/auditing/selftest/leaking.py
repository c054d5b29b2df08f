"""Broken defences that know the labels of the images that they are judged on."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import LEAK
from rushkit.auditing.selftest.ground import CLASSES, Ground

# Every attacked version of an image lies within the ball's radius of it; the rest is for rounding.
EPS, REACH = 0.15, 0.16
# Share of the network in the logits: it gives them slopes, and hardly ever changes the answer.
_SHARE = 0.02


class LabelLeak(nn.Module):
    """A classifier that answers with the label of the nearest image that it remembers, where one is near.

    Args:
        network: (N, C, H, W) -> (N, K) logits, which decide where no remembered image is near.
        images: (M, C, H, W) the remembered images, in [0, 1].
        labels: (M,) their labels.
        lead: How much is added to the logit of the remembered label.
    """

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, lead: float) -> None:
        super().__init__()
        self.network, self.lead = network, lead
        self.images: Tensor
        self.labels: Tensor
        self.register_buffer("images", images.flatten(1))
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        distance, nearest = self._distances(x.detach().flatten(1)).min(dim=1)
        label = nn.functional.one_hot(self.labels[nearest], CLASSES)
        logits: Tensor = _SHARE * self.network(x)
        return logits + self.lead * label * (distance <= REACH)[:, None]

    def _distances(self, x: Tensor) -> Tensor:
        """Return the l-inf distance (N, M) of each image (N, F) to each remembered one; infinite where out of reach."""
        # Only pairs that are near in l2 can be near in l-inf, and l2 costs a hundredth; 1 % allows for its rounding.
        near = torch.cdist(x, self.images) <= 1.01 * REACH * math.sqrt(x.shape[1])
        row, column = near.nonzero(as_tuple=True)
        distance = torch.full_like(near, torch.inf, dtype=x.dtype)
        distance[row, column] = (x[row] - self.images[column]).abs().amax(dim=1)
        return distance


def _leak(lead: float, ground: Ground) -> Planted:
    return Planted(LabelLeak(ground.base, *ground.test, lead))


# A lead of 20 nats rounds the label's probability to 1, and so betrays itself by saturation as well.
CASES = (
    Case("label leak, logits 20", "broken", "linf", EPS, partial(_leak, 20.0), LEAK),
    Case("label leak, logits 5", "broken", "linf", EPS, partial(_leak, 5.0), LEAK),
)
