"""FAB: the exact minimum distance of linear models, its peers, and images that do not know each other."""

import pytest
import torch
from planted_models import Box, Linear, accuracy, exact_distance, reach, small_network, spaced

from rushkit import attacks
from rushkit.attacks.fab import FAB
from rushkit.errors import UsageError
from rushkit.smoothing import SmoothedClassifier

NORMS = ["linf", "l2", "l1"]


def linear_images(side, classes=3, count=4):
    g = torch.Generator().manual_seed(side)
    x = torch.rand(count, 3, side, side, generator=g)
    weight = torch.randn(classes, 3 * side**2, generator=g) / side
    model = Linear(weight, -(weight @ x.flatten(1).mean(0)))
    with torch.no_grad():
        return model, x, model(x).argmax(1)


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("side, steps, count", [(6, 20, 8), (32, 10, 4), (224, 3, 2)])
def test_the_distance_is_the_exact_minimum_of_a_linear_model(side, steps, count, norm, targeted):
    """A step overshoots by 5 %, of which the pull towards the image leaves half a percent."""
    model, x, y = linear_images(side, count=count)
    exact = exact_distance(model, x, y, norm)
    found = FAB(norm, 1e-4, steps=steps, targeted=targeted, stop_early=False).run(model, x, y).distance
    assert (found >= exact * (1 - 1e-5)).all()
    assert (found <= exact * (1.07 if side == 224 else 1.01)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_images_nearer_than_eps_are_broken_and_no_others(norm):
    model, x, y = linear_images(6, classes=5, count=30)
    exact = exact_distance(model, x, y, norm)
    eps = float(exact.median())
    result = FAB(norm, eps, steps=20).run(model, x, y)
    assert result.success[exact < 0.98 * eps].all()
    assert not result.success[exact > eps].any()
    assert reach(x, result.x_adv, norm) <= eps


# Of pyautoattack 0.2.0 (the official code) on these images: right answers left at eps, and the mean distance of the
# untargeted walk, which is compared to the last digit that is written here.
OFFICIAL = {
    ("linf", 0.085, True): (48, None),
    ("linf", 0.085, False): (48, 0.0861),
    ("l2", 0.5, True): (49, None),
    ("l2", 0.5, False): (49, 0.5077),
    ("l1", 1.5, True): (47, None),
    ("l1", 1.5, False): (54, 1.5856),
}


@pytest.mark.parametrize("norm, eps, targeted", OFFICIAL)
def test_it_leaves_what_the_official_code_leaves(norm, eps, targeted):
    """No draws are involved; rounding decides at the rim."""
    model, x, y = small_network(images=100)
    result = FAB(norm, eps, steps=30, targeted=targeted, stop_early=targeted).run(model.eval(), x, y)
    left, mean = OFFICIAL[norm, eps, targeted]
    assert abs(int((~result.success).sum()) - left) <= 2
    assert mean is None or float(result.distance.mean()) == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("norm, eps", [("linf", 0.085), ("l2", 0.5)])
def test_it_leaves_what_torchattacks_leaves(norm, eps):
    """torchattacks' own l1 raises an UnboundLocalError."""
    torchattacks = pytest.importorskip("torchattacks")
    model, x, y = small_network(images=100)
    model.eval()
    ours = accuracy(model, FAB(norm, eps, steps=20)(model, x, y), y)
    theirs = accuracy(
        model, torchattacks.FAB(model, norm.capitalize(), eps, 20, 1, multi_targeted=True, n_classes=5)(x, y), y
    )
    assert 5 < theirs < 95
    assert abs(ours - theirs) <= 2


@pytest.mark.parametrize("norm", NORMS)
def test_more_restarts_never_lengthen_the_distance(norm):
    model, x, y = small_network(images=40)
    once, thrice = (FAB(norm, 0.5, 10, restarts=n, stop_early=False).run(model, x, y) for n in (1, 3))
    assert (thrice.distance <= once.distance).all()
    assert thrice.image_backwards == 3 * once.image_backwards


def test_targets_are_at_most_the_other_classes():
    model, x, y = linear_images(6, classes=3)
    result = FAB("l1", 1e-4, steps=1, n_targets=9).run(model, x, y)
    # Two targets, a step each: the 4 images go back once for each.
    assert result.image_backwards == 2 * 4


@pytest.mark.parametrize("norm", NORMS)
def test_a_smoothed_linear_model_is_broken_up_to_its_distance(norm):
    """Symmetric noise moves no vote of two linear classes; 20 % about the boundary, with split votes, are left out."""
    model, x, y, _ = spaced("linf")
    exact = exact_distance(model, x, y, norm)
    eps = float(exact.median())
    g = SmoothedClassifier(model, Box(0.005), samples=16, seed=3)
    result = FAB(norm, eps, steps=10).run(g, x, y)
    assert result.success[exact < 0.8 * eps].all()
    assert not result.success[exact > 1.2 * eps].any()
    assert reach(x, result.x_adv, norm) <= eps


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("norm, eps", [("linf", 0.12), ("l2", 0.8), ("l1", 3.0)])
def test_broken_images_leave_in_the_middle_of_a_walk(norm, eps, smoothed):
    model, x, y = small_network(images=100)
    x, y = x[:12], y[:12]
    attacked = SmoothedClassifier(model, Box(0.02), samples=20, seed=0) if smoothed else model
    leaving, staying = (
        FAB(norm, eps, steps=20, n_targets=2, stop_early=early).run(attacked, x, y) for early in (True, False)
    )
    assert staying.success.any()
    assert torch.equal(leaving.success, staying.success)
    # Two walks, of 20 steps each.
    draws = 20 if smoothed else 1
    assert staying.image_backwards == 12 * 2 * 20 * draws
    assert leaving.image_backwards < 0.6 * staying.image_backwards


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("norm, eps", [("linf", 0.085), ("l2", 0.5), ("l1", 1.5)])
def test_an_image_finds_the_same_whoever_is_beside_it(norm, eps, smoothed):
    model, x, y = small_network(images=100)
    x, y = x[:12], y[:12]
    attacked = SmoothedClassifier(model, Box(0.02), samples=4, seed=0) if smoothed else model
    attack = FAB(norm, eps, steps=8, restarts=2, n_targets=2)
    together = attack.run(attacked, x, y)
    for row in (0, 7):
        alone = attack.run(attacked, x[row : row + 1], y[row : row + 1])
        torch.testing.assert_close(alone.x_adv[0], together.x_adv[row], atol=1e-5, rtol=0)


def test_no_targets_are_refused():
    with pytest.raises(UsageError, match="n_targets must be at least 1"):
        attacks.create("fab", norm="l1", eps=1.0, n_targets=0)
