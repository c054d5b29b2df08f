"""Networks and noises for the tests of objectives that train under several draws of noise."""

from __future__ import annotations

import torch
from batches import Seen, batch_of, losses_of
from torch import nn


class Same:
    """A noise whose draws are all alike."""

    std = 0.25

    def sample(self, x, generator=None):
        return torch.full_like(x, 0.25)


class Normal:
    """Gaussian noise, drawn in the precision of the images."""

    std = 0.25

    def sample(self, x, generator=None):
        return 0.25 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def in_float64(images, generator):
    return images.double() / 255


def pictures(count=6, size=2):
    chance = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=chance)


def linear(classes=4, size=2):
    """A linear classifier in float64, with slopes that noise of 0.25 matters to."""
    layer = nn.Linear(3 * size * size, classes, dtype=torch.float64)
    chance = torch.Generator().manual_seed(2)
    with torch.no_grad():
        layer.weight.copy_(2 * torch.randn(layer.weight.shape, generator=chance, dtype=torch.float64))
    return nn.Sequential(nn.Flatten(), layer)


def value_and_gradient(loss, network):
    """A loss and its gradient by the network's parameters, in one vector."""
    slopes = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([loss.detach().reshape(1), *(slope.flatten() for slope in slopes)])


def loss_at(objective, logits, labels, **options):
    """The only loss of an objective whose network returns these logits (draws * N, K) for N images."""
    batch = batch_of(pictures(len(labels)), labels, classes=logits.shape[1], **options)
    (loss,) = losses_of(objective, Seen(logits), batch)
    return loss
