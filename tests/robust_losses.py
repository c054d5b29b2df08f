"""What the tests of adversarial training share: a logistic model, a small network in float64, and their gradients."""

from __future__ import annotations

import torch
from batches import batch_of, losses_of
from tiny_runs import toy
from torch import nn


def wide(images, generator):
    """The plain images in float64."""
    return images.double() / 255


def images_of(count, size=2, seed=0):
    """Images whose pixels are neither near black nor near white."""
    source = torch.Generator().manual_seed(seed)
    return torch.randint(64, 192, (count, 3, size, size), dtype=torch.uint8, generator=source)


class Logistic(nn.Module):
    """Two classes, the second with log-odds w·x, in float64."""

    def __init__(self, features=12):
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(features, generator=source, dtype=torch.float64))

    def forward(self, x):
        odds = x.flatten(1) @ self.weight
        return torch.stack([torch.zeros_like(odds), odds], dim=1)


def network_of(classes=2):
    """Convolutions and BatchNorm in float64, in train mode; the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(toy(), nn.Linear(8, classes)).double()


def graded(objective, network, images, labels, seed=0):
    """The only loss of an objective on a batch of two classes, after its backward pass."""
    (loss,) = losses_of(objective, network, batch_of(images, labels, views=wide, seed=seed, classes=2))
    loss.backward()
    return loss.detach()
