"""Layers that learn their size from the first batch get it from black images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit.errors import PluginError, UsageError
from rushkit.models.lazy import initialise, lazy_layer


def net(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10), *more)


def test_layers_get_the_size_that_the_images_give_them():
    module = net()
    assert lazy_layer(module) == "LazyConv2d"
    initialise(module, 3, (8, 6), "net.py:Net")
    assert lazy_layer(module) == ""
    assert [tuple(layer.weight.shape) for layer in (module[0], module[3])] == [(4, 3, 3, 3), (10, 4 * 6 * 4)]


def test_modes_and_statistics_stay_as_they_are():
    module = net().train()
    initialise(module, 3, 8, "net.py:Net")
    assert all(layer.training for layer in module.modules())
    assert torch.equal(module[1].running_var, torch.ones(4))


def test_a_module_without_such_layers_is_not_run():
    class Unrunnable(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("it was run")

    initialise(Unrunnable(2, 3), 3, 8, "net.py:Net")


def test_a_layer_that_no_image_passes_through_is_refused():
    module = net()
    module.spare = nn.ModuleDict({"head": nn.LazyLinear(3)})
    module.forward = lambda x: nn.Sequential.forward(nn.Sequential(*list(module)[:4]), x)
    with pytest.raises(UsageError, match=r"net.py:Net has a LazyLinear that no image passes through"):
        initialise(module, 3, 8, "net.py:Net")


def test_images_that_do_not_fit_are_said_in_one_message():
    with pytest.raises(PluginError, match=r"net.py:Net cannot take images of 3x2x2"):
        initialise(net(), 3, 2, "net.py:Net")
