"""Projections, steps and starts against slow references."""

import pytest
import torch
from planted_models import reach
from scipy.optimize import linprog

from rushkit.attacks.norms import ascent, length, project, random_start, rim_start, settle
from rushkit.attacks.steps.falling import FallingSteps


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


@pytest.mark.parametrize("eps", [1.0, 12.0])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projection_is_exact_at_224_pixels_with_extreme_ones(norm, eps):
    """Its conditions: length eps, and one scale (l2) or one threshold (l1) for all coordinates that move freely."""
    g = torch.Generator().manual_seed(5)
    # A third of the pixels is black, a third white.
    x = (3 * torch.rand(2, 3, 224, 224, generator=g) - 1).clamp(0, 1)
    aim = torch.randn(x.shape, generator=g) ** 3
    delta = project(x, x + aim, norm, eps).double() - x.double()
    torch.testing.assert_close(length(delta, norm), torch.full((2,), eps, dtype=torch.float64), rtol=1e-4, atol=0)
    room = torch.where(aim > 0, 1 - x, x)
    free = (delta.abs() > 1e-4) & (delta.abs() < room - 1e-4)
    for i in range(2):
        moved, aimed = delta[i][free[i]].abs(), aim[i][free[i]].abs().double()
        common = moved / aimed if norm == "l2" else aimed - moved
        assert common.max() - common.min() <= 2e-3 * common.mean()


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


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_has_its_length_and_no_step_of_that_length_raises_the_loss_more(norm):
    g = torch.Generator().manual_seed(2)
    gradient = torch.randn(4, 1, 2, 4, generator=g, dtype=torch.float64)
    step = ascent(gradient, norm, 0.6)
    assert (length(step, norm) <= 0.6 + 1e-9).all()
    gain = (step * gradient).flatten(1).sum(1)
    best = 0.6 * (gradient.flatten(1).norm(dim=1) if norm == "l2" else gradient.abs().flatten(1).sum(1))
    torch.testing.assert_close(gain, best, rtol=1e-9, atol=0)


@pytest.mark.parametrize("eps", [0.3, 1.7])
def test_a_long_l1_step_ends_at_the_best_point_of_the_linear_approximation(eps):
    """Against the optimum of a linear programme: after projection no point of ball and box gains more."""
    g = torch.Generator().manual_seed(2)
    x = torch.rand(4, 1, 2, 4, generator=g, dtype=torch.float64)
    gradient = torch.randn(x.shape, generator=g, dtype=torch.float64)
    step = project(x, x + ascent(gradient, "l1", 1000.0), "l1", eps) - x
    gain = (step * gradient).flatten(1).sum(1)
    for i in range(len(x)):
        slope = gradient[i].flatten().numpy()
        # s = up - down with x + s in the box and sum(up + down) <= eps.
        image = x[i].flatten().numpy()
        bounds = [(0, 1 - v) for v in image] + [(0, v) for v in image]
        solved = linprog([*-slope, *slope], A_ub=[[1.0] * 16], b_ub=[eps], bounds=bounds)
        assert float(gain[i]) == pytest.approx(-solved.fun, rel=1e-8)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_gradient_no_step_and_tiny_gradients_do_not_underflow(norm):
    assert not ascent(torch.zeros(1, 1, 4, 4), norm, 0.1).any()
    step = ascent(torch.full((1, 1, 4, 4), 1e-38), norm, 0.1)
    size = step.abs().max() if norm == "l1" else length(step, norm)
    assert size.item() == pytest.approx(0.1, rel=1e-5)


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


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_starts_at_the_rim_have_the_full_distance(norm):
    x = torch.full((1, 1, 3, 3), 0.5)
    source = torch.Generator().manual_seed(0)
    starts = torch.cat([rim_start(x, norm, 0.3, source) for _ in range(50)])
    torch.testing.assert_close(length(starts - x, norm), torch.full((50,), 0.3))
    # Few of them are alike: in l1 many of this small ball's are corners, of which there are 18.
    assert len(starts.unique(dim=0)) > 30


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_start_of_an_image_does_not_depend_on_the_others(norm):
    x = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    for start in (rim_start, lambda *ball: random_start(*ball, shared=True)):
        together, alone = (start(images, norm, 0.7, torch.Generator().manual_seed(0)) for images in (x, x[3:4]))
        assert torch.equal(together[3:4], alone)


def test_falling_steps_in_l1_begin_in_a_ball_of_three_radii_that_shrinks_to_one():
    x = torch.full((1, 1, 2, 2), 0.5)
    radii = [FallingSteps(x, x, "l1", 0.5, 20).radius(step) for step in range(20)]
    assert radii[:12] == pytest.approx([0.5 * (3 - 2 * (step + 1) / 12) for step in range(12)])
    assert radii[12:] == [0.5] * 8
    assert {FallingSteps(x, x, "l2", 0.5, 20).radius(step) for step in range(20)} == {0.5}
