"""A backbone whose weights a hook makes before each pass cannot be copied: it is evaluated as it is."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

from rushkit.models.fold import fold_batch_norm
from rushkit.system import generator


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


class Locked(nn.Conv2d):
    """A layer that holds what no copy can be made of."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.lock = threading.Lock()


LAYERS = {
    "weight_norm": lambda: old_weight_norm(nn.Conv2d(3, 4, 3)),
    "spectral_norm": lambda: spectral_norm(nn.Conv2d(3, 4, 3)),
    "a lock": lambda: Locked(3, 4, 3),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("norm", [True, False], ids=["before BatchNorm", "alone"])
def test_a_module_that_cannot_be_copied_stays_as_it_is(layer, norm):
    module = nn.Sequential(LAYERS[layer](), *([nn.BatchNorm2d(4)] if norm else []), nn.ReLU())
    x = torch.rand(2, 3, 8, 8, generator=generator(0, "x"))
    # A pass in train mode, after which spectral_norm's weight has a graph.
    module(x)
    module.eval()
    expected = module(x)
    assert fold_batch_norm(module, x) is module
    assert torch.equal(module(x), expected)
