"""The table of radii, against the worst classifiers that there are: each radius must be exactly where they fail."""

from __future__ import annotations

import math
from itertools import count, pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

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
LARGEST = 3 * 224 * 224


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
        for dim in (0, -3, math.nan, 3072.5, "3072", None):
            with pytest.raises(UsageError, match="dim"):
                noise.certified_radius(0.9, "l2", dim)

    @pytest.mark.parametrize("norm", NORMS)
    def test_a_dimension_may_be_any_integer_type(self, noise, norm):
        p = np.linspace(0.5, 1, 11)
        np.testing.assert_array_equal(
            noise.certified_radius(p, norm, np.int32(DIM)), noise.certified_radius(p, norm, DIM)
        )

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


@pytest.mark.parametrize("p", [0.5 + 1e-9, 0.55, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("dim", [1, 2, 12])
@pytest.mark.parametrize("norm", NORMS)
def test_uniform_radius_is_where_the_box_that_is_left_holds_too_little(norm, dim, p):
    # Worst classifier: A on all of the box that the shift leaves behind, so it loses one minus the overlap.
    scale = 0.3
    radius = Uniform(scale=scale).certified_radius(p, norm, dim)
    diagonal = np.ones(dim)
    worst = radius * {"l1": np.eye(dim)[0], "l2": diagonal / math.sqrt(dim), "linf": diagonal}[norm]
    assert p - (1 - overlap(worst, scale)) == pytest.approx(0.5, abs=1e-12)
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    # Random shifts, and equal ones of the first few coordinates: none loses more.
    tried = np.concatenate([np.random.default_rng(0).standard_normal((2000, dim)), np.tri(dim)])
    tried *= radius / np.linalg.norm(tried, order, axis=1, keepdims=True)
    assert np.all(p - (1 - overlap(tried, scale)) >= 0.5 - 1e-12)


def test_uniform_l2_radius_never_exceeds_the_half_width():
    # Beyond it a shift along one axis leaves less than half of the box.
    radii = [Uniform(scale=0.3).certified_radius(1.0, "l2", dim) for dim in (1, 2, 3, 10, DIM, LARGEST)]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] == pytest.approx(0.3, rel=1e-12)
    assert radii[0] <= 0.3


@pytest.mark.parametrize(("p", "gain"), [(0.6, 1.0535870890142), (0.9, 1.2769578873956), (1.0, 1.3861379754166)])
def test_golden_gain_of_uniform_l2_over_the_norm_inequality(p, gain):
    noise = Uniform(scale=0.3)
    implied = noise.certified_radius(p, "l1", DIM) / math.sqrt(DIM)
    assert noise.certified_radius(p, "l2", DIM) / implied == pytest.approx(gain, rel=1e-12)


def test_uniform_two_class_l2_radius_is_where_loss_and_gain_meet():
    scale, dim, p_a, p_b = 0.3, 5, 0.45, 0.2
    radius = Uniform(scale=scale).certified_radius_two_class(p_a, p_b, "l2", dim)
    lost = 1 - overlap(np.full(dim, radius / math.sqrt(dim)), scale)
    assert p_a - lost == pytest.approx(p_b + lost, abs=1e-12)


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
@pytest.mark.parametrize("p", [0.55, 0.85, 0.99])
@pytest.mark.parametrize("norm", NORMS)
def test_no_set_of_the_plane_fails_within_the_laplace_radius(norm, p, share):
    scale, direction = 0.5, np.array([1 - share, share])
    shift = direction / np.linalg.norm(direction, {"l1": 1, "l2": 2, "linf": np.inf}[norm])
    left = worst_laplace_loss(shift * Laplace(scale=scale).certified_radius(p, norm, 2), p, scale)
    # Cells of finite width cannot be as bad as the worst set; the tails cut off hold 3e-4 each side.
    assert left >= 0.5 - 2e-3
    if norm == "l1" and share == 0.0:
        assert left == pytest.approx(0.5, abs=3e-2)


@pytest.mark.parametrize(("p_a", "p_b"), [(0.45, 0.2), (0.5, 1e-3), (0.9, 0.05), (0.51, 0.49), (0.3, 0.29)])
def test_laplace_two_class_l1_radius_is_where_two_half_lines_meet(p_a, p_b):
    # The worst pair in any dimension: A loses the near half-line of one axis, B holds the far one.
    scale = 0.5
    radius = Laplace(scale=scale).certified_radius_two_class(p_a, p_b, "l1", 7)
    law = stats.laplace(0, scale)
    assert law.cdf(law.ppf(p_a) - radius) == pytest.approx(law.cdf(law.ppf(p_b) + radius), abs=1e-12)
    closed = math.log(1 / (4 * (1 - p_a) * p_b)) if p_a >= 0.5 else math.log(p_a / p_b)
    assert radius == pytest.approx(scale / 2 * closed, rel=1e-12)


@pytest.mark.parametrize(
    ("norm", "dim", "p", "radius"),
    [
        ("linf", DIM, 0.9, 0.0231229741569694),
        ("linf", 192, 0.9, 0.0925491268305269),
        ("linf", LARGEST, 0.9, 0.0033031463156957),
        ("l2", DIM, 0.9, 1.1221695457607885),
        ("l2", 2, 0.99, 2.8618753611886403),
    ],
)
def test_golden_laplace_radii(norm, dim, p, radius):
    assert Laplace(scale=1.0).certified_radius(p, norm, dim) == pytest.approx(radius, rel=1e-13)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_in_one_dimension_all_laplace_radii_are_the_l1_radius(norm):
    p = np.concatenate([[0.5 + 1e-15], np.linspace(0.5, 1, 1001), 1 - np.logspace(-15, -2, 50)])
    noise = Laplace(scale=2)
    np.testing.assert_allclose(noise.certified_radius(p, norm, 1), noise.certified_radius(p, "l1", 1), rtol=1e-14)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("noise", [Uniform, Laplace])
def test_a_radius_is_proportional_to_the_scale(noise, norm):
    p, dims = np.concatenate([[0.5 + 1e-6, 1 - 1e-6], np.linspace(0.5, 1, 101)]), (1, 2, DIM)
    for dim in dims:
        unit = noise(scale=1.0).certified_radius(p, norm, dim)
        for scale in (1e-3, 0.3, 10.0):
            np.testing.assert_allclose(noise(scale=scale).certified_radius(p, norm, dim), scale * unit, rtol=1e-15)


@pytest.mark.parametrize("dim", [1, 2, 3, DIM])
@pytest.mark.parametrize("norm", NORMS)
def test_two_laplace_classes_get_half_of_the_sum_of_the_ways_to_one_half(norm, dim):
    noise, p_a, p_b = Laplace(scale=0.5), np.array([0.95, 0.7, 0.5, 0.4]), np.array([0.01, 0.3, 0.2, 0.3])
    way_a, way_b = (np.sign(p - 0.5) * noise.certified_radius(np.maximum(p, 1 - p), norm, dim) for p in (p_a, p_b))
    both = noise.certified_radius_two_class(p_a, p_b, norm, dim)
    np.testing.assert_allclose(both, (way_a - way_b) / 2, rtol=1e-12)


def signs_of(dim):
    """All (2^d, d) vectors of signs."""
    return 2.0 * (np.arange(2**dim)[:, None] >> np.arange(dim) & 1) - 1.0


def top_shares(sums):
    """Shares (k / 2^d) of equally likely values, and the mean of the values over each of these top shares."""
    falling = np.sort(sums)[::-1]
    return np.arange(1, len(sums) + 1) / len(sums), np.cumsum(falling) / len(sums)


def laplace_rate(norm, tail, dim):
    """1 / H'(p) at 1 − p = tail for b = 1, by a central difference."""
    step = 1e-5 * tail
    near, far = (Laplace(scale=1.0).certified_radius(1 - t, norm, dim) for t in (tail + step, tail - step))
    return 2 * step / (far - near)


@pytest.mark.parametrize("dim", [1, 2, 3, 6, 9])
def test_laplace_linf_radius_grows_as_the_sum_of_signs_says(dim):
    tails, rates = top_shares(signs_of(dim).sum(axis=1))
    inside = (np.linspace(0, 0.5, 42) + 1e-4)[1:-1]
    expected = np.interp(inside, np.concatenate([[0], tails]), np.concatenate([[0], rates]))
    np.testing.assert_allclose(laplace_rate("linf", inside, dim), expected, rtol=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 3, 6, 9])
