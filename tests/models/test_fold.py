from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import build_backbone
from rushkit.system import generator


def trained(module: nn.Module, size: int) -> nn.Module:
    """With running statistics and affine parameters that a fold can get wrong."""
    draws = generator(0, "fold")
    module.train()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                layer.weight.uniform_(0.5, 2, generator=draws)
                layer.bias.normal_(generator=draws)
        module(torch.rand(8, 3, size, size, generator=draws))
    return module.eval()


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


# Norms, and those that no fold may take: an identity branch has no convolution (RepVGG), what a norm is given has been
# concatenated (DenseNet) or goes around a block as well (ResNetV2).
NETWORKS = {
    "resnet10-small": (12, 0),
    "timm/resnet14t": (19, 0),
    "timm/mobilenetv2_050": (52, 0),
    "timm/mobilenetv3_small_050": (34, 0),
    "timm/tf_efficientnet_lite0": (49, 0),
    "timm/regnety_002": (44, 0),
    "timm/densenet121": (23, 13),
    "timm/repvgg_a0": (61, 17),
    "timm/resnetv2_50d": (51, 17),
}


def shaken(module: nn.Module) -> nn.Module:
    """With statistics and affine parameters that a fold can get wrong, and little that would amplify rounding."""
    draws = generator(0, "fold")
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.8, 1.2, generator=draws)
                layer.bias.normal_(0, 0.3, generator=draws)
                layer.running_mean.normal_(0, 0.1, generator=draws)
                layer.running_var.uniform_(0.8, 1.2, generator=draws)
    return module.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_backbone_computes_the_same(name):
    options = {"block_config": (3, 2, 2, 2)} if name == "timm/densenet121" else {}
    module = shaken(build_backbone(name, options, 3, 32, 0)).requires_grad_(False)
    x = torch.rand(4, 3, 32, 32, generator=generator(1, "x"))
    before = {key: value.clone() for key, value in module.state_dict().items()}

    folded = fold_batch_norm(module, x[:2])

    expected = module(x)
    assert (folded(x) - expected).abs().max() <= 2e-6 * expected.abs().max()
    assert (batch_norms(module), batch_norms(folded)) == NETWORKS[name]
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in before.items())


# ReLU, hard swish and SiLU, some of which change their inputs in place; squeeze and excitation; convolutions that pad.
@pytest.mark.parametrize("name", ["resnet10-small", "timm/mobilenetv3_small_050", "timm/tf_efficientnet_b0"])
def test_values_and_input_gradients_are_the_same_in_double_precision(name):
    module = trained(build_backbone(name, {}, 3, 32, 0), 32).requires_grad_(False).double()
    x = torch.rand(2, 3, 32, 32, generator=generator(1, "x"), dtype=torch.float64)
    outputs, gradients = [], []
    for each in (module, fold_batch_norm(module, x)):
        probe = x.clone().requires_grad_()
        outputs.append(each(probe))
        outputs[-1].square().sum().backward()
        gradients.append(probe.grad)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9 * float(gradients[0].abs().max()))


def test_a_convolution_with_a_bias_and_a_norm_without_affine():
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), 8)
    x = torch.rand(2, 3, 8, 8, generator=generator(1, "x"))
    folded = fold_batch_norm(module, x)
    assert not batch_norms(folded)
    torch.testing.assert_close(folded(x), module(x), atol=1e-5, rtol=1e-5)


class NormFirst(nn.Module):
    """Its children stand in another order than they are called in."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.norm(x).relu())


def test_a_norm_that_does_not_follow_its_neighbour_stays():
    module = trained(NormFirst(), 8)
    assert fold_batch_norm(module, torch.rand(2, 3, 8, 8, generator=generator(1, "x"))) is module


class Wired(nn.Module):
    """A convolution and its norm, wired as ``forward`` says."""

    def __init__(self, forward, convolution: type[nn.Conv2d] = nn.Conv2d, norm: type[nn.BatchNorm2d] = nn.BatchNorm2d):
        super().__init__()
        self.convolution = convolution(3, 3, 3, padding=1)
        self.norm = norm(3)
        self.wiring = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wiring(self, x)


class Standardised(nn.Conv2d):
    """A convolution that no scale of its filters changes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


class Clamped(nn.BatchNorm2d):
    """A norm with a forward pass of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).clamp(-1, 1)


def around(self: Wired, x: torch.Tensor) -> torch.Tensor:
    x = self.convolution(x)
    return x + self.norm(x).relu()


def in_place(self: Wired, x: torch.Tensor) -> torch.Tensor:
    x = self.convolution(x)
    x.relu_()
    return self.norm(x)


def part(self: Wired, x: torch.Tensor) -> torch.Tensor:
    x = self.convolution(x)
    return self.norm(x) * x.detach()[:, :1]


def reaches(self: Wired, x: torch.Tensor) -> torch.Tensor:
    return self.norm(self.convolution(x))


WIRINGS = {
    "the output goes around the norm as well": lambda: Wired(around),
    "the output is changed in place": lambda: Wired(in_place),
    "a part of the output is used": lambda: Wired(part),
    "the convolution is called twice": lambda: Wired(lambda self, x: self.norm(self.convolution(self.convolution(x)))),
    "the norm is called twice": lambda: Wired(lambda self, x: self.norm(self.norm(self.convolution(x)).relu())),
    "the norm is called on the output twice": lambda: Wired(
        lambda self, x: (x := self.convolution(x)) is not None and self.norm(x) + self.norm(x).relu()
    ),
    "the filters are standardised": lambda: Wired(reaches, Standardised),
    "the norm is another": lambda: Wired(reaches, norm=Clamped),
}


@pytest.mark.parametrize("wiring", WIRINGS)
def test_what_is_wired_otherwise_stays(wiring):
    module = trained(WIRINGS[wiring](), 8)
    x = torch.rand(2, 3, 8, 8, generator=generator(1, "x"))
    assert fold_batch_norm(module, x) is module


def test_a_pair_is_folded_beside_one_that_is_not():
    module = trained(nn.Sequential(Wired(reaches), Wired(around), Wired(lambda self, x: reaches(self, x).relu())), 8)
    x = torch.rand(2, 3, 8, 8, generator=generator(1, "x"))
    folded = fold_batch_norm(module, x)
    assert [batch_norms(each) for each in folded] == [0, 1, 0]
    torch.testing.assert_close(folded(x), module(x), atol=1e-5, rtol=1e-5)


def test_no_hook_is_left_on_the_copy():
    module = trained(nn.Sequential(Wired(reaches), Wired(around)), 8)
    folded = fold_batch_norm(module, torch.rand(2, 3, 8, 8, generator=generator(1, "x")))
    assert folded is not module
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in folded.modules())


def test_a_dropout_of_the_norm_stays_before_its_activation():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4, drop_layer=nn.Dropout, act_layer=nn.Tanh))
    folded = fold_batch_norm(trained(module, 8), torch.rand(2, 3, 8, 8, generator=generator(1, "x")))
    assert [type(layer) for layer in folded[1]] == [nn.Dropout, nn.Tanh]
