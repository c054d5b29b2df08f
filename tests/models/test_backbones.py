from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from rushkit import models
from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.models.network import build_backbone, macs, num_parameters


def multiply_accumulates_by_hooks(module: nn.Module, x: torch.Tensor) -> int:
    """The slow reference: outputs times fan-in, layer by layer, for networks of convolutions and linear layers."""
    counts = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        counts.append(output.numel() * layer.weight[0].numel())

    hooks = [
        layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        module.eval()(x)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def test_resnet18_with_small_stem_is_the_papers_network():
    encoder = build_backbone("resnet18", {}, 3, 32, seed=0)
    assert encoder.num_features == 512
    assert round(num_parameters(encoder) / 1e6, 2) == 11.17
    assert round(multiply_accumulates_by_hooks(encoder, torch.zeros(1, 3, 32, 32)) / 1e6, 1) == 555.4


def test_resnet18_with_standard_stem_is_timms_own():
    encoder = build_backbone("resnet18", {"stem": "standard"}, 3, 64, seed=0)
    peer = timm.create_model("resnet18", num_classes=0)
    peer.load_state_dict(encoder.state_dict())
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(x), peer.eval()(x))


def test_a_padded_stem_has_the_same_weights_and_two_places_more():
    x = torch.zeros(1, 3, 32, 32)
    small, padded = (build_backbone("resnet18", {"stem": stem}, 3, 32, seed=0) for stem in ("small", "padded"))
    assert padded.maxpool(padded.conv1(x)).shape == (1, 64, 34, 34)
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor, padded.state_dict()[name])


def test_resnet10_small_is_small():
    encoder = build_backbone("resnet10-small", {}, 3, 32, seed=0)
    assert encoder.num_features == 128
    assert 0.25e6 < num_parameters(encoder) < 0.35e6
    assert macs(encoder, 32) == multiply_accumulates_by_hooks(encoder, torch.zeros(1, 3, 32, 32)) < 20e6


def test_small_stem_keeps_the_images_resolution():
    encoder = build_backbone("resnet10-small", {}, 3, 32, seed=0)
    x = torch.zeros(1, 3, 32, 32)
    assert encoder.maxpool(encoder.act1(encoder.bn1(encoder.conv1(x)))).shape == (1, 16, 32, 32)


@pytest.mark.parametrize(
    ("name", "in_channels", "image_size"),
    [
        ("resnet18", 3, 32),
        ("resnet10-small", 3, 32),
        ("resnet10-small", 1, 8),
        ("timm/resnet10t", 1, 32),
        ("timm/vit_tiny_patch16_224", 3, 32),
        ("timm/mobilenetv3_small_050", 3, 32),  # timm's num_features is 288 here, its outputs are 1024 long
    ],
)
def test_backbone_maps_images_to_its_number_of_features(name, in_channels, image_size):
    encoder = build_backbone(name, {}, in_channels, image_size, seed=0).eval()
    with torch.no_grad():
        features = encoder(torch.zeros(2, in_channels, image_size, image_size))
    assert features.shape == (2, encoder.num_features)


@pytest.mark.parametrize("name", ["resnet18", "resnet10-small", "timm/resnet10t"])
def test_backbone_is_built_in_train_mode_with_untouched_statistics(name):
    encoder = build_backbone(name, {}, 3, 32, seed=0)
    assert all(module.training for module in encoder.modules())
    counters = [buffer for key, buffer in encoder.named_buffers() if key.endswith("num_batches_tracked")]
    assert counters
    assert all(counter == 0 for counter in counters)


@pytest.mark.parametrize("name", ["resnet10-small", "timm/vit_tiny_patch16_224"])
def test_weights_come_from_the_seed_and_the_global_generator_is_untouched(name):
    before = torch.random.get_rng_state()
    first = build_backbone(name, {}, 3, 32, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    again = build_backbone(name, {}, 3, 32, seed=3).state_dict()
    torch.random.set_rng_state(before)
    other = build_backbone(name, {}, 3, 32, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["resnet18", "resnet10-small"])
def test_every_residual_branch_works_from_the_start(name):
    layers = build_backbone(name, {}, 3, 32, seed=0).modules()
    assert all(torch.all(layer.weight == 1) for layer in layers if isinstance(layer, nn.BatchNorm2d))


def test_channels_last_survives_the_encoder():
    encoder = build_backbone("resnet10-small", {}, 3, 32, seed=0).to(memory_format=torch.channels_last).eval()
    x = torch.zeros(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.no_grad():
        maps = encoder.forward_features(x)
    assert maps.is_contiguous(memory_format=torch.channels_last)


def test_timm_options_reach_the_model():
    encoder = build_backbone("timm/resnet10t", {"drop_rate": 0.25}, 3, 32, seed=0)
    assert encoder.drop_rate == 0.25


def test_unknown_timm_name_gives_the_nearest():
    with pytest.raises(UsageError, match="no model 'resnet10tt'") as caught:
        build_backbone("timm/resnet10tt", {}, 3, 32, seed=0)
    assert "timm/resnet10t" in caught.value.hint


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:weights", "resnet18.no_such_tag"])
def test_timm_name_that_would_fetch_weights_is_refused(name):
    with pytest.raises(UsageError):
        build_backbone(f"timm/{name}", {}, 3, 32, seed=0)


@pytest.mark.parametrize(
    ("name", "image_size", "options", "reason"),
    [
        ("vit_tiny_patch16_224", 8, {}, "3x8x8"),  # smaller than a patch
        ("resnet10t", 32, {"drop_rat": 0.1}, "drop_rat"),
        ("resnet10t", 32, {"global_pool": ""}, "not one vector an image"),
        ("resnet10t", 32, {"num_classes": 5}, "num_classes"),
        ("resnet10t", 32, {"checkpoint_path": "weights.pt"}, "checkpoint_path"),
    ],
)
def test_timm_model_that_does_not_fit_is_a_usage_error_with_the_reason(name, image_size, options, reason):
    with pytest.raises(UsageError, match=reason):
        build_backbone(f"timm/{name}", options, 3, image_size, seed=0)


def test_pretrained_weights_out_of_reach_say_so(monkeypatch):
    create = timm.create_model

    def offline(name: str, pretrained: bool, **options: object) -> nn.Module:
        if pretrained:
            raise OSError("the hub cannot be reached\nlong trace")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        RushkitError, match=r"weights of timm/resnet10t cannot be had: the hub cannot be reached\ngo online"
    ):
        build_backbone("timm/resnet10t", {"pretrained": True}, 3, 32, seed=0)


def test_backbone_without_num_features_is_the_plugins_error():
    @models.register("featureless")
    def featureless(in_channels: int, image_size: int) -> nn.Module:
        return nn.Flatten()

    try:
        with pytest.raises(PluginError, match="num_features"):
            build_backbone("featureless", {}, 3, 32, seed=0)
    finally:
        models._registry.unregister("featureless", models._registry.entry("featureless").owner)
