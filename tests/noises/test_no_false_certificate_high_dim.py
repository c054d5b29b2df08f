"""No shift of an image's size defeats a certified class: along axes, diagonals of few and many pixels, and mixtures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from brute_force import LOSSES, NORMS, claims_of, lead, unit, worst_case
from scipy.special import ndtri

from rushkit.noises.gaussian import Gaussian
from rushkit.noises.laplace import Laplace
from rushkit.noises.uniform import Uniform

Mixture = worst_case.Mixture
DIMS = (192, 3072, 12288, 150528)
ONE_CLASS = (0.5 + 1e-6, 0.6, 0.9, 0.99, 0.999, 1 - 1e-6)
TWO_CLASSES = ((0.5, 0.1), (0.4, 0.3), (0.6, 0.1), (0.9, 0.01), (0.1, 0.05))


def random_mixture(dim, seed):
    """A direction without structure, its coordinates cut to whole multiples."""
    lengths = np.abs(np.random.default_rng(seed).standard_normal(dim))
    multiples, counts = np.unique(np.round(lengths * 4).astype(int), return_counts=True)
    return Mixture(tuple(counts[multiples > 0].tolist()), tuple(multiples[multiples > 0].tolist()))


def mixtures(dim):
    """Directions by name: k equal coordinates; half of the squared length in one or thirty of them; a random one."""
    yield "30 equal", Mixture((30,), (48,))
    if dim > 300:
        yield "300 equal", Mixture((300,), (16,))
    yield "all equal", Mixture((dim,), (6,))
    for few in (1, 30):
        yield f"{few} long", Mixture((few, dim - few), (round(6 * math.sqrt(dim / few)), 6))
    yield "random", random_mixture(dim, dim)


def least_leads(cells, mixture, norm):
    """(N,) bounds, from below and from above, on the lead under Laplace noise shifted along a mixture."""
    bounds = []
    for p_a, p_b, radius in zip(cells.p_a, cells.p_b, cells.radius, strict=True):
        step = radius * (1 - 1e-9) / mixture.norm(norm)
        bounds.append([side.sum() - 1 for side in worst_case.laplace_bracket(mixture, step, np.array([p_a, 1 - p_b]))])
    return np.array(bounds).T


def claims(kind, norm, dim):
    return claims_of(kind, norm, dim, (0.3,), ONE_CLASS, TWO_CLASSES)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("norm", NORMS)
def test_no_mixture_defeats_a_class_under_laplace_noise(norm, dim):
    cells = claims(Laplace, norm, dim)
    for name, mixture in mixtures(dim):
        lower, upper = least_leads(cells, mixture, norm)
        assert np.all(upper >= 0), (name, cells[upper < 0])
        # Not only is no claim refuted: each is proved along this direction, but for the width of the bracket where the
        # claim is tight, as it is near 1/2 on the diagonal.
        assert np.all(lower >= -1e-9), (name, cells[lower < -1e-9])


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("equal", [1, 3])
def test_no_axis_defeats_a_class_under_laplace_noise(norm, dim, equal):
    cells = claims(Laplace, norm, dim)
    shifts = (cells.radius * (1 - 1e-9))[:, None] * unit(np.ones(equal), norm)
    assert np.all(lead(worst_case.laplace_loss, cells, shifts) >= (0.0 if equal == 1 else -2e-13))


@pytest.mark.parametrize("kind", [Uniform, Gaussian], ids=lambda kind: kind.name)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dim", DIMS)
def test_no_direction_defeats_a_class_under_uniform_or_gaussian_noise(kind, norm, dim):
    cells = claims(kind, norm, dim)
    rng = np.random.default_rng(dim)
    shapes = [np.ones(equal) for equal in (1, 3, 30, 300, dim) if equal <= dim]
    shapes += [np.concatenate([[math.sqrt(dim)], np.ones(dim - 1)]), np.abs(rng.standard_normal(dim))]
    for shape in shapes:
        shifts = (cells.radius * (1 - 1e-9))[:, None] * unit(shape, norm)
        assert np.all(lead(LOSSES[kind.name], cells, shifts) >= 0), shape


@pytest.mark.parametrize(("norm", "p"), [("l2", 0.9), ("linf", 0.6), ("linf", 0.999)])
def test_laplace_radii_one_percent_beyond_the_diagonals_optimum_are_caught(norm, p):
    diagonal = Mixture((3072,), (6,))
    _, optimum = worst_case.laplace_optimum(diagonal, norm, p)
    cells = claims_of(Laplace, norm, 3072, (1.0,), (p,), ())
    lower, upper = least_leads(cells.with_radius(np.array([optimum * 1.01])), diagonal, norm)
    assert lower[0] <= upper[0] < 0


def test_false_laplace_claims_are_caught_at_the_size_of_an_image():
    cells = claims_of(Laplace, "l2", 3072, (1.0,), (0.6, 0.9), ())
    # In l2 the central limit claims Φ⁻¹(p): an axis defeats that at 0.6. The diagonal defeats the l1 radius at 0.9.
    axis = ndtri(cells.p_a)[:, None]
    assert list(lead(worst_case.laplace_loss, cells, axis) < 0) == [True, False]
    _, upper = least_leads(cells.with_radius(-np.log(2 * cells.p_b)), Mixture((3072,), (6,)), "l2")
    assert list(upper < 0) == [False, True]


@pytest.mark.parametrize("mixture", [Mixture((3072,), (6,)), random_mixture(3072, 5)], ids=["diagonal", "random"])
def test_draws_from_the_density_agree_with_the_lattice(mixture):
    """Chance of a false alarm: below 1e-5 for each of 6 comparisons, 4.5 standard errors of means of bounded draws."""
    rng, radius, draws = np.random.default_rng(6), 1.1, 4000
    shift = np.repeat(mixture.multiples, mixture.counts) * (radius / mixture.norm("l2"))
    ratios = []
    for _ in range(draws // 500):
        noise = rng.laplace(size=(500, len(shift)))
        ratios.append((np.abs(noise) - np.abs(noise - shift)).sum(axis=1))
    train, test = np.split(np.concatenate(ratios), 2)
    p = np.array([0.6, 0.9, 0.99])
    lower, upper = worst_case.laplace_bracket(mixture, radius / mixture.norm("l2"), p)
    for probability, low, high, edge in zip(p, lower, upper, np.quantile(train, p), strict=True):
        # T(p) is the largest of p·e^t − E max(e^t − e^S, 0) over t, and flat there: a quantile of 2000 draws costs
        # less than 0.002.
        kept = probability * np.exp(edge) - np.maximum(np.exp(edge) - np.exp(test), 0)
        room = 4.5 * kept.std() / math.sqrt(len(kept))
        assert kept.mean() - room <= high
        assert kept.mean() + room + 0.002 >= low
