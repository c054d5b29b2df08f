"""Step rules know no model: they are driven here by a landscape of known slope."""

import pytest
import torch

from rushkit.attacks.norms import length
from rushkit.attacks.steps.auto import AutoSteps
from rushkit.attacks.steps.falling import FallingSteps
from rushkit.attacks.steps.sparse import SparseSteps

RULES = {
    "falling": (FallingSteps, {}),
    "fixed": (FallingSteps, {"step_size": 0.07}),
    "momentum": (FallingSteps, {"momentum": 0.75}),
    "auto": (AutoSteps, {}),
    "sparse": (SparseSteps, {}),
}
NORMS = {"auto": ("linf", "l2"), "sparse": ("l1",)}
CASES = [(rule, norm) for rule in RULES for norm in NORMS.get(rule, ("linf", "l2", "l1"))]


def images(count=6):
    g = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, 5, 5, generator=g), torch.rand(count, 3, 5, 5, generator=g)


def started(rule, norm, x, steps=12):
    kind, options = RULES[rule]
    return kind(x, x, norm, {"linf": 0.2, "l2": 0.8, "l1": 3.0}[norm], steps, **options)


def advance(climb, peak, steps):
    """Tell the loss −Σ d(x' − peak)², which is ill-conditioned."""
    weight = torch.logspace(0, 1.5, peak[0].numel()).view(peak[0].shape)
    for _ in range(steps):
        away = climb.x_adv - peak
        climb.tell(-(weight * away.square()).sum(dim=(1, 2, 3)), -2 * weight * away)


@pytest.mark.parametrize("rule, norm", CASES)
def test_a_restored_climb_goes_on_bit_for_bit(rule, norm):
    x, peak = images()
    whole, first, second = started(rule, norm, x), started(rule, norm, x), started(rule, norm, x)
    advance(whole, peak, 12)
    advance(first, peak, 5)
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    assert second.step == 5
    advance(second, peak, 7)
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name


@pytest.mark.parametrize("rule, norm", CASES)
def test_the_path_of_an_image_does_not_depend_on_those_that_leave(rule, norm):
    x, peak = images()
    whole, parting, alone = started(rule, norm, x), started(rule, norm, x), started(rule, norm, x[4:5])
    advance(whole, peak, 12)
    advance(parting, peak, 4)
    stay = torch.tensor([False, True, False, False, True, True])
    parting.keep(stay)
    advance(parting, peak[stay], 8)
    advance(alone, peak[4:5], 12)
    assert torch.equal(parting.x_adv, whole.x_adv[stay])
    assert torch.equal(alone.x_adv, whole.x_adv[4:5])


@pytest.mark.parametrize("rule, norm", CASES)
def test_every_point_lies_in_ball_and_box_and_the_loss_rises(rule, norm):
    x, peak = images()
    climb = started(rule, norm, x)
    advance(climb, peak, 1)
    first = climb.largest
    for _ in range(11):
        advance(climb, peak, 1)
        radius = climb.eps if climb.inside else 3 * climb.eps
        assert (length(climb.x_adv - x, norm) <= radius + 1e-5).all()
        assert climb.x_adv.min() >= 0
        assert climb.x_adv.max() <= 1
    assert climb.inside
    assert (climb.largest > first).all()


def test_improved_says_whose_loss_is_the_largest_so_far():
    x, _ = images(3)
    climb = started("falling", "linf", x)
    climb.tell(torch.tensor([1.0, 1.0, 1.0]), torch.ones_like(x))
    assert climb.improved.tolist() == [True, True, True]
    climb.tell(torch.tensor([1.0, 2.0, 0.0]), torch.ones_like(x))
    assert climb.improved.tolist() == [False, True, False]
    climb.tell(torch.tensor([1.5, 1.5, 0.5]), torch.ones_like(x))
    assert climb.improved.tolist() == [True, False, False]
    assert climb.largest.tolist() == [1.5, 2.0, 1.0]


@pytest.mark.parametrize("momentum", [0.0, 0.75])
def test_images_without_a_gradient_stay_where_they_are(momentum):
    x, _ = images(2)
    climb = FallingSteps(x, x, "l2", 0.5, 4, momentum=momentum)
    gradient = torch.ones_like(x)
    gradient[0] = 0
    climb.tell(torch.zeros(2), gradient)
    assert torch.equal(climb.x_adv[0], x[0])
    assert not torch.equal(climb.x_adv[1], x[1])


def test_momentum_follows_the_sum_of_scaled_gradients_as_written_out():
    """Three gradients of very different size count alike, the older ones by μ² and μ."""
    g = torch.Generator().manual_seed(1)
    x = torch.full((1, 3, 4, 4), 0.5)
    gradients = [size * torch.randn(x.shape, generator=g) for size in (1e-3, 1.0, 1e3)]
    climb = FallingSteps(x, x, "l2", 0.5, 10, step_size=0.05, momentum=0.75)
    for gradient in gradients[:2]:
        climb.tell(torch.zeros(1), gradient)
    before = climb.x_adv
    climb.tell(torch.zeros(1), gradients[2])
    a, b, c = (gradient / gradient.abs().sum() for gradient in gradients)
    direction = 0.75**2 * a + 0.75 * b + c
    torch.testing.assert_close(climb.x_adv - before, 0.05 * direction / direction.norm())
