"""The table of radii, against the worst classifiers that there are: each radius must be exactly where they fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from rushkit.errors import UsageError
from rushkit.noises.discrete_gaussian import DiscreteGaussian
from rushkit.noises.gaussian import Gaussian
from rushkit.noises.laplace import Laplace
from rushkit.noises.split import Split
from rushkit.noises.uniform import Uniform
from rushkit.system import generator

NORMS = ["l1", "l2", "linf"]
ADDITIVE = [Uniform, Gaussian, Laplace, DiscreteGaussian]
ALL = [*ADDITIVE, Split]
DIM = 3 * 32 * 32


@pytest.mark.parametrize("noise", [kind(scale=0.5) for kind in ALL], ids=lambda noise: noise.name)
class TestEveryNoise:
    @pytest.mark.parametrize("norm", NORMS)
    def test_radius_is_zero_up_to_one_half_then_rises_and_stays_finite(self, noise, norm):
        p = np.concatenate([np.linspace(0, 1, 2001), 1 - np.logspace(-16, -3, 50), [np.nextafter(1, 0)]])
        p.sort()
        radius = noise.certified_radius(p, norm, DIM)
        assert radius.dtype == np.float64
        assert np.all(radius[p <= 0.5] == 0)
        assert np.all(np.diff(radius) >= 0)
        assert radius[p > 0.51].min() > 0
        assert np.isfinite(radius).all()

    @pytest.mark.parametrize("norm", NORMS)
    def test_a_number_gives_a_float_and_an_array_gives_an_array(self, noise, norm):
        alone = noise.certified_radius(0.9, norm, DIM)
        assert type(alone) is float
        assert type(noise.certified_radius(np.float64(0.9), norm, DIM)) is float
        table = noise.certified_radius(np.full((2, 3), 0.9), norm, DIM)
        assert table.shape == (2, 3)
        assert np.all(table == alone)

    @pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, math.inf])
    def test_what_is_no_probability_is_refused(self, noise, p):
        with pytest.raises(UsageError, match="probability"):
            noise.certified_radius(np.array([0.9, p]), "l2", DIM)

    def test_an_unknown_norm_and_an_empty_image_are_refused(self, noise):
        with pytest.raises(UsageError, match="l3"):
            noise.certified_radius(0.9, "l3", DIM)
        with pytest.raises(UsageError, match="dim"):
            noise.certified_radius(0.9, "l2", 0)

    def test_norm_inequalities_hold(self, noise):
        p = np.linspace(0.5, 1, 101)
        l1, l2, linf = (noise.certified_radius(p, norm, DIM) for norm in NORMS)
        slack = 1e-15
        assert np.all(linf <= l2 + slack)
        assert np.all(l2 <= l1 + slack)
        assert np.all(l1 <= math.sqrt(DIM) * l2 + slack)
        assert np.all(l2 <= math.sqrt(DIM) * linf + slack)


@pytest.mark.parametrize("noise", [kind(scale=0.5) for kind in ADDITIVE], ids=lambda noise: noise.name)
@pytest.mark.parametrize("norm", NORMS)
class TestTwoClasses:
    def test_the_complement_gives_the_one_class_radius(self, noise, norm):
        p = np.linspace(0.51, 0.999, 100)
        both = noise.certified_radius_two_class(p, 1 - p, norm, 3)
        np.testing.assert_allclose(both, noise.certified_radius(p, norm, 3), rtol=1e-12)

    def test_nothing_is_certified_unless_the_top_class_leads(self, noise, norm):
        p_a, p_b = np.array([0.3, 0.3, 0.3, 0.0, 0.5]), np.array([0.3, 0.4, 0.2, 0.0, 0.5])
        radius = noise.certified_radius_two_class(p_a, p_b, norm, 3)
        assert list(radius > 0) == [False, False, True, False, False]
        # So small that the formula, whose probabilities stay within float64's reach of 0 and 1, would be negative.
        assert noise.certified_radius_two_class(1e-18, 0.0, norm, 3) >= 0

    def test_radius_rises_with_the_lead_and_stays_finite(self, noise, norm):
        p_b = np.concatenate([[0], np.logspace(-300, -1, 50), np.linspace(0.1, 0.5, 20)])
        radius = noise.certified_radius_two_class(np.full_like(p_b, 0.5), p_b, norm, 3)
        assert np.all(np.diff(radius) <= 0)
        assert np.isfinite(radius).all()
        assert math.isfinite(noise.certified_radius_two_class(1.0, 0.0, norm, 3))

    def test_a_loose_runner_up_bound_costs_nothing(self, noise, norm):
        loose = noise.certified_radius_two_class(0.8, 0.9, norm, 3)
        assert loose == noise.certified_radius_two_class(0.8, 1 - 0.8, norm, 3)
        assert type(loose) is float


def test_golden_radii():
    assert Gaussian(scale=0.5).certified_radius(0.8, "l2", DIM) == pytest.approx(0.42081061678645715, abs=1e-12)
    assert Uniform(scale=0.5).certified_radius(0.8, "l1", DIM) == pytest.approx(0.3, abs=1e-12)
    assert Laplace(scale=0.5).certified_radius(0.8, "l1", DIM) == pytest.approx(0.45814536593707766, abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("p", [0.6, 0.9, 0.999])
def test_gaussian_radius_is_where_the_worst_half_space_fails(norm, p):
    # Neyman-Pearson: against a shift v the worst set of probability p is a half-space across v.
    sigma, dim = 0.5, 16
    radius = Gaussian(scale=sigma).certified_radius(p, norm, dim)
    axis, diagonal = np.eye(dim)[0], np.ones(dim)
    worst = {"l1": axis, "l2": diagonal / 4, "linf": diagonal}[norm] * radius
    assert stats.norm.cdf(stats.norm.ppf(p) - np.linalg.norm(worst) / sigma) == pytest.approx(0.5, abs=1e-12)
    # No shift of that norm goes further: random ones, and the extreme points of the ball.
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    tried = np.random.default_rng(0).standard_normal((1000, dim))
    tried *= radius / np.linalg.norm(tried, order, axis=1, keepdims=True)
    assert np.linalg.norm(tried, axis=1).max() <= np.linalg.norm(worst) * (1 + 1e-12)


def test_gaussian_two_class_radius_is_where_two_half_spaces_meet():
    # The worst pair: A loses the near half-space, B holds the far one, both across the shift.
    sigma, p_a, p_b = 0.25, 0.6, 0.15
    radius = Gaussian(scale=sigma).certified_radius_two_class(p_a, p_b, "l2", 12)
    a, b = (stats.norm.cdf(stats.norm.ppf(p) + s * radius / sigma) for p, s in ((p_a, -1), (p_b, 1)))
    assert a == pytest.approx(b, abs=1e-12)


def test_simulated_half_space_votes_fail_at_the_gaussian_radius():
    noise, p, dim = Gaussian(scale=0.5), 0.9, 12
    x, draws = torch.zeros(200_000, dim, 1, 1), 200_000
    delta = noise.sample(x, generator(0, "half-space")).flatten(1).double()
    bar = 0.5 * math.sqrt(dim) * stats.norm.ppf(p)
    shift = noise.certified_radius(p, "linf", dim)
    # 5 standard errors of a share near 1/2: false alarm 6e-7 each.
    error = 5 * 0.5 / math.sqrt(draws)
    assert float((delta.sum(1) < bar).double().mean()) == pytest.approx(p, abs=error)
    assert float(((delta + shift).sum(1) < bar).double().mean()) == pytest.approx(0.5, abs=error)


def overlap(shift, scale):
    """Share of the noise box that lies in the shifted one as well: exact, (..., d) shifts."""
    return np.clip(1 - np.abs(shift) / (2 * scale), 0, None).prod(axis=-1)


@pytest.mark.parametrize("p", [0.55, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_uniform_radius_is_where_the_box_that_is_left_holds_too_little(norm, p):
    # Worst classifier: A on all of the box that the shift leaves behind, so it loses one minus the overlap.
    scale, dim = 0.3, 12
    radius = Uniform(scale=scale).certified_radius(p, norm, dim)
    worst = radius * (np.eye(dim)[0] if norm == "l1" else np.ones(dim))
    assert p - (1 - overlap(worst, scale)) == pytest.approx(0.5, abs=1e-12)
    order = 1 if norm == "l1" else np.inf
    tried = np.random.default_rng(0).standard_normal((2000, dim))
    tried *= radius / np.linalg.norm(tried, order, axis=1, keepdims=True)
    assert np.all(p - (1 - overlap(tried, scale)) >= 0.5 - 1e-12)


@pytest.mark.parametrize("p", [0.55, 0.8, 1.0])
def test_uniform_l2_radius_is_sound(p):
    scale, dim = 0.3, 12
    radius = Uniform(scale=scale).certified_radius(p, "l2", dim)
    tried = np.random.default_rng(0).standard_normal((2000, dim))
    tried = np.concatenate([tried, np.eye(dim), np.ones((1, dim))])
    tried *= radius / np.linalg.norm(tried, axis=1, keepdims=True)
    assert np.all(p - (1 - overlap(tried, scale)) >= 0.5 - 1e-12)


def test_simulated_box_votes_fail_at_the_uniform_linf_radius():
    scale, dim, p, draws = 0.3, 4, 0.7, 200_000
    noise = Uniform(scale=scale)
    shift = noise.certified_radius(p, "linf", dim)
    z = noise.sample(torch.zeros(draws, dim, 1, 1), generator(1, "box")).flatten(1).double()

    def votes(z):
        """A on what only the unshifted box holds, and on the part of the shared box that brings it to p."""
        inside = (z.abs() <= scale).all(1)
        shared = inside & ((z - shift).abs() <= scale).all(1)
        low, share = shift - scale, float(overlap(np.full(dim, shift), scale))
        cut = low + (2 * scale - shift) * (p - (1 - share)) / share
        return (inside & ~shared) | (shared & (z[:, 0] < cut))

    # 5 standard errors of a share near 1/2: false alarm 6e-7 each.
    error = 5 * 0.5 / math.sqrt(draws)
    assert float(votes(z).double().mean()) == pytest.approx(p, abs=error)
    assert float(votes(z + shift).double().mean()) == pytest.approx(0.5, abs=error)


@pytest.mark.parametrize("p", [0.55, 0.8, 0.999])
def test_laplace_l1_radius_is_where_the_worst_half_line_fails(p):
    noise = Laplace(scale=0.5)
    radius = noise.certified_radius(p, "l1", DIM)
    law = stats.laplace(0, 0.5)
    assert law.cdf(law.ppf(p) - radius) == pytest.approx(0.5, abs=1e-12)


def worst_laplace_loss(shift, p, scale):
    """Exact smallest shifted probability of a set of probability p, by a linear program on a fine 2-d grid."""
    edges = np.linspace(-8 * scale, 8 * scale, 161)
    here = [np.diff(stats.laplace(0, scale).cdf(edges))] * 2
    there = [np.diff(stats.laplace(s, scale).cdf(edges)) for s in shift]
    before, after = np.outer(*here).ravel(), np.outer(*there).ravel()
    # Fill up with the cells that the shift empties most: a fractional knapsack, solved by sorting.
    order = np.argsort(after / before)
    filled = np.minimum(np.diff(np.minimum(np.cumsum(before[order]), p), prepend=0), before[order])
    return float((after[order] * filled / before[order]).sum())


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_no_set_of_the_plane_fails_within_the_laplace_l1_radius(share):
    scale, p = 0.5, 0.85
    radius = Laplace(scale=scale).certified_radius(p, "l1", 2)
    left = worst_laplace_loss((radius * (1 - share), radius * share), p, scale)
    # Cells of finite width cannot be as bad as the worst set; the tails cut off hold 3e-4 each side.
    assert left >= 0.5 - 2e-3
    if share == 0.0:
        assert left == pytest.approx(0.5, abs=1e-2)


def test_laplace_two_class_radius_is_sound_in_one_dimension():
    # In one dimension the shift scales densities by e^(±r/b), and probabilities change at most as here.
    scale, p_a, p_b = 0.5, 0.45, 0.2
    radius = Laplace(scale=scale).certified_radius_two_class(p_a, p_b, "l1", 1)
    law = stats.laplace(0, scale)
    lost = law.cdf(law.ppf(p_a) - radius)
    gained = law.sf(law.isf(p_b) - radius)
    assert lost >= gained - 1e-12


def test_linf_radius_of_uniform_noise_has_the_digits_of_a_precise_computation():
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 50
    exact = 2 * mpmath.mpf(0.3) * (1 - (mpmath.mpf(1.5) - mpmath.mpf(0.9)) ** (mpmath.mpf(1) / DIM))
    assert Uniform(scale=0.3).certified_radius(0.9, "linf", DIM) == pytest.approx(float(exact), rel=1e-14)


def test_gaussian_radius_inverts_the_distribution_function():
    noise = Gaussian(scale=0.7)
    for radius in (0.01, 0.5, 2.0):
        p = optimize.brentq(lambda p, r=radius: noise.certified_radius(p, "l2", DIM) - r, 0.5, 1 - 1e-12, xtol=1e-15)
        assert p == pytest.approx(stats.norm.cdf(radius / 0.7), abs=1e-13)
