from __future__ import annotations

import pytest
import torch
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


@pytest.mark.parametrize(
    "name, left",
    # The deep stem's last norm stands behind a Sequential; mobilenet's norms have activations of their own.
    [("resnet10-small", 0), ("timm/resnet14t", 1), ("timm/mobilenetv3_small_050", 34)],
)
def test_a_folded_backbone_computes_the_same(name, left):
    module = trained(build_backbone(name, {}, 3, 32, 0), 32)
    x = torch.rand(4, 3, 32, 32, generator=generator(1, "x"))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    folded = fold_batch_norm(module, x[:2])
    expected = module(x)
    assert (folded(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in before.items())
    assert batch_norms(folded) == left < batch_norms(module) or folded is module


def test_input_gradients_are_the_same():
    module = trained(build_backbone("resnet10-small", {}, 3, 32, 0), 32).requires_grad_(False).double()
    x = torch.rand(2, 3, 32, 32, generator=generator(1, "x"), dtype=torch.float64)
    gradients = []
    for each in (module, fold_batch_norm(module, x)):
        probe = x.clone().requires_grad_()
        each(probe).square().sum().backward()
        gradients.append(probe.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


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
