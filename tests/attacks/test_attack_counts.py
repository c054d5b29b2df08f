"""Passes are counted as they happen; images that are broken leave; curves have one value a step."""

import pytest
import torch
from planted_models import Box, spaced

from rushkit import attacks
from rushkit.attacks.apgd import APGD
from rushkit.attacks.pgd import PGD
from rushkit.smoothing import SmoothedClassifier


def counted(model):
    """Forward images and backward images of the base model, by hooks."""
    seen = {"forward": 0, "backward": 0}

    def hook(module, inputs, output):
        seen["forward"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: seen.__setitem__("backward", seen["backward"] + len(gradient)))

    model.register_forward_hook(hook)
    return seen


@pytest.mark.parametrize("smoothed", [False, True], ids=["deterministic", "smoothed"])
@pytest.mark.parametrize("name", ["pgd", "apgd", "autoattack", "fab", "square", "fgsm", "cw"])
def test_reported_passes_are_those_of_the_base_model(name, smoothed):
    model, x, y, _ = spaced("l2" if name == "cw" else "linf", count=6)
    seen = counted(model)
    attacked = SmoothedClassifier(model, Box(0.01), samples=3, seed=0) if smoothed else model
    options = {"autoattack": {"steps": 5, "queries": 10}, "fab": {"steps": 5}, "square": {"queries": 10}, "cw": {}}
    norm = "l2" if name == "cw" else "linf"
    result = attacks.create(name, norm=norm, eps=0.005, **options.get(name, {})).run(attacked, x, y)
    assert (result.image_forwards, result.image_backwards) == (seen["forward"], seen["backward"])
    assert result.image_forwards > 0


def test_the_papers_protocol_costs_its_steps_and_a_vote():
    """40 steps of m draws forward and backward; besides, one pass for the classes and one vote."""
    model, x, y, _ = spaced("linf", count=6)
    g = SmoothedClassifier(model, Box(0.001), samples=64, seed=0)
    attack = PGD("linf", 0.002, step_size=0.0005, random_start=False, best="last", noise="fixed")
    result = attack.run(g, x, y)
    assert result.image_backwards == 40 * 64 * 6
    assert result.image_forwards <= 1.15 * 40 * 64 * 6


def test_iterates_of_a_random_model_are_compared_on_a_panel_of_its_own():
    """The panel sees the image and 6 iterates; besides, there is a vote, and one pass for the classes."""
    model, x, y, _ = spaced("linf", count=6)
    g = SmoothedClassifier(model, Box(0.001), samples=4, seed=0)
    result = PGD("linf", 0.0005, steps=5, selection_samples=30).run(g, x, y)
    assert result.image_backwards == 6 * 5 * 4
    assert result.image_forwards == 1 + 6 * (5 * 4 + 7 * 30 + 30)


@pytest.mark.parametrize("attack", [PGD("linf", 0.042), APGD("linf", 0.042, steps=40)], ids=["pgd", "apgd"])
def test_broken_images_of_a_deterministic_model_leave(attack):
    model, x, y, distance = spaced("linf")
    result = attack.run(model, x, y)
    kept = int((distance > 0.042).sum())
    assert kept * 40 <= result.image_backwards < 0.8 * len(x) * 40


def test_restarts_attack_only_what_is_left():
    model, x, y, distance = spaced("linf")
    g = SmoothedClassifier(model, Box(0.001), samples=20, seed=0)
    once = PGD("linf", 0.042, steps=10).run(g, x, y)
    twice = PGD("linf", 0.042, steps=10, restarts=2).run(g, x, y)
    again = (twice.image_backwards - once.image_backwards) / (20 * 10)
    assert int((distance > 0.042).sum()) <= again <= int((distance > 0.042).sum()) + 4


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_the_curve_has_a_value_a_step_and_rises_on_a_linear_model(name, steps):
    model, x, y, _ = spaced("linf")
    for eps in (0.001, 0.042, 0.09):
        curve = attacks.create(name, norm="linf", eps=eps, steps=steps).run(model, x, y).loss_curve
        assert curve.shape == (steps,)
        assert torch.isfinite(curve).all()
        assert (curve.diff() >= -1e-6).all() or name == "apgd"


@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_an_image_that_has_left_counts_in_the_curve_with_its_last_value(name):
    """No step's mean can exceed the mean of the worst cases; here images leave at every step."""
    model, x, y, _ = spaced("linf")
    worst = 0.5 + (x - 0.5) + 0.09 * (2 * y - 1).view(-1, 1, 1, 1) * model.weight[0].sign().view(1, 1, 6, 6)
    with torch.no_grad():
        bound = torch.nn.functional.cross_entropy(model(worst), y)
    curve = attacks.create(name, norm="linf", eps=0.09, loss="ce", steps=12).run(model, x, y).loss_curve
    assert curve.max() <= bound + 1e-4
    assert curve[-1] > curve[0]


def test_the_loss_is_that_of_the_returned_image():
    model, x, y, _ = spaced("linf")
    result = PGD("linf", 0.01, loss="ce").run(model, x, y)
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(result.x_adv), y, reduction="none")
    torch.testing.assert_close(result.loss, expected)
