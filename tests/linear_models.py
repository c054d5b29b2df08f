"""Linear models for the stages' tests, made without the global random state."""

from __future__ import annotations

import torch
from torch import nn

from rushkit import registries
from rushkit.smoothing import SmoothedClassifier


def layer(features: int, classes: int) -> nn.Module:
    """A linear layer that took nothing from the global random state."""
    made = torch.nn.utils.skip_init(nn.Linear, features, classes)
    with torch.no_grad():
        made.weight.copy_(torch.randn(classes, features, generator=torch.Generator().manual_seed(7)))
        made.bias.zero_()
    return made.requires_grad_(False)


def prototypes(scale=1.0, noise=0.1, samples=4):
    """A linear three-class model and 30 images at all distances from its boundaries."""
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 12, generator=source)
    x = torch.rand(60, 3, 2, 2, generator=source) * 0.6 + 0.2
    model = nn.Sequential(nn.Flatten(), layer(12, 3))
    with torch.no_grad():
        model[1].weight.copy_(weight)
        model[1].bias.copy_(-weight @ x.flatten(1).mean(0))
        y = model(x).argmax(1)
        model[1].weight.mul_(scale)
        model[1].bias.mul_(scale)
    g = SmoothedClassifier(
        model.requires_grad_(False), registries.noises.create("uniform", scale=noise), samples, seed=0
    )
    return g, x, y


def count_calls(original, counted):
    def count(self, noisy):
        counted.append(len(noisy))
        return original(self, noisy)

    return count
