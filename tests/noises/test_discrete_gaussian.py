"""The Gaussian on the grid of grey levels: its probabilities, its floats, and what p pays for both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from rushkit.noises.discrete_gaussian import DiscreteGaussian, _thresholds
from rushkit.noises.gaussian import Gaussian
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator

DIM = 3 * 32 * 32


@pytest.mark.parametrize("sigma", [0.002, 0.12, 1.0])
def test_thresholds_are_the_normal_distribution_to_within_what_p_pays(sigma):
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 40
    thresholds = _thresholds(sigma)
    reach = len(thresholds) // 2
    assert np.all(np.diff(thresholds) >= 0)
    probed = sorted({0, 1, reach - 1, reach, 2 * reach - 1, *range(0, 2 * reach, max(1, reach // 50))})
    errors = [
        abs(
            mpmath.ncdf((mpmath.mpf(i - reach) + 0.5) / (255 * mpmath.mpf(sigma)))
            - mpmath.mpf(int(thresholds[i])) / 2**62
        )
        for i in probed
    ]
    assert max(errors) < 2.0**-50
    # What lies beyond the last thresholds is part of the price too.
    assert 2 * mpmath.ncdf(-(mpmath.mpf(reach)) / (255 * mpmath.mpf(sigma))) < 2.0**-50


def test_draws_follow_the_rounded_gaussian():
    sigma, count = 0.02, 400_000
    drawn = DiscreteGaussian(scale=sigma).sample(torch.zeros(count), generator(0, "noise")).double() * 255
    steps = torch.round(drawn)
    assert float((drawn - steps).abs().max()) < 1e-5
    edges = np.arange(-15, 17) - 0.5
    expected = count * np.diff(stats.norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]]) / (255 * sigma)))
    seen = np.histogram(steps.numpy(), np.concatenate([[-1e9], edges, [1e9]]))[0]
    # False alarm once in a million.
    assert stats.chisquare(seen, expected).pvalue > 1e-6


def test_snapped_floats_do_not_depend_on_the_image_below_them():
    # The attack on float noise: the set of floats that x + δ can be tells x. Here every level gives the same floats.
    noise = DiscreteGaussian(scale=0.25)
    levels = torch.arange(256).view(256, 1, 1, 1).expand(-1, 3, 16, 16)
    x = levels.float() / 255
    noisy = x + noise.sample(x, generator(1, "noise"))
    snapped = noise.snap(noisy)
    steps = torch.round(snapped * 255)
    assert torch.equal(snapped, steps / 255)
    # The sum alone would not do: this is what is being repaired.
    assert not torch.equal(noisy, steps / 255)


def test_snap_passes_gradients_and_keeps_values_to_the_bit():
    noise = DiscreteGaussian(scale=0.25)
    x = (torch.randint(256, (4, 3, 8, 8), generator=generator(2, "x")) / 255).requires_grad_()
    noisy = x + noise.sample(x, generator(2, "noise"))
    snapped = noise.snap(noisy)
    assert torch.equal(snapped.detach(), torch.round(noisy.detach() * 255) / 255)
    snapped.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("sigma", [0.12, 1.0])
@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_radius_is_a_little_below_the_real_gaussians(sigma, norm):
    p = np.linspace(0.501, 0.9999, 200)
    sound = DiscreteGaussian(scale=sigma).certified_radius(p, norm, DIM)
    real = Gaussian(scale=sigma).certified_radius(p, norm, DIM)
    assert np.all(sound < real)
    np.testing.assert_allclose(sound, real, rtol=1e-4)
    assert DiscreteGaussian(scale=sigma).certified_radius_two_class(0.4, 0.3, norm, DIM) < Gaussian(
        scale=sigma
    ).certified_radius_two_class(0.4, 0.3, norm, DIM)


def test_a_fixed_panel_gives_an_image_the_same_draws_in_any_company():
    x = torch.rand(120, 3, 2, 2, generator=generator(0, "images"))
    g = SmoothedClassifier(nn.Flatten(), DiscreteGaussian(scale=0.1), samples=30)
    with torch.no_grad(), g.fixed_noise(1):
        together, alone = g.sample_logits(x), g.sample_logits(x[50:51])
    assert torch.equal(together[:, 50:51], alone)


def test_an_image_of_float32_grey_levels_is_on_the_grid_however_it_was_divided():
    noise = DiscreteGaussian(scale=0.1)
    levels = torch.arange(256).view(1, 1, 16, 16)
    drawn = [
        noise.snap(x + noise.sample(x, generator(3, "noise")))
        for x in (levels / 255, levels * torch.tensor(1 / 255), levels.double() / 255, (levels / 255).double())
    ]
    assert all(torch.equal(torch.round(255 * drawn[0]), torch.round(255 * other)) for other in drawn[1:])
