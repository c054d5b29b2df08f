"""Classifiers of digits by the nearest mean of a class, on the pixels themselves: linear, and made without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from rushkit import registries
from rushkit.recipe import toml
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rushkit.setup import components, networks

SIDE = 8
# So that the logits of an image are not all alike.
SHARPNESS = 6.0


class Pixels(nn.Module):
    """The pixels as features, times a buffer; ``fault`` spoils them."""

    def __init__(self, size: int, fault: str = "") -> None:
        super().__init__()
        self.num_features = 3 * size * size
        self.fault = fault
        self.register_buffer("gain", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.gain * x.flatten(1)
        if self.fault == "not a number":
            features = torch.where(features[:, 36:37] > 0.6, torch.nan, features)
        if self.fault == "no gradient":
            features = features.detach()
        return features


def pixels(in_channels: int, image_size: int, fault: str = "") -> nn.Module:
    return Pixels(image_size, fault)


@contextmanager
def pixels_backbone() -> Iterator[None]:
    """Inside the block the backbone ``pixels`` has a name."""
    registries.backbones.register("pixels")(pixels)
    try:
        yield
    finally:
        registries.backbones.unregister("pixels", pixels.__module__.partition(".")[0])


def nearest_mean(recipe: Recipe, path: Path, sharpness: float = SHARPNESS) -> Checkpoint:
    """Write the checkpoint of a classifier by the nearest mean, whose backbone is ``pixels``, and return it."""
    dataset = components.build_dataset(recipe)
    training = dataset.split("train")
    x, y = components.to_float(training.images).flatten(1), training.labels
    means = torch.stack([x[y == label].mean(0) for label in range(10)])
    network = networks.build_network(recipe, components.build_objective(recipe, recipe.finetune), (3, SIDE), 10)
    with torch.no_grad():
        network.head.weight.copy_(sharpness * means)
        network.head.bias.copy_(-sharpness * means.square().sum(1) / 2)
    meta = {
        "stage": "finetune",
        "recipe": toml.dumps(recipe.resolved()),
        "image_size": SIDE,
        "channels": 3,
        "classes": list(dataset.classes),
    }
    save_checkpoint(path, network.tensors(), meta)
    return load_checkpoint(path)
