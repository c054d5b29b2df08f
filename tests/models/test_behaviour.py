"""The trial of somebody's classifier: random or not, alone or not, with a gradient or without."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from torch import nn

from rushkit.models.answers import answer_kind
from rushkit.models.behaviour import ROWS, behaviour, trial_images
from rushkit.models.fronts import Front, Fronted, find_gradient
from rushkit.system import generator

X = trial_images(3, 4, 4, generator(0, "test"))


class Plus(nn.Module):
    """The means of the channels, plus something."""

    def __init__(self, something) -> None:
        super().__init__()
        self.something = something

    def forward(self, x):
        return x.mean(dim=(2, 3)) + self.something(x)


def of_torch(x):
    return torch.rand(())


def of_numpy(x):
    return float(np.random.rand())


def of_python(x):
    return random.random()


OWN = np.random.default_rng(0)


def of_its_own(x):
    return float(OWN.random())


def of_the_system(x):
    return os.urandom(1)[0] / 255


def rarely(x):
    return 1.0 if random.random() < 1e-6 else 0.0


CALLS = []


def after_calls(x):
    CALLS.append(1)
    return len(CALLS)


@pytest.mark.parametrize(
    "something",
    [of_torch, of_numpy, of_python, of_its_own, of_the_system, rarely, after_calls],
    ids=lambda f: f.__name__,
)
def test_a_random_model_is_found_whatever_it_draws_from(something):
    assert behaviour(Plus(something), X).random


def seeded(x):
    """Draws that are the same in every pass."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    return float(torch.rand(())) + float(np.random.rand()) + random.random()


@pytest.mark.parametrize("something", [lambda x: 0.0, seeded])
def test_a_model_that_repeats_itself_is_not_random(something):
    found = behaviour(Plus(something), X)
    assert not found.random
    assert not found.minds_batch
    assert found.differentiable


def test_dropout_that_stays_on_is_random_and_one_that_goes_off_is_not():
    on = Plus(lambda x: nn.functional.dropout(x.mean(dim=(2, 3)), 0.5, training=True))
    off = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 3))
    assert behaviour(on, X).random
    assert not behaviour(off, X).random
    assert off.training


def test_the_trial_leaves_the_global_generators_as_they_were():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    behaviour(Plus(of_torch), X)
    behaviour(Plus(seeded), X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


@pytest.mark.parametrize(
    "something",
    [lambda x: x.mean(), lambda x: torch.arange(len(x))[:, None]],
    ids=["mean of the batch", "place in the batch"],
)
def test_a_model_that_minds_the_batch_is_found(something):
    assert behaviour(Plus(something), X).minds_batch


def test_batch_norm_that_never_leaves_the_train_mode_is_found():
    class Stays(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(True)

    model = nn.Sequential(Stays(3, track_running_stats=False), nn.Flatten())
    assert behaviour(model, X).minds_batch


@pytest.mark.parametrize(
    "model, differentiable, flat",
    [
        (nn.Flatten(), True, False),
        (Plus(lambda x: torch.from_numpy(x.numpy()).sum()), False, False),
        (Plus(lambda x: 0.0).requires_grad_(False), True, False),
    ],
)
def test_whether_there_is_a_gradient_is_found(model, differentiable, flat):
    found = behaviour(model, X)
    assert (found.differentiable, found.flat) == (differentiable, flat)


def test_a_gradient_of_zeros_is_flat():
    class Rounded(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3)).round()

    found = behaviour(Rounded(), X)
    assert (found.differentiable, found.flat) == (True, True)


def test_the_images_of_the_trial_are_pixels_and_differ():
    assert X.shape == (ROWS, 3, 4, 4)
    assert 0 <= float(X.min()) < float(X.max()) <= 1
    assert len({tuple(image.flatten().tolist()) for image in X}) == ROWS


# Fronts.


def blur(x):
    return nn.functional.avg_pool2d(x, 3, 1, 1)


def quantised(x):
    return (x * 7).round() / 7


def by_numpy(x):
    return torch.from_numpy(x.numpy() ** 2)


def smaller(x):
    return quantised(x)[:, :, :2, :2]


@pytest.mark.parametrize(
    "change, passes, straight",
    [(blur, True, False), (quantised, True, True), (by_numpy, True, True), (smaller, False, False)],
)
def test_a_front_without_gradient_is_passed_straight_through_if_it_keeps_the_size(change, passes, straight):
    front = Front(change, "front.py:change")
    assert find_gradient(front, X) == passes
    assert front.straight_through == straight


def test_straight_through_changes_the_way_back_alone():
    front, weights = Front(quantised, "front.py:quantised"), torch.rand(8, 3, 4, 4)
    find_gradient(front, X)
    x = X.clone().requires_grad_()
    changed = front(x)
    assert torch.equal(changed, quantised(X))
    (gradient,) = torch.autograd.grad((changed * weights).sum(), x)
    assert torch.equal(gradient, weights)


def test_the_first_front_sees_the_images_first():
    fronts = [Front(lambda x: x + 1, "a"), Front(lambda x: x * 2, "b")]
    model = Fronted(fronts, Plus(lambda x: 0.0))
    torch.testing.assert_close(model(X), (X.mean(dim=(2, 3)) + 1) * 2)
    assert answer_kind(model) == "logits"
    model.differentiable = False
    assert answer_kind(model) == "probabilities"
    assert not model(X.clone().requires_grad_()).requires_grad
