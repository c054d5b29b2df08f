"""Models whose slopes, jumps and batches are known, and what the probes of an audit find in them."""

from __future__ import annotations

import hashlib

import pytest
import torch
from linear_models import layer
from torch import nn

from rushkit import registries
from rushkit.auditing.measure import Measured
from rushkit.auditing.plan import Settings
from rushkit.auditing.probes import IMAGES, probe
from rushkit.smoothing import SmoothedClassifier

SIDE, CLASSES = 6, 4


SETTINGS = Settings("linf", 0.05, steps=2, eot=2, queries=5, planted=1)


NOISES = {"none": {}, "uniform": {"scale": 0.1}}


both_noises = pytest.mark.parametrize("noise", NOISES)


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self):
        super().__init__()
        self.layer = layer(3 * SIDE * SIDE, CLASSES)

    def forward(self, x):
        return self.layer((x - 0.5).flatten(1))


class Quadratic(Linear):
    """A central difference of a quadratic is its slope, exactly."""

    def forward(self, x):
        return super().forward(x) + self.layer((x - 0.5).square().flatten(1))


class Hashed(Linear):
    """The linear model behind noise that every change of a pixel draws anew."""

    def forward(self, x):
        draws = [torch.Generator().manual_seed(_number(image)) for image in x]
        return super().forward(x + torch.stack([torch.randn(x.shape[1:], generator=draw) for draw in draws]))


class Low(Linear):
    """Answers in bfloat16."""

    def forward(self, x):
        return super().forward(x).bfloat16()


def _number(image):
    return int.from_bytes(hashlib.blake2b(image.detach().numpy().tobytes(), digest_size=6).digest(), "big")


def smoothed(model, noise="none", chunk=None):
    made = registries.noises.create(noise, **NOISES[noise])
    return SmoothedClassifier(model.eval().requires_grad_(False), made, 4, chunk, seed=0)


def images(count=IMAGES):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)), torch.arange(count) % CLASSES


def probed(model, noise="none", count=IMAGES, chunk=None):
    """What the probes find at images that all count as right: the margin does not ask whether it is negative."""
    x, y = images(count)
    found = probe(smoothed(model, noise, chunk), x, y, list(range(count)), seed=5)
    return Measured(SETTINGS, images=count, classes=CLASSES, probes=found)
