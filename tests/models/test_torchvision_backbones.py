"""torchvision's models as encoders: all but the last linear layer, under torchvision's names."""

from __future__ import annotations

import pytest
import torch
import torchvision

from rushkit.errors import RushkitError, UsageError
from rushkit.models.network import build_backbone
from rushkit.system import generator


def build(name, options=None, size=32, channels=3):
    return build_backbone(f"torchvision/{name}", options or {}, channels, size, 0)


@pytest.mark.parametrize(
    ("name", "size", "head"),
    [
        ("resnet18", 32, "fc"),
        ("mobilenet_v3_small", 32, "classifier.3"),  # a linear layer and an activation stay
        ("shufflenet_v2_x0_5", 32, "fc"),
        ("googlenet", 32, "fc"),  # whose auxiliary heads go
    ],
)
@torch.no_grad()
def test_the_last_linear_layer_on_the_features_gives_the_models_logits(name, size, head):
    encoder = build(name, size=size).eval()
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    with torch.random.fork_rng():
        whole = torchvision.models.get_model(name, num_classes=7, **options).eval()
    encoder.load_state_dict({key: value for key, value in whole.state_dict().items() if not key.startswith(f"{head}.")})
    x = torch.rand(2, 3, size, size, generator=generator(0, "images"))
    features = encoder(x)
    assert features.shape == (2, encoder.num_features)
    torch.testing.assert_close(whole.get_submodule(head)(features), whole(x))


@torch.no_grad()
def test_a_model_of_a_fixed_size_is_built_for_the_images():
    assert build("vit_b_32", size=64).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 768)


def test_in_training_it_gives_features_as_well():
    assert build("googlenet").train()(torch.zeros(2, 3, 32, 32)).shape == (2, 1024)


def test_options_reach_the_model():
    assert build("mobilenet_v2", {"width_mult": 0.5}).features[0][0].out_channels == 16


@pytest.mark.parametrize(
    ("name", "options", "size", "channels", "says"),
    [
        ("resnet19", {}, 32, 3, "did you mean torchvision/resnet1"),
        ("fasterrcnn_resnet50_fpn", {}, 32, 3, "no classification model"),
        ("squeezenet1_0", {}, 64, 3, "not with a linear layer"),
        ("alexnet", {}, 32, 3, "cannot be built for 3x32x32"),
        ("resnet18", {"wdith": 3}, 32, 3, "wdith"),
        ("resnet18", {"weights": "DEFAULT"}, 32, 3, "weights cannot be set"),
        ("resnet18", {}, 32, 1, "takes 3 channels"),
    ],
)
def test_what_cannot_be_built(name, options, size, channels, says):
    with pytest.raises(UsageError) as caught:
        build(name, options, size, channels)
    assert says in str(caught.value)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights.DEFAULT.__class__, "get_state_dict", fail)
    with pytest.raises(RushkitError, match="no route to host"):
        build("resnet18", {"pretrained": True})


def test_pretrained_weights_are_loaded_without_their_head(monkeypatch):
    with torch.random.fork_rng():
        whole = torchvision.models.resnet18().state_dict()
    kind = torchvision.models.ResNet18_Weights.DEFAULT.__class__
    monkeypatch.setattr(kind, "get_state_dict", lambda *arguments, **keywords: whole)
    encoder = build("resnet18", {"pretrained": True})
    assert torch.equal(encoder.conv1.weight, whole["conv1.weight"])
    assert not any(name.startswith("fc") for name in encoder.state_dict())


def googlenet_as_torchvision_loads_it():
    """With statistics of BatchNorm that let its inputs through, and with what torchvision switches on for weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = torchvision.models.googlenet(aux_logits=False, init_weights=True, transform_input=True)
        for norm in (module for module in whole.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.momentum = 1.0
        whole(torch.randn(8, 3, 32, 32, generator=generator(0, "statistics")))
    return whole.eval()


@torch.no_grad()
def test_pretrained_weights_see_what_torchvision_shows_them(monkeypatch):
    whole = googlenet_as_torchvision_loads_it()
    kind = torchvision.models.GoogLeNet_Weights.DEFAULT.__class__
    monkeypatch.setattr(kind, "get_state_dict", lambda *arguments, **keywords: whole.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=generator(0, "images"))
    torch.testing.assert_close(whole.fc(build("googlenet", {"pretrained": True}).eval()(x)), whole(x))
    plain = build("googlenet", {"pretrained": True, "transform_input": False}).eval()
    assert (whole.fc(plain(x)) - whole(x)).abs().max() > 0.01
