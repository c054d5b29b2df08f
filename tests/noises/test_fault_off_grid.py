"""Between the grey levels the noises on the 8-bit grid answer for the image, not for the nearest 8-bit image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from rushkit.noises.discrete_gaussian import DiscreteGaussian
from rushkit.noises.split import Split
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator


class MeanAbove(nn.Module):
    """Class 1 where the mean grey level is above a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        score = 255 * x.double().flatten(1).mean(dim=1) - self.threshold
        return torch.stack([-score, score], dim=1).float()


@pytest.mark.parametrize("rest", [-0.45, -0.2, 0.3, 0.45])
@pytest.mark.parametrize("sigma", [0.002, 0.02])
def test_discrete_gaussian_draws_the_rounded_sum_between_grey_levels(sigma, rest):
    noise, count = DiscreteGaussian(scale=sigma), 200_000
    x = torch.full((count, 1, 1, 1), (100 + rest) / 255)
    levels = torch.round(255 * noise.snap(x + noise.sample(x, generator(0, "noise")))).flatten().numpy()
    reach = math.ceil(3 * 255 * sigma)
    edges = np.arange(-reach, reach + 1) - 0.5
    # round(x + ε) = 100 + k where ε lies within half a level of k - rest.
    ends = (np.concatenate([[-np.inf], edges, [np.inf]]) - rest) / (255 * sigma)
    seen = np.histogram(levels - 100, np.concatenate([[-1e9], edges, [1e9]]))[0]
    # False alarm once in a million.
    assert stats.chisquare(seen, count * np.diff(stats.norm.cdf(ends))).pvalue > 1e-6


def test_an_attack_inside_the_certified_l2_radius_of_a_discrete_gaussian_changes_nothing():
    # A half-space classifier's smoothing is known: the radius is the distance to its edge, here l2 0.16.
    noise, side, level = DiscreteGaussian(scale=0.05), 34, 100
    dim = 3 * side**2
    edge = level + 255 * 0.16 / math.sqrt(dim)
    x = torch.full((1, 3, side, side), level / 255)
    attacked = x + 0.51 / 255
    assert 0.115 < (attacked - x).double().norm() < 0.12
    g = SmoothedClassifier(MeanAbove(edge), noise, samples=400, seed=0)
    # p = Φ((0.16 − 0.118)/0.05) = 0.8: 5 standard deviations of 400 draws are 0.1.
    expected = stats.norm.cdf((0.16 - float((attacked - x).double().norm())) / 0.05)
    assert g.votes(attacked)[0, 0] / 400 == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rest", [-0.5, -0.3, 0.2, 0.49])
def test_split_dithers_between_grey_levels(rest):
    noise, count = Split(scale=0.02), 100_000
    x = torch.full((1, 1, 2, 2), (100 + rest) / 255, dtype=torch.float64)
    lower = math.floor(100 + rest)
    share = 100 + rest - lower
    versions = [
        noise.exhaustive(torch.full((1, 1, 2, 2), level / 255, dtype=torch.float64))[:, 0]
        for level in (lower, lower + 1)
    ]
    many = x.expand(count, -1, -1, -1)
    noisy = noise.snap(many + noise.sample(many, generator(0, "noise")))
    expected: dict[tuple[float, ...], float] = {}
    for probability, panel in zip((1 - share, share), versions, strict=True):
        for version in panel:
            key = tuple(np.round(255 * 4 * version.flatten().numpy()))
            expected[key] = expected.get(key, 0.0) + probability / noise.num_splits
    rows, counts = np.unique(np.round(255 * 4 * noisy.flatten(1).numpy()), axis=0, return_counts=True)
    seen = {tuple(row): number for row, number in zip(rows, counts, strict=True)}
    assert set(seen) <= set(expected)
    observed = [seen.get(key, 0) for key in expected]
    # False alarm once in a million.
    assert stats.chisquare(observed, [count * probability for probability in expected.values()]).pvalue > 1e-6


class AmongThese(nn.Module):
    """Class 1 for some noisy images, class 0 for all others."""

    def __init__(self, images: list[torch.Tensor]) -> None:
        super().__init__()
        self.known = {self.key(image) for image in images}

    @staticmethod
    def key(image):
        return tuple(torch.round(image.flatten() * 4 * 255).long().tolist())

    def forward(self, x):
        return nn.functional.one_hot(torch.tensor([self.key(image) in self.known for image in x]).long(), 2).float()


def test_an_attack_inside_the_certified_l1_radius_of_split_changes_nothing():
    noise = Split(scale=0.1)
    x = torch.full((1, 3, 2, 2), 100 / 255, dtype=torch.float64)
    here, rounded = noise.exhaustive(x)[:, 0], noise.exhaustive(x + 1 / 255)[:, 0]
    same = (here == rounded).flatten(1).all(dim=1)
    # As near to the edge as a certified radius of 7 levels allows: 18 of the 51 versions are of the other class.
    model = AmongThese([*here[same][:18], *rounded[~same]])
    votes = model(here).sum(dim=0).long()[None].numpy()
    (radius,) = noise.deterministic_radius(votes)
    assert (votes.tolist(), round(255 * radius)) == ([[33, 18]], 7)
    attacked = x + 0.51 / 255
    assert (attacked - x).sum() < 0.9 * radius
    share = SmoothedClassifier(model, noise, samples=4000, seed=0).votes(attacked)[0, 0] / 4000
    # 5 standard deviations of 4000 draws are 0.04.
    changed = int((~same).sum())
    assert share == pytest.approx((33 - 0.51 * changed) / 51, abs=0.04)


def test_a_fixed_panel_of_split_gives_an_image_the_same_draws_in_any_company():
    noise = Split(scale=0.1)
    x = torch.rand(120, 3, 2, 2, generator=generator(0, "images"))
    g = SmoothedClassifier(nn.Flatten(), noise, samples=30)
    with torch.no_grad(), g.fixed_noise(1):
        together, alone = g.sample_logits(x), g.sample_logits(x[50:51])
    assert torch.equal(together[:, 50:51], alone)
