"""The brute force that certificates are held against is itself held against hand derivations and linear programs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from brute_force import worst_case
from scipy import optimize, stats

Mixture = worst_case.Mixture
PROBABILITIES = np.array([1e-6, 0.02, 0.3, 0.5 - 1e-6, 0.5, 0.5 + 1e-6, 0.6, 0.9, 0.999, 1 - 1e-6, 1 - 1e-12])


def laplace_by_hand(shift, p):
    """p − T(p) of one coordinate: the worst set is a half-line up to c, and T(p) = F(c − shift) with F(c) = p."""
    if p <= 0.5:
        # c <= 0: both sides of F are e^t/2.
        return -p * math.expm1(-shift)
    if 2 * (1 - p) <= math.exp(-shift):
        # c − shift >= 0: both are 1 − e^(−t)/2.
        return (1 - p) * math.expm1(shift)
    return p - math.exp(-shift) / (4 * (1 - p))


@pytest.mark.parametrize("shift", [1e-6, 0.01, 0.7, 3.0, 25.0])
def test_one_laplace_coordinate_loses_what_the_half_line_loses(shift):
    by_hand = [laplace_by_hand(shift, p) for p in PROBABILITIES]
    loss = worst_case.laplace_loss(np.full((len(PROBABILITIES), 1), shift), PROBABILITIES)
    np.testing.assert_allclose(loss, by_hand, atol=2e-14, rtol=1e-8)


@pytest.mark.parametrize("shift", [1e-3, 0.7, 3.0])
def test_coordinates_that_are_not_shifted_change_nothing(shift):
    shifts = np.zeros((len(PROBABILITIES), 4))
    shifts[:, 2] = -shift
    by_hand = [laplace_by_hand(shift, p) for p in PROBABILITIES]
    np.testing.assert_allclose(worst_case.laplace_loss(shifts, PROBABILITIES), by_hand, atol=1e-13)


def test_two_laplace_coordinates_lose_what_a_sum_over_a_fine_grid_loses():
    # The log likelihood ratio of cells that end at 0 and at the shift is what it is in the middle of each.
    shift, cells = np.array([0.9, 0.4]), 400
    masses, shifted = np.ones((1, 1)), np.ones((1, 1))
    for axis, length in enumerate(shift):
        edges = np.concatenate([[-np.inf], np.linspace(0, length, cells + 1), [np.inf]])
        shape = [-1, 1] if axis == 0 else [1, -1]
        masses = masses * np.diff(stats.laplace.cdf(edges)).reshape(shape)
        shifted = shifted * np.diff(stats.laplace.cdf(edges - length)).reshape(shape)
    p = np.array([0.2, 0.5, 0.6, 0.9])
    loss = worst_case.laplace_loss(np.tile(shift, (4, 1)), p)
    on_grid = [worst_case.finite_loss(masses.ravel(), shifted.ravel(), q) for q in p]
    # A grid hides a little.
    assert np.all(on_grid <= loss + 1e-13)
    np.testing.assert_allclose(on_grid, loss, atol=2e-6)


@pytest.mark.parametrize("multiples", [(3,), (1, 1), (1, 2, 3), (5, 5, 2, 1)])
@pytest.mark.parametrize("length", [1e-3, 0.5, 4.0])
@pytest.mark.parametrize("cut", [1, 16, 64])
def test_bounds_by_a_lattice_hold_the_exact_value_between_them(multiples, length, cut):
    mixture = Mixture((1,) * len(multiples), tuple(cut * multiple for multiple in multiples))
    shift = np.array(multiples) * (length / max(multiples))
    lower, upper = worst_case.laplace_bracket(mixture, length / max(multiples) / cut, PROBABILITIES)
    least = PROBABILITIES - worst_case.laplace_loss(np.tile(shift, (len(PROBABILITIES), 1)), PROBABILITIES)
    assert np.all(lower <= least)
    assert np.all(least <= upper)
    assert np.max(upper - lower) < 0.2 * length**2 / cut**2 + 1e-11


def test_a_count_of_equal_coordinates_is_as_many_single_ones():
    together = worst_case.laplace_bracket(Mixture((3, 1), (4, 9)), 0.05, PROBABILITIES)
    single = worst_case.laplace_bracket(Mixture((1, 1, 1, 1), (4, 4, 4, 9)), 0.05, PROBABILITIES)
    np.testing.assert_allclose(together, single, atol=1e-13)


def test_gaussian_noise_loses_what_a_fine_grid_loses():
    sigma, p = 500.0, np.array([0.01, 0.5 + 1e-6, 0.6, 0.99])
    levels = np.arange(-5000, 5001)
    masses = worst_case.rounded_gaussian(0.0, sigma, levels)
    on_grid = [worst_case.finite_loss(masses, worst_case.rounded_gaussian(0.8 * sigma, sigma, levels), q) for q in p]
    loss = worst_case.gaussian_loss(np.tile([0.48, 0.64], (4, 1)), p)
    assert np.all(on_grid <= loss + 1e-13)
    np.testing.assert_allclose(on_grid, loss, atol=1e-6)
    # 50 % of a normal law, and the half-space 0.8σ nearer.
    assert worst_case.gaussian_loss(np.array([[0.48, 0.64]]), np.array([0.5]))[0] == pytest.approx(
        0.5 - stats.norm.cdf(-0.8), abs=1e-15
    )


def test_rounded_gaussian_masses_keep_their_digits_in_both_tails():
    levels = np.arange(-40, 41)
    masses = worst_case.rounded_gaussian(0.0, 1.0, levels)
    np.testing.assert_array_equal(masses, masses[::-1])
    assert masses[80 // 2 + 30] == pytest.approx(stats.norm.sf(29.5), rel=1e-9)
    assert masses.sum() == pytest.approx(1.0, abs=1e-15)


def test_a_shifted_box_loses_what_lies_outside_the_other_box():
    # Half-width 1: a shift of (1, −½) keeps ½ · ¾ of the box, and 5/8 are lost to whoever has as much.
    shifts = np.tile([1.0, -0.5], (3, 1))
    np.testing.assert_allclose(worst_case.uniform_loss(shifts, np.array([0.5, 0.625, 0.9])), [0.5, 0.625, 0.625])
    assert worst_case.uniform_loss(np.array([[2.0, 0.0]]), np.array([0.9]))[0] == 0.9


def test_the_likelihood_ratio_set_is_the_optimum_of_a_linear_program():
    rng = np.random.default_rng(0)
    for _ in range(20):
        masses, shifted = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(7))
        masses[0], shifted[1] = 0.0, 0.0
        masses, shifted = masses / masses.sum(), shifted / shifted.sum()
        p_a, p_b = sorted(rng.uniform(0, 1, 2))[::-1]
        p_a = min(p_a, 1 - p_b)
        one = optimize.linprog(shifted, A_eq=[masses], b_eq=[p_a], bounds=(0, 1))
        least = p_a - worst_case.finite_loss(masses, shifted, p_a)
        assert least == pytest.approx(one.fun, abs=1e-9)
        # Two disjoint sets, A with at least p_a and B with at most p_b.
        rows = np.block([[-masses, 0 * masses], [0 * masses, masses], [np.eye(7), np.eye(7)]])
        two = optimize.linprog(
            np.concatenate([shifted, -shifted]), A_ub=rows, b_ub=[-p_a, p_b, *np.ones(7)], bounds=(0, 1)
        )
        rest = (1 - p_b) - worst_case.finite_loss(masses, shifted, 1 - p_b)
        assert least + rest - 1 == pytest.approx(two.fun, abs=1e-9)


@pytest.mark.parametrize("loss", ["uniform_loss", "gaussian_loss", "laplace_loss"])
def test_a_longer_shift_of_any_coordinate_costs_no_less(loss):
    rng = np.random.default_rng(1)
    shifts, p = rng.exponential(1.0, (500, 3)), rng.uniform(0, 1, 500)
    longer = shifts.copy()
    longer[np.arange(500), rng.integers(0, 3, 500)] *= 1.3
    assert np.all(getattr(worst_case, loss)(longer, p) >= getattr(worst_case, loss)(shifts, p) - 1e-13)


@pytest.mark.parametrize("p", [0.6, 0.9, 0.999])
def test_the_optimum_along_an_axis_is_the_one_coordinates(p):
    low, high = worst_case.laplace_optimum(Mixture((1,), (4000,)), "l2", p)
    assert low <= -math.log(2 * (1 - p)) <= high
    assert high - low < 1e-5 * high


def test_the_length_of_a_mixture():
    mixture = Mixture((3, 1), (2, 5))
    assert (mixture.norm("l1"), mixture.norm("l2"), mixture.norm("linf")) == (11.0, math.sqrt(37), 5.0)
