"""Pixels normalised inside the encoder: the same function as normalising before it, through folding and formats."""

from __future__ import annotations

import pytest
import torch

from rushkit.errors import UsageError
from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import build_backbone, load_weights
from rushkit.recipe.load import build_recipe
from rushkit.system import generator

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]


def images(count=4):
    return torch.rand(count, 3, 16, 16, generator=generator(0, "images"))


def encoder(mean=MEAN, std=STD):
    return build_backbone("resnet10-small", {}, 3, 16, 0, mean, std).eval()


def expected(x):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return encoder((), ())((x - mean) / std)


@torch.no_grad()
def test_it_is_the_plain_encoder_behind_the_normalisation():
    x = images()
    torch.testing.assert_close(encoder()(x), expected(x), rtol=0, atol=1e-6)
    assert encoder().num_features == 128


@torch.no_grad()
def test_it_survives_folding_and_channels_last():
    x = images()
    folded = fold_batch_norm(encoder().to(memory_format=torch.channels_last), x)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(x.to(memory_format=torch.channels_last)), expected(x), rtol=1e-4, atol=1e-5)


def test_its_figures_are_in_the_recipe_and_not_among_the_tensors():
    tensors = encoder().state_dict()
    assert {name.partition(".")[0] for name in tensors} == {"model"}
    other = encoder(std=[1.0, 1.0, 1.0])
    assert load_weights(other, {f"encoder.{name}": tensor for name, tensor in tensors.items()}, "encoder.").complete
    assert other.std.flatten().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("mean", "std"), [(MEAN, [0.2]), (MEAN, []), ([], STD), ([0.5], [0.5]), (MEAN, [0.2, 0, 0.1])])
def test_figures_that_are_not_one_a_channel(mean, std):
    with pytest.raises(UsageError, match="3 channels"):
        encoder(mean, std)


@pytest.mark.parametrize(
    "backbone", [{"mean": MEAN}, {"mean": MEAN, "std": [0.1]}, {"mean": MEAN, "std": [0.1, 0.1, 0]}]
)
def test_a_recipe_with_such_figures_is_refused(backbone):
    with pytest.raises(UsageError, match="backbone"):
        build_recipe({"data": {"name": "digits"}, "backbone": backbone})
