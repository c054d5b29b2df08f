"""Projections, steps and starts against slow references."""

import pytest
import torch
from planted_models import reach
from scipy.optimize import linprog

from rushkit.attacks.norms import length, project, random_start, rim_start, settle, steepest


def dykstra(x, target, norm, eps, rounds=3000):
    """Projection onto ball ∩ box by alternating projections with corrections, in float64, one image, flat."""

    def onto_ball(z):
        delta = z - x
        if norm == "linf":
            return x + delta.clamp(-eps, eps)
        if norm == "l2":
            return x + delta * min(1.0, eps / float(delta.norm()))
        if delta.abs().sum() <= eps:
            return z
        magnitude = delta.abs().sort(descending=True).values
        thresholds = (magnitude.cumsum(0) - eps) / torch.arange(1, len(magnitude) + 1)
        last = int((magnitude > thresholds).nonzero().max())
        return x + delta.sign() * (delta.abs() - thresholds[last]).clamp(min=0)

    z, p, q = target.clone(), torch.zeros_like(target), torch.zeros_like(target)
    for _ in range(rounds):
        ball = onto_ball(z + p)
        p = z + p - ball
        z = (ball + q).clamp(0, 1)
        q = ball + q - z
    return z


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", [0.05, 0.7, 3.0])
def test_projection_is_the_nearest_point_of_ball_and_box(norm, eps):
    g = torch.Generator().manual_seed(0)
    # Images near 0 and 1, so that the box binds.
    x = torch.rand(3, 1, 3, 4, generator=g, dtype=torch.float64).round(decimals=1)
    target = x + 2 * torch.randn(x.shape, generator=g, dtype=torch.float64) ** 3
    found = project(x, target, norm, eps)
    for i in range(len(x)):
        expected = dykstra(x[i].flatten(), target[i].flatten(), norm, eps)
        torch.testing.assert_close(found[i].flatten(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_is_inside_stays(norm):
    x = torch.full((2, 1, 4, 4), 0.5)
    inside = x + 0.001
    torch.testing.assert_close(project(x, inside, norm, 0.1), inside)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", [0.0, 8 / 255, 1.0, 12.0, 300.0])
def test_what_returns_is_within_the_ball_after_rounding(norm, eps):
    g = torch.Generator().manual_seed(1)
    x = torch.rand(6, 3, 32, 32, generator=g)
    found = settle(x, x + torch.randn(x.shape, generator=g), norm, eps)
    assert reach(x, found, norm) <= eps + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_step_has_its_length_and_no_step_of_that_length_raises_the_loss_more(norm):
    """Against the optimum of a linear programme (l-inf, l1) and Cauchy-Schwarz (l2)."""
    g = torch.Generator().manual_seed(2)
    x = torch.rand(4, 1, 2, 4, generator=g, dtype=torch.float64)
    gradient = torch.randn(x.shape, generator=g, dtype=torch.float64)
    size = 0.6
    step = steepest(x, gradient, norm, size)
    assert (length(step, norm) <= size + 1e-9).all()
    gain = (step * gradient).flatten(1).sum(1)
    for i in range(len(x)):
        slope = gradient[i].flatten().numpy()
        if norm == "l2":
            best = size * float(gradient[i].norm())
        elif norm == "linf":
            best = size * abs(slope).sum()
        else:
            # s = up - down with x + s in the box and sum(up + down) <= size.
            image = x[i].flatten().numpy()
            bounds = [(0, 1 - v) for v in image] + [(0, v) for v in image]
            solved = linprog([*-slope, *slope], A_ub=[[1.0] * 16], b_ub=[size], bounds=bounds)
            best = -solved.fun
        assert float(gain[i]) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_gradient_no_step_and_tiny_gradients_do_not_underflow(norm):
    x = torch.full((1, 1, 4, 4), 0.5)
    assert not steepest(x, torch.zeros_like(x), norm, 0.1).any()
    gradient = torch.full_like(x, 1e-38)
    step = steepest(x, gradient, norm, 0.1)
    assert length(step, norm).item() == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_starts_fill_the_ball(norm):
    x = torch.full((400, 1, 3, 3), 0.5)
    start = random_start(x, norm, 0.3, torch.Generator().manual_seed(0))
    lengths = length(start - x, norm)
    assert lengths.max() <= 0.3 + 1e-6
    assert lengths.max() > 0.28
    # Each coordinate's mean is 0: 6 standard errors, false alarm below 1e-7 over the 9 coordinates.
    delta = (start - x).flatten(1)
    assert (delta.mean(0).abs() < 6 * delta.std(0) / 20).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_at_the_rim_have_the_full_distance(norm):
    x = torch.full((50, 1, 3, 3), 0.5)
    start = rim_start(x, norm, 0.3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(length(start - x, norm), torch.full((50,), 0.3))
