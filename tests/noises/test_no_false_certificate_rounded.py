"""No shift within the radius of the discrete Gaussian defeats a class of rounded images, with the true masses."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from brute_force import NORMS, claimed, directions, worst_case

from rushkit.noises.discrete_gaussian import DiscreteGaussian

LEVELS = 255
# So many cells a coordinate that three or four coordinates stay small.
SIGMAS = {1: (1e-3, 0.01, 0.25, 1.0, 10.0), 2: (1e-3, 0.01, 0.03), 3: (1e-3, 3e-3), 4: (1e-3,)}
CELLS = [(dim, sigma) for dim, sigmas in SIGMAS.items() for sigma in sigmas]
# Rounding of sums.
SLACK = 1e-13


def masses(centers, steps, reach):
    """The joint masses of round(center + ε), flat, on the levels of a cube; ``steps`` is σ between levels."""
    levels = np.arange(-reach, reach + 1)
    return reduce(np.multiply.outer, [worst_case.rounded_gaussian(c, steps, levels) for c in centers]).ravel()


def lead(p_a, p_b, shift, center, sigma):
    """The least by which class A still leads around an image whose pixels lie ``center`` from a grey level."""
    steps = sigma * LEVELS
    shift = shift * LEVELS
    reach = int(np.ceil(9 * steps + shift.max())) + 2
    before, after = (masses(center + moved, steps, reach) for moved in (0 * shift, shift))
    return p_a - p_b - sum(worst_case.finite_loss(before, after, p) for p in (p_a, 1 - p_b))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("dim", "sigma"), CELLS)
def test_no_shift_within_the_radius_defeats_a_class_of_rounded_images(dim, sigma, norm):
    rng = np.random.default_rng(dim)
    cells = claimed(DiscreteGaussian, norm, dim, (sigma,))
    for p_a, p_b, radius in zip(cells.p_a, cells.p_b, cells.radius, strict=True):
        # An axis, the diagonals, and a random direction, around a level and between two.
        for direction in directions(norm, dim, rng)[: dim + 1]:
            for center in (0.0, rng.uniform(-0.5, 0.5)):
                left = lead(p_a, p_b, direction * radius * sigma * (1 - 1e-9), center, sigma)
                assert left >= -SLACK, (p_a, p_b, radius, direction, center)


@pytest.mark.parametrize("p", [0.6, 0.9, 0.999])
def test_rounding_hides_little_of_a_shift_where_the_steps_are_small(p):
    # 25 steps in a σ: a radius one percent longer is defeated.
    radius = DiscreteGaussian(scale=0.1).certified_radius(p, "l2", 1)
    assert lead(p, 1 - p, np.array([radius * 1.01]), 0.0, 0.1) < -1e-6
    assert lead(p, 1 - p, np.array([radius]), 0.0, 0.1) > 0


def test_rounding_hides_shifts_smaller_than_a_step_where_the_steps_are_large():
    # σ of a quarter of a step: nearly all draws round to the pixel itself; the radius is still that of Gaussian noise.
    radius = DiscreteGaussian(scale=1e-3).certified_radius(0.9, "l2", 1)
    assert lead(0.9, 0.1, np.array([1.15 * radius]), 0.0, 1e-3) > 0.2
