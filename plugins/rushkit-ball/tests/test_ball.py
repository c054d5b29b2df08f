"""Ball noise against geometry and simulation."""

import math

import numpy as np
import pytest
import torch
from rushkit_ball import Ball

from rushkit.errors import NoCertificate, UsageError


def test_in_one_dimension_it_is_uniform_noise_with_its_l1_radius():
    for p in (0.6, 0.8, 0.99, 1.0):
        assert Ball(scale=0.3, dim=1).certified_radius(p, "l2", 1) == pytest.approx(2 * 0.3 * (p - 0.5), abs=1e-12)


def test_in_three_dimensions_the_lost_share_is_that_of_a_spherical_lens():
    ball, p = Ball(scale=1.0, dim=3), 0.9
    distance = ball.certified_radius(p, "l2", 3)
    lens = math.pi * (4 + distance) * (2 - distance) ** 2 / 12 / (4 / 3 * math.pi)
    assert 1 - lens == pytest.approx(p - 0.5, abs=1e-12)


def test_the_radius_is_zero_at_a_half_monotone_and_finite_at_one():
    radii = Ball(std=0.25).certified_radius(np.linspace(0, 1, 101), "l2", 3072)
    assert (radii[:51] == 0).all()
    assert (np.diff(radii[50:]) > 0).all()
    assert np.isfinite(radii).all()


def test_linf_and_l1_follow_by_inclusion():
    ball = Ball(std=0.25)
    l2 = ball.certified_radius(0.9, "l2", 3072)
    assert ball.certified_radius(0.9, "l1", 3072) == l2
    assert ball.certified_radius(0.9, "linf", 3072) == pytest.approx(l2 / math.sqrt(3072))


def test_draws_lie_in_the_ball_with_the_stated_deviation_and_repeat_with_the_seed():
    ball, x = Ball(std=0.25, dim=48), torch.zeros(4000, 3, 4, 4)
    draw = ball.sample(x, torch.Generator().manual_seed(0))
    assert draw.flatten(1).norm(dim=1).max() <= ball.scale * (1 + 1e-6)
    # 192000 coordinates: the sample deviation is within 1% but for a chance below 1e-6.
    assert draw.std().item() == pytest.approx(0.25, rel=0.01)
    assert torch.equal(draw, ball.sample(x, torch.Generator().manual_seed(0)))


def test_bad_input_is_named():
    with pytest.raises(UsageError, match="one of scale and std"):
        Ball(scale=1.0, std=1.0)
    with pytest.raises(UsageError, match=r"--set noise\.dim=12"):
        Ball(std=0.1, dim=3).sample(torch.zeros(1, 3, 2, 2))
    with pytest.raises(NoCertificate, match="l1, l2 and linf"):
        Ball(std=0.1).certified_radius(0.9, "l0", 3072)