def test_no_direction_loses_probability_faster_than_the_laplace_l2_radius_allows(dim):
    # The worst set of each probability: the signs whose sum along the direction is largest.
    directions = np.concatenate([np.random.default_rng(0).standard_normal((100, dim)), np.tri(dim)])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for sums in directions @ signs_of(dim).T:
        tails, rates = top_shares(sums)
        below = tails < 0.5
        assert np.all(rates[below] <= laplace_rate("l2", tails[below], dim) * (1 + 1e-5))


def test_laplace_l2_rate_is_attained_at_one_half_and_one_quarter():
    # By one sign, and by two equal ones.
    assert Laplace(scale=1.0).certified_radius(0.5 + 1e-9, "l2", DIM) == pytest.approx(1e-9 / (1 / 2), rel=1e-6)
    assert laplace_rate("l2", 0.25, DIM) == pytest.approx(math.sqrt(2) / 4, rel=1e-6)


def l2_rate(tail, dim):
    """The least of the bounds on E[S; A] at P(A) = tail, written out."""
    moments = [math.prod(range(1, 2 * m, 2)) for m in range(1, 45)]
    bounds = [(size / 2) ** (1 / (2 * m)) * tail ** (1 - 1 / (2 * m)) for m, size in enumerate(moments, 1)]
    return min(math.sqrt(dim) * tail, *bounds)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 7, 8, 73, 74, 75, 76, DIM])
