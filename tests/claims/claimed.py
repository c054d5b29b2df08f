"""Attacks on nearest-mean classifiers of the digits, packed: small claims that are honest."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rushkit import registries
from rushkit.claims.artifact import Artifact
from rushkit.claims.pack import pack
from rushkit.recipe import toml
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.robustness.attack import attack
from rushkit.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rushkit.run.speaker import Speaker
from rushkit.setup import components, networks
from rushkit.setup.start import start_run

QUIET = Speaker(-1, rank=0)
SIDE = 8
IMAGES = 40
# A nearest-mean classifier: sharp enough that its logits are not all alike.
SHARPNESS = 6.0
SETTINGS = (
    f"data.image_size={SIDE}",
    "backbone.name=pixels",
    "attack.0.type=pgd",
    "attack.0.steps=8",
    "attack.0.restarts=1",
    "attack.0.norm=linf",
    "attack.0.eps=0.1",
    f"attack.0.limit={IMAGES}",
    "system.device=cpu",
)
FIXED = ("noise.name=none", "attack.0.samples=[1]")
RANDOM = ("noise.name=uniform", "noise.scale=0.5", "attack.0.samples=[2]")


class Pixels(nn.Module):
    """The pixels as features, times a buffer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = 3 * size * size
        self.register_buffer("gain", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x.flatten(1)


def pixels(in_channels: int, image_size: int) -> nn.Module:
    return Pixels(image_size)


@contextmanager
def pixels_backbone():
    """Inside the block the backbone ``pixels`` has a name."""
    registries.backbones.register("pixels")(pixels)
    try:
        yield
    finally:
        registries.backbones.unregister("pixels", pixels.__module__.partition(".")[0])


@dataclass(frozen=True)
class Claim:
    """An artifact, and what it was packed from."""

    artifact: Artifact
    recipe: Recipe
    model: Checkpoint
    run: Path


def nearest_mean(recipe: Recipe, path: Path) -> Checkpoint:
    """The checkpoint of a classifier by the nearest mean of a class, which is linear."""
    dataset = components.build_dataset(recipe)
    training = dataset.split("train")
    x, y = components.to_float(training.images).flatten(1), training.labels
    means = torch.stack([x[y == label].mean(0) for label in range(10)])
    objective = components.build_objective(recipe, recipe.finetune)
    network = networks.build_network(recipe, objective, (3, SIDE), 10)
    with torch.no_grad():
        network.head.weight.copy_(SHARPNESS * means)
        network.head.bias.copy_(-SHARPNESS * means.square().sum(1) / 2)
    meta = {
        "stage": "finetune",
        "recipe": toml.dumps(recipe.resolved()),
        "image_size": SIDE,
        "channels": 3,
        "classes": list(dataset.classes),
    }
    save_checkpoint(path, network.tensors(), meta)
    return load_checkpoint(path)


def make_claim(folder: Path, *changes: str, protocol: str = "strict") -> Claim:
    """Attack a nearest-mean classifier under these changes of the recipe, and pack the images with the weights."""
    recipe = load_recipe("digits", [*SETTINGS, f"system.runs_dir={folder / 'runs'}", *changes], {})
    model = nearest_mean(recipe, folder / "model.safetensors")
    with start_run("attack", recipe, QUIET, model) as run:
        results = attack(recipe, model, run, [protocol], save=True)
    (row,) = results.attacks
    return Claim(pack(row, recipe, model, run.path, with_weights=True), recipe, model, run.path)
