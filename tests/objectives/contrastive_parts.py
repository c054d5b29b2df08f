"""What the tests of contrastive objectives share: NT-Xent written out, views that differ, and a projecting network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn


def written_out(views: Sequence[Tensor], temperature: float, positives: str = "sum") -> Tensor:
    """The loss over V views as loops over scalars, in float64; SimCLR's equation 1 where V is 2."""
    n = len(views[0])
    z = [list(row) for row in torch.cat(list(views)).double()]
    total = torch.zeros((), dtype=torch.float64)

    def similarity(i: int, k: int) -> Tensor:
        dot = sum(a * b for a, b in zip(z[i], z[k], strict=True))
        return dot / (sum(a * a for a in z[i]) * sum(b * b for b in z[k])) ** 0.5

    weight = 1 / (len(views) - 1) if positives == "mean" else 1
    for i in range(len(z)):
        denominator = sum((similarity(i, k) / temperature).exp() for k in range(len(z)) if k != i)
        for positive in range(i % n, len(z), n):
            if positive != i:
                total = total + weight * (denominator.log() - similarity(i, positive) / temperature)
    return total / len(z)


def jittered(images: Tensor, generator: Generator) -> Tensor:
    """A random view in float64, away from black and white: each pixel of an image changes a little."""
    x = images.double() / 255
    return 0.25 + 0.4 * x + 0.1 * torch.rand(x.shape, generator=generator, dtype=torch.float64)


class Linear(nn.Module):
    """Projections (N, out) that are linear in the pixels less 0.5, in float64. It keeps the inputs of its passes."""

    def __init__(self, features: int = 12, out: int = 4) -> None:
        super().__init__()
        source = Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(features, out, generator=source, dtype=torch.float64))
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach())
        return (x.flatten(1) - 0.5) @ self.weight