def test_laplace_l2_radius_is_the_integral_of_the_least_bound(dim):
    p = np.array([0.5001, 0.6, 0.83, 0.84, 0.9, 0.95, 0.99, 0.9999, 1 - 1e-6, 1 - 1e-12])
    # Over ln t, between the tails where the moments change places: 1·3···(2m − 1) / 2(2m ± 1)^m, and with d for 2m ± 1.
    changes = [math.prod(range(1, 2 * m, 2)) / (2 * (2 * m + 1) ** m) for m in range(1, 40)]
    if 2 <= dim < 80:
        changes.append(math.prod(range(1, dim // 2 * 2, 2)) / (2 * dim ** (dim // 2)))
    ends = np.unique([0.5, *changes, *(1 - p)])[::-1]
    ends = ends[ends >= (1 - p).min()]
    pieces = [
        integrate.quad(lambda s: math.exp(s) / l2_rate(math.exp(s), dim), math.log(low), math.log(high), epsrel=1e-13)[
            0
        ]
        for high, low in pairwise(ends)
    ]
    integral = dict(zip(ends, np.concatenate([[0], np.cumsum(pieces)]), strict=True))
    radius = Laplace(scale=1.0).certified_radius(p, "l2", dim)
    np.testing.assert_allclose(radius, [integral[tail] for tail in 1 - p], rtol=1e-12)


def test_laplace_l2_radius_exceeds_what_the_variance_and_the_sub_gaussian_bound_give():
    # arcsin(2p − 1); sqrt(2 ln 1/t) differences from where the second bound is less, at 1 − t = 0.7153.
    p = np.array([0.55, 0.6, 0.7, 0.75, 0.9, 0.99, 1 - 1e-6, 1 - 1e-12])
    turn = optimize.brentq(lambda t: math.sqrt(1 - t) - math.sqrt(2 * t * math.log(1 / t)), 0.25, 0.3)
    beyond = np.sqrt(2 * np.log(1 / (1 - p))) - math.sqrt(2 * math.log(1 / turn)) + math.asin(1 - 2 * turn)
    known = np.where(1 - p < turn, beyond, np.arcsin(2 * p - 1))
    assert known[4] == pytest.approx(1.006, abs=5e-4)
    assert np.all(Laplace(scale=1.0).certified_radius(p, "l2", DIM) > known)


# From the edge to the middle, and the neighbours of both.
PRECISE = np.array([0.5 + 2**-52, 0.5 + 1e-12, 0.51, 0.62, 0.75, 0.9, 0.9999, 1 - 1e-9, 1 - 1e-15, 1 - 2**-53])


def exact_laplace_linf(p, dim, mp):
    """∫ from 1/2 to p of dq/Φ(q) in 50 digits, piece by piece, from the probabilities of all counts of heads."""
    first = dim - dim // 2
    weight = mp.binomial(dim, first) / mp.mpf(2) ** dim
    shares = []
    for k in range(first, min(dim, first + 8 * math.isqrt(dim) + 20) + 1):
        shares.append(weight / 2 if 2 * k == dim else weight)
        weight *= mp.mpf(dim - k) / (k + 1)
    rate = sum((2 * k - dim) * share for k, share in enumerate(shares, first))
    top, total, tail = mp.mpf(1) / 2, mp.mpf(0), 1 - mp.mpf(p)
    for k, share in enumerate(shares, first):
        width, step = min(share, top - tail), 2 * k - dim
        total += mp.log(rate / (rate - step * width)) / step if step else width / rate
        if width < share:
            break
        top, rate = top - share, rate - step * share
    return total


def assert_rounded_down(radii, exact):
    """Radii are at most the exact ones, and no digit is lost but the last."""
    off = np.array([float((radius - value) / value) for radius, value in zip(radii.tolist(), exact, strict=True)])
    assert off.max() <= 0
    assert off.min() > -5e-15


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 52, 53, 54, 192, DIM - 1, DIM, LARGEST])
def test_laplace_linf_radius_is_the_exact_one_rounded_down(dim):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        exact = [exact_laplace_linf(p, dim, mpmath.mp) for p in PRECISE.tolist()]
        assert_rounded_down(Laplace(scale=1.0).certified_radius(PRECISE, "linf", dim), exact)


def exact_laplace_l2(p, dim, mp):
    """The integral of the least bound, moment by moment, from its antiderivatives."""
    tail, top, total = 1 - mp.mpf(p), mp.mpf(1) / 2, mp.mpf(0)
    for m in count(1):
        size = math.prod(range(1, 2 * m, 2))
        # Where the next moment takes over, and where the l1 rate does.
        change, meeting = (mp.mpf(size) / (2 * mp.mpf(base) ** m) for base in (2 * m + 1, dim))
        end, root = max(tail, change, min(meeting, top)), mp.mpf(1) / (2 * m)
        total += 2 * m * (mp.mpf(size) / 2) ** -root * (top**root - end**root)
        if end == tail:
            return total
        if meeting >= change:
            return total + mp.log(end / tail) / mp.sqrt(dim)
        top = end


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 7, 8, 71, 72, 73, 74, 75, DIM])
def test_laplace_l2_radius_is_the_exact_one_rounded_down(dim):
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(50):
        exact = [exact_laplace_l2(p, dim, mp) for p in PRECISE.tolist()]
        assert_rounded_down(Laplace(scale=1.0).certified_radius(PRECISE, "l2", dim), exact)


