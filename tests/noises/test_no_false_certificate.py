"""No shift within a certified radius defeats the class: a search in 1 to 4 dimensions that knows only the densities."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import (
    LOSSES,
    NORMS,
    ONE_CLASS,
    SCALES,
    TWO_CLASSES,
    Cells,
    claimed,
    claims_of,
    false_claims,
    lead,
    unit,
)
from scipy.special import ndtri

from rushkit.noises.gaussian import Gaussian
from rushkit.noises.laplace import Laplace
from rushkit.noises.uniform import Uniform

KINDS = (Uniform, Gaussian, Laplace)
DIMS = (1, 2, 3, 4)
# Where the worst direction of a norm is known: "axis" or "diagonal".
TIGHT = {
    (Gaussian, "l1"): "axis",
    (Gaussian, "l2"): "axis",
    (Gaussian, "linf"): "diagonal",
    (Uniform, "l1"): "axis",
    (Uniform, "l2"): "diagonal",
    (Uniform, "linf"): "diagonal",
    (Laplace, "l1"): "axis",
}
SOUND_CELLS = [(kind, norm, dim) for kind in KINDS for norm in NORMS for dim in DIMS]
# One coordinate has one norm.
TIGHT_CELLS = [cell for cell in SOUND_CELLS if cell[:2] in TIGHT or cell[2] == 1]


def ids(cell):
    kind, norm, dim = cell
    return f"{kind.name}-{norm}-{dim}"


def lead_in_worst_direction(kind, norm, dim, cells):
    shape = np.ones(dim) if TIGHT.get((kind, norm)) == "diagonal" else np.ones(1)
    return lead(LOSSES[kind.name], cells, cells.radius[:, None] * unit(shape, norm))


def tight_claims(kind, norm, dim):
    """The claims that are tight: a probability of 0 or 1 gets the radius of the nearest float."""
    cells = claimed(kind, norm, dim)
    return cells[(cells.p_a < 1.0) & (cells.p_b > 0.0)]


def test_there_are_at_least_2000_claims():
    assert len(SOUND_CELLS) * (len(ONE_CLASS) + len(TWO_CLASSES)) * len(SCALES) >= 2000


@pytest.mark.parametrize("cell", SOUND_CELLS, ids=ids)
def test_no_shift_within_the_radius_defeats_the_class(cell):
    kind, norm, dim = cell
    assert false_claims(kind.name, claimed(kind, norm, dim), norm, dim) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dim", [2, 4])
def test_no_shift_defeats_the_class_whatever_its_probability(kind, norm, dim):
    # Formulas change from one piece to another between the probabilities above.
    pairs = np.random.default_rng(dim).dirichlet(np.ones(3), 200)[:, :2]
    cells = claims_of(kind, norm, dim, (1.0,), np.linspace(0.5, 1.0, 200), np.sort(pairs)[:, ::-1])
    assert false_claims(kind.name, cells, norm, dim) == []


@pytest.mark.parametrize("cell", TIGHT_CELLS, ids=ids)
def test_a_tight_radius_ends_where_the_worst_shift_defeats_the_class_to_1e_9(cell):
    kind, norm, dim = cell
    cells = tight_claims(kind, norm, dim)
    assert np.all(lead_in_worst_direction(kind, norm, dim, cells.with_radius(cells.radius * (1.0 + 1e-9))) < 0.0)


@pytest.mark.parametrize("cell", TIGHT_CELLS, ids=ids)
def test_a_tight_radius_made_one_percent_longer_is_caught_in_every_cell(cell):
    kind, norm, dim = cell
    cells = tight_claims(kind, norm, dim)
    cells = cells.with_radius(cells.radius * 1.01)
    assert len(false_claims(kind.name, cells, norm, dim)) == len(cells)


@pytest.mark.parametrize(("kind", "norm"), [(Uniform, "l2"), (Uniform, "linf"), (Laplace, "linf")])
def test_an_l1_radius_claimed_in_another_norm_is_caught_in_every_cell(kind, norm):
    cells = claimed(kind, "l1", 3)
    cells = cells[(cells.p_a < 1.0) & (cells.p_b > 0.0)]
    assert len(false_claims(kind.name, cells, norm, 3)) == len(cells)


def test_the_l1_radius_of_laplace_noise_claimed_in_l2_is_caught_where_an_axis_is_not_the_worst_direction():
    cells = claimed(Laplace, "l1", 3)
    cells = cells[~cells.two_classes & (cells.p_a < 1.0)]
    sure, close = cells[cells.p_a >= 0.9], cells[cells.p_a <= 0.6]
    assert len(false_claims("laplace", sure, "l2", 3)) == len(sure)
    # Near 1/2 a set loses E|Σ uᵢ sign δᵢ|/2 a unit of length, which is the most along an axis.
    assert false_claims("laplace", close, "l2", 3) == []


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_central_limit_claimed_for_laplace_noise_is_caught_where_it_is_false(norm):
    # b·Φ⁻¹(p), over √d in l-inf, is right for infinitely many coordinates. One has −ln 2(1 − p), which is less for p up
    # to 0.74 and more above.
    p = np.array([0.5 + 1e-6, 0.51, 0.6, 0.7, 0.77, 0.9, 0.99])
    claims = Cells(p, 1.0 - p, ndtri(p), np.zeros(len(p), dtype=bool), np.ones(len(p)))
    assert len(false_claims("laplace", claims, norm, 1)) == 4
    assert len(false_claims("laplace", claims[p <= 0.7], norm, 1)) == 4
    # An axis is as bad in l2 in any dimension; in l-inf no direction is.
    wide = claims.with_radius(claims.radius / (1.0 if norm == "l2" else 2.0))
    assert len(false_claims("laplace", wide[p <= 0.7], norm, 4)) == (4 if norm == "l2" else 0)
