"""The shortest move onto a hyperplane within the box: against a slow search, and nothing shorter reaches it."""

import pytest
import torch

from rushkit.attacks.hyperplane import shortest_move
from rushkit.attacks.norms import length

NORMS = ["linf", "l2", "l1"]


def planes(side, count=4):
    g = torch.Generator().manual_seed(side)
    z = torch.rand(count, 3, side, side, generator=g)
    # Some pixels sit on the box, and some have no weight.
    z = torch.where(torch.rand(z.shape, generator=g) < 0.1, z.round(), z)
    w = torch.randn(z.shape, generator=g) * (torch.rand(z.shape, generator=g) < 0.9)
    return z, w, side * torch.tensor([0.3, -0.3, 3.0, -3.0])[:count]


def by_bisection(z, w, change, norm):
    """The same move for one image: λ (in l1 the smallest weight that moves) by bisection in float64."""
    z, w = z.double().flatten(), w.double().flatten()
    way = w.sign() * change.sign()
    bound = torch.where(way > 0, 1 - z, z) * (w != 0)
    if norm == "l1":
        left, size = change.abs().item(), torch.zeros_like(z)
        for i in w.abs().argsort(descending=True).tolist():
            size[i] = min(bound[i].item(), left / w[i].abs().item()) if left > 0 else 0
            left -= size[i].item() * w[i].abs().item()
        return way * size
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        size = torch.minimum(middle * (w.abs() if norm == "l2" else torch.ones_like(w)), bound)
        low, high = (middle, high) if (size * w.abs()).sum() < change.abs() else (low, middle)
    return way * size


@pytest.mark.parametrize("side", [6, 32])
@pytest.mark.parametrize("norm", NORMS)
def test_it_is_what_a_slow_search_finds(norm, side):
    z, w, change = planes(side)
    moves = shortest_move(z, w, change, norm)
    for i, move in enumerate(moves):
        torch.testing.assert_close(
            move.flatten().double(), by_bisection(z[i], w[i], change[i], norm), atol=1e-7, rtol=0
        )


@pytest.mark.parametrize("side", [6, 32, 224])
@pytest.mark.parametrize("norm", NORMS)
def test_it_reaches_the_plane_within_the_box(norm, side):
    z, w, change = planes(side, count=2)
    moved = z + shortest_move(z, w, change, norm)
    assert moved.min() >= 0
    assert moved.max() <= 1
    reached = ((moved.double() - z) * w.double()).flatten(1).sum(1)
    # d and z + d are rounded to float32, each by at most 2**-25.
    assert (reached - change).abs().max() <= 2**-24 * w.double().abs().flatten(1).sum(1).max()


@pytest.mark.parametrize("norm", NORMS)
def test_no_other_point_of_the_plane_is_nearer(norm):
    """Moves along the plane, within the box, never shorten it."""
    z, w, change = planes(6)
    z = 0.2 + 0.6 * z
    move = shortest_move(z, w, change.clamp(-1, 1), norm).double()
    g = torch.Generator().manual_seed(1)
    for _ in range(200):
        aside = torch.randn(z.shape, generator=g, dtype=torch.float64) * 10 ** (-4 * torch.rand((), generator=g))
        along = (aside * w).flatten(1).sum(1) / w.double().square().flatten(1).sum(1)
        other = move + aside - along.view(-1, 1, 1, 1) * w
        inside = ((z + other >= 0) & (z + other <= 1)).flatten(1).all(1)
        assert (length(other, norm) >= length(move, norm) - 1e-6)[inside].all()


@pytest.mark.parametrize("norm", NORMS)
def test_out_of_reach_it_goes_to_the_nearest_corner(norm):
    z, w, _ = planes(6)
    moved = z + shortest_move(z, w, torch.full((4,), 1e6), norm)
    assert torch.equal(moved[w > 0], torch.ones_like(moved[w > 0]))
    assert torch.equal(moved[w < 0], torch.zeros_like(moved[w < 0]))
    assert torch.equal(moved[w == 0], z[w == 0])


@pytest.mark.parametrize("norm", NORMS)
def test_rows_that_are_not_finite_or_have_no_slope_stay_and_disturb_no_other(norm):
    z, w, change = planes(6)
    expected = shortest_move(z, w, change, norm)
    w[0, 0, 0, 0] = torch.nan
    w[1] = 0
    change[2] = torch.inf
    moves = shortest_move(z, w, change, norm)
    assert torch.equal(moves[:3], torch.zeros_like(z[:3]))
    assert torch.equal(moves[3], expected[3])
