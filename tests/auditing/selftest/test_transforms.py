"""Layers of the planted defences against written-out references, and their stand-ins' values and slopes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rushkit.auditing.selftest.detached import Detached, Purifier
from rushkit.auditing.selftest.rounded import (
    Jpeg,
    Mean,
    Median,
    Rounded,
    SmoothThermometer,
    SmoothThreshold,
    Thermometer,
    Threshold,
)
from rushkit.auditing.selftest.stand_ins import Neighbours, Scaled
from rushkit.auditing.selftest.steep import Steep
from rushkit.auditing.selftest.winners import Winners
from rushkit.models.stood_in import StoodIn

PAIRS = [
    (Rounded(), None),
    (Thermometer(), SmoothThermometer()),
    (Jpeg(), None),
    (Threshold(), SmoothThreshold()),
    (Median(), Mean()),
    (Steep(200.0), Steep(6.0)),
]


@pytest.fixture
def x():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def slope(layer, x):
    moved = x.clone().requires_grad_()
    out = layer(moved)
    (gradient,) = torch.autograd.grad(out.square().sum(), moved)
    return out.detach(), gradient


def test_rounded_images_have_the_four_levels(x):
    assert Rounded()(torch.tensor([0.0, 0.16, 0.17, 0.49, 0.51, 0.84, 1.0])).mul(3).tolist() == pytest.approx(
        [0, 0, 1, 1, 2, 3, 3]
    )


def test_a_thermometer_has_one_plane_for_each_level_that_a_pixel_is_above(x):
    planes = Thermometer()(x)
    assert planes.shape == (4, 45, 16, 16)
    for channel in range(3):
        for level in range(1, 16):
            assert torch.equal(planes[:, 15 * channel + level - 1], (x[:, channel] > level / 16).float())


def test_a_jpeg_is_what_pillow_decodes(x):
    stored = np.round(x[2].numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
    with io.BytesIO() as file:
        Image.fromarray(stored).save(file, format="JPEG", quality=20)
        decoded = np.array(Image.open(file))
    assert torch.equal(Jpeg()(x)[2], torch.from_numpy(decoded.transpose(2, 0, 1)) / 255)


def test_the_median_and_the_mean_are_of_the_nine_pixels_around(x):
    patch = x[1, 2, 4:7, 9:12].flatten()
    assert Median()(x)[1, 2, 5, 10] == patch.sort().values[4]
    assert Mean()(x)[1, 2, 5, 10] == pytest.approx(patch.mean().item())
    corner = torch.stack([x[0, 0, 0, 0]] * 4 + [x[0, 0, 0, 1]] * 2 + [x[0, 0, 1, 0]] * 2 + [x[0, 0, 1, 1]])
    assert Median()(x)[0, 0, 0, 0] == corner.sort().values[4]


@pytest.mark.parametrize(("share", "kept"), [(0.1, 2), (0.08, 2), (0.05, 1), (0.5, 10)])
def test_the_winners_are_the_largest_of_the_whole_layer(share, kept):
    x = torch.rand(3, 5, 2, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    for before, after in zip(x.flatten(1), Winners(share)(x).flatten(1), strict=True):
        rows = before.argsort(descending=True)
        assert torch.equal(after[rows[:kept]], before[rows[:kept]])
        assert not after[rows[kept:]].any()


@pytest.mark.parametrize(("real", "smooth"), PAIRS, ids=lambda layer: type(layer).__name__)
def test_a_stand_in_has_exactly_the_values_of_one_layer_and_the_slope_of_the_other(real, smooth, x):
    values, gradient = slope(StoodIn(real, smooth), x)
    assert torch.equal(values, real(x))
    # The slope of sum(v²) at the real values v is 2v through the other layer's.
    moved = x.clone().requires_grad_()
    out = moved if smooth is None else smooth(moved)
    (expected,) = torch.autograd.grad(out, moved, 2 * values)
    assert torch.allclose(gradient, expected, atol=1e-6)
    assert gradient.abs().amax() > 0


@pytest.mark.parametrize("layer", [Thermometer(), Jpeg(), Threshold(), Median()], ids=repr)
def test_no_graph_leads_through_these(layer, x):
    assert not layer(x.requires_grad_()).requires_grad


def test_rounding_has_a_slope_of_zero(x):
    assert not slope(Rounded(), x)[1].any()


def test_a_detached_network_answers_and_the_skip_gives_the_slope(x):
    network, skip = (nn.Sequential(nn.Flatten(), nn.Linear(768, 10)) for _ in range(2))
    planted = Detached(network, skip, 0.05)
    assert torch.equal(planted(x), network(x) + 0.05 * skip(x))
    assert torch.equal(planted(x), Detached(network, skip, 0.05, restored=True)(x))
    rows = {"planted": skip[1].weight[4] * 0.05, "restored": skip[1].weight[4] * 0.05 + network[1].weight[4]}
    for restored in (False, True):
        moved = x.clone().requires_grad_()
        Detached(network, skip, 0.05, restored)(moved)[:, 4].sum().backward()
        expected = rows["restored" if restored else "planted"].view(1, 3, 16, 16).expand_as(x)
        assert torch.allclose(moved.grad, expected, atol=1e-6)


def test_a_purifier_gives_all_pixels_of_an_image_the_same_slope(x):
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    planted = Purifier(Rounded(), network)
    assert torch.equal(planted(x), network(Rounded()(x)))
    moved = x.clone().requires_grad_()
    planted(moved)[:, 4].sum().backward()
    assert torch.allclose(moved.grad, (0.02 * network[1].weight[4].sum() / 768).expand_as(x), atol=1e-7)


def test_scaled_logits(x):
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    assert torch.equal(Scaled(network, 8.0)(x), 8 * network(x))


def test_neighbours_average_to_the_value_of_a_linear_model(x):
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        logits = Neighbours(network, count=100, spread=0.05)(x)
    # The deviation of a logit's mean is 0.05 ‖w‖ / √100, about 0.003; five for each of 40: one seed in 40 000 fails.
    assert torch.allclose(logits, network(x), atol=0.015)
    assert not torch.equal(logits, network(x))
