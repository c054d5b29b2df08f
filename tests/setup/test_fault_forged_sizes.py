"""Sizes that a recipe or a checkpoint of anybody's asks for, refused before there is memory for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit import registries
from rushkit.errors import CheckpointError, UsageError
from rushkit.recipe import toml
from rushkit.recipe.load import load_recipe
from rushkit.recipe.overrides import parse_changes
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup import components, networks
from rushkit.setup.model import load_classifier, load_encoder
from rushkit.system import choose_machine


class TooMuch(Exception):
    """What the tests raise in place of an allocation that no machine has memory for."""


@pytest.fixture
def no_large_tensors(monkeypatch):
    """Tensors of more than 256 MiB raise TooMuch: the old code asked for them, and took the machine's memory."""
    # torch remembers the functions that `with torch.device(...)` acts on as they are at its first use.
    with torch.device("cpu"):
        torch.zeros(1)
    for name in ("empty", "zeros", "rand"):
        original = getattr(torch, name)

        def small(*sizes, original=original, **options):
            shape = torch.Size(sizes[0] if sizes and not isinstance(sizes[0], int) else sizes)
            if shape.numel() > 1 << 26:
                raise TooMuch(f"{shape}")
            return original(*sizes, **options)

        monkeypatch.setattr(torch, name, small)


@pytest.fixture
def wide():
    """A backbone whose width is an option, as a plugin's may be."""

    def factory(in_channels: int = 3, image_size: int = 32, width: int = 8) -> nn.Module:
        model = nn.Sequential(nn.Conv2d(in_channels, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, width))
        model.num_features = width
        return model

    registries.backbones.register("wide")(factory)
    yield
    registries.backbones.unregister("wide", factory.__module__.partition(".")[0])


def checkpoint(recipe: Recipe, tmp_path, **meta) -> Checkpoint:
    """A fine-tuned checkpoint whose tensors fit a ``wide`` backbone of width 8, whatever its metadata say."""
    true = load_recipe("digits", ["backbone.name=wide", "backbone.width=8"], {})
    network = networks.build_network(true, components.build_objective(true, true.finetune), (3, 8), 10)
    told = {"stage": "finetune", "recipe": toml.dumps(recipe.resolved()), "image_size": 8, "classes": [*"0123456789"]}
    return Checkpoint(network.tensors(), told | meta, tmp_path / "shared.safetensors", "hash")


@pytest.mark.parametrize("size", [100_000, -1, 0, True, 10**30])
@pytest.mark.parametrize("load", [load_encoder, lambda shared: load_classifier(shared, choose_machine("cpu"))])
@pytest.mark.usefixtures("wide", "no_large_tensors")
def test_an_image_size_that_no_image_has(tmp_path, size, load):
    recipe = load_recipe("digits", ["backbone.name=wide", "backbone.width=8"], {})
    with pytest.raises(CheckpointError, match="does not say an image size from 1 to 2048"):
        load(checkpoint(recipe, tmp_path, image_size=size))


@pytest.mark.usefixtures("wide")
def test_an_encoder_far_larger_than_the_file(tmp_path):
    recipe = load_recipe("digits", ["backbone.name=wide", "backbone.width=4_000_000"], {})
    with pytest.raises(CheckpointError, match="recipe asks for more weights"):
        load_encoder(checkpoint(recipe, tmp_path))


@pytest.mark.usefixtures("wide")
def test_a_network_that_the_machine_cannot_train():
    recipe = load_recipe("digits", ["backbone.name=wide", "backbone.width=100_000_000_000"], {})
    with pytest.raises(UsageError, match="the network's weights alone take more than"):
        networks.build_network(recipe, components.build_objective(recipe, recipe.pretrain), (3, 8), 10)


@pytest.mark.parametrize("classes", [[1, 2], ["a", None], [["a"]]])
@pytest.mark.usefixtures("wide")
def test_classes_without_names(tmp_path, classes):
    recipe = load_recipe("digits", ["backbone.name=wide", "backbone.width=8"], {})
    with pytest.raises(CheckpointError, match="does not name its classes"):
        load_classifier(checkpoint(recipe, tmp_path, classes=classes), choose_machine("cpu"))


@pytest.mark.parametrize(
    "change",
    [
        "data.image_size=100000",
        "projector.hidden=1000000000",
        "projector.out=1000000000",
        "certify.samples=1000000000000",
        "certify.selection=1000000000000",
        "evaluate.samples=[1, 1000000000]",
        "attack.0.samples=[100000]",
        "attack.0.eot=100000",
    ],
)
def test_a_number_beyond_any_machine_is_refused_by_its_key(change):
    ((key, _),) = parse_changes([change])
    with pytest.raises(UsageError, match=rf"--set {key}.*: must be .*(or equal|from 0) to \d+"):
        load_recipe("digits", [change], {})