def test_laplace_l1_radius_is_the_exact_one_rounded_down():
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(50):
        exact = [-mp.log(2 * (1 - mp.mpf(p))) for p in PRECISE.tolist()]
        assert_rounded_down(Laplace(scale=1.0).certified_radius(PRECISE, "l1", DIM), exact)


@pytest.mark.parametrize("norm", NORMS)
def test_the_radius_of_two_laplace_classes_that_are_close_is_rounded_down(norm):
    mp = pytest.importorskip("mpmath").mp
    p_a, near = np.array([0.5, 0.3, 0.1, 0.01]), 1 - np.array([1e-3, 1e-9, 1e-13, 2**-52])
    p_a, p_b = (part.ravel() for part in np.broadcast_arrays(p_a[:, None], p_a[:, None] * near))
    radii = Laplace(scale=1.0).certified_radius_two_class(p_a, p_b, norm, 5)
    with mp.workdps(50):
        exact_way = {"l1": lambda p, *_: -mp.log(2 * (1 - p)), "l2": exact_laplace_l2, "linf": exact_laplace_linf}[norm]
        way = [[exact_way(1 - mp.mpf(p), 5, mp) for p in side] for side in (p_b.tolist(), p_a.tolist())]
        above = [float((behind - ahead) / 2 - mp.mpf(r)) for behind, ahead, r in zip(*way, radii.tolist(), strict=True)]
    assert min(above) >= 0
    assert max(above) < 2e-14


@pytest.mark.parametrize("dim", [1, 2, 3, DIM, LARGEST])
def test_uniform_l2_radius_is_the_exact_one_rounded_down(dim):
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(50):
        lost = [mp.mpf(p) - mp.mpf(1) / 2 for p in PRECISE.tolist()]
        exact = [2 * mp.sqrt(dim) * (1 - (1 - loss) ** (mp.mpf(1) / dim)) for loss in lost]
        assert_rounded_down(Uniform(scale=1.0).certified_radius(PRECISE, "l2", dim), exact)


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
