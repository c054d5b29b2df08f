"""Backbones of rectangles: which take them, and what the others say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit import registries
from rushkit.errors import UsageError
from rushkit.models.network import build_backbone, macs


@pytest.mark.parametrize("name", ["resnet10-small", "resnet20", "timm/test_resnet", "timm/test_vit"])
def test_features_of_rectangles(name):
    encoder = build_backbone(name, {}, 3, (48, 32), 0).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 48, 32)).shape == (2, encoder.num_features)


def test_weights_do_not_depend_on_the_shape():
    one, other = (build_backbone("resnet10-small", {}, 3, size, 0).state_dict() for size in (32, (32, 16)))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_one_that_takes_squares_alone_says_what_makes_them():
    def flat(in_channels: int = 3, image_size: int = 32) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, 4))
        model.num_features = 4
        return model

    with registries.backbones.restored():
        registries.backbones.register("flat")(flat)
        build_backbone("flat", {}, 3, 24, 0)
        with pytest.raises(UsageError, match="backbone 'flat' takes squares, and the images are 24x16") as caught:
            build_backbone("flat", {}, 3, (24, 16), 0)
    assert "--set data.image_size=16 makes squares of them" in caught.value.hint


def test_arithmetic_is_that_of_the_area():
    encoder = build_backbone("resnet18", {}, 3, 32, 0)
    assert macs(encoder, (32, 64)) == 2 * macs(encoder, 32)
