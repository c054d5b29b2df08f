from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit.auditing.selftest import held_out
from rushkit.auditing.selftest.claimed import adaptive, naive
from rushkit.auditing.selftest.ground import CLASSES, Ground
from rushkit.auditing.selftest.held_out.rejecting import NeuralRejection, Weakness
from rushkit.auditing.selftest.held_out.slopes import (
    Compression,
    HalfPrecision,
    NearestAnswer,
    ReverseSigmoid,
)

CASES = {case.name: case for case in held_out.CASES}
# Those that need no network but the base one, and are as fast as it is.
FAST = ("JPEG + reverse sigmoid", "anti-adversary", "float16 that underflows", "nearest neighbour, faint net")
REJECTING = ("turns a weakness into a strength", "deep neural rejection")
IMAGES = 32


class Sums(nn.Module):
    """Two logits: minus and plus the mean of an image, less a half."""

    def forward(self, x):
        q = x.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-q, q], dim=1)


@pytest.fixture(scope="module")
def ground():
    return Ground(11)


def noisy_images(count=4):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAST + REJECTING)
def test_a_claim_falls_by_half_under_the_attack_that_knows_the_defence(ground, name):
    case = CASES[name]
    planted = case.build(ground)
    x, y = ground.test[0][:IMAGES], ground.test[1][:IMAGES]
    claimed, left = naive(case, planted, x, y), adaptive(case, planted, x, y)
    assert claimed >= 0.4
    assert left <= claimed / 2


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_case_is_held_out_and_names_its_causes(name):
    case = CASES[name]
    assert case.held_out
    assert case.causes
    assert case.kind != "sound"


@pytest.mark.parametrize("name", FAST + REJECTING)
def test_a_defence_is_a_function_of_the_seed_and_of_each_image(ground, name, untouched_global_state):
    x = ground.test[0][:6]
    first, second = (CASES[name].build(ground).model for _ in range(2))
    with torch.no_grad():
        assert torch.equal(first(x), second(x))
        assert torch.allclose(first(x)[2:], first(x[2:]), atol=1e-4)


@pytest.mark.parametrize("name", REJECTING)
def test_a_rejection_is_an_answer_beyond_the_classes_and_rare_on_clean_images(ground, name):
    model = CASES[name].build(ground).model
    with torch.no_grad():
        answers = model(ground.test[0]).argmax(dim=1)
    assert answers.max() == CLASSES
    assert (answers == CLASSES).double().mean() < 0.15


def test_jpeg_of_no_strength_is_the_identity_and_a_flat_block_keeps_its_mean():
    x = noisy_images()
    assert torch.allclose(Compression(nn.Identity(), 1e-4).compressed(x), x, atol=1e-4)
    flat = torch.full((1, 3, 16, 16), 0.25)
    # The step of the mean's coefficient, 8 times the mean: 16/255.
    assert Compression(nn.Identity(), 1.0).compressed(flat).sub(flat).abs().max() <= 1 / 255 + 1e-6
    assert not torch.allclose(Compression(nn.Identity(), 1.0).compressed(x), x, atol=0.05)


def test_the_slope_of_jpeg_is_that_of_the_network():
    x = noisy_images().requires_grad_()
    Compression(Sums())(x)[:, 1].sum().backward()
    assert torch.allclose(x.grad, torch.full_like(x, 1 / x[0].numel()))


def test_the_reverse_sigmoid_keeps_answers_and_falls_where_the_network_is_sure():
    gap = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    logits = torch.zeros(len(gap), CLASSES)
    logits[:, 3] = gap
    probs = ReverseSigmoid(nn.Identity())(logits).exp()
    assert (probs.argmax(dim=1) == 3).all()
    assert torch.allclose(probs.sum(dim=1), torch.ones(len(gap)), atol=1e-5)
    assert probs[1, 3] > probs[0, 3]
    assert (probs[3:, 3].diff() < 0).all()


def test_float16_rounds_little_and_loses_small_slopes():
    x = noisy_images()
    rounded = HalfPrecision(nn.Identity())
    assert torch.allclose(rounded(x), x, rtol=2**-10, atol=1e-6)
    for size, lost in ((1.0, False), (1e-5, True)):
        leaf = x.clone().requires_grad_()
        (size * rounded(leaf)).sum().backward()
        assert bool((leaf.grad == 0).all()) == lost


def test_the_nearest_answer_is_that_of_a_plain_search(ground):
    images, labels = ground.train[0][:50], ground.train[1][:50]
    x = ground.test[0][:8]
    model = NearestAnswer(nn.Sequential(nn.Flatten(), nn.Linear(768, CLASSES)), images, labels, faint=0.0)
    expected = [labels[min(range(50), key=lambda other: float((x[row] - images[other]).norm()))] for row in range(8)]
    assert model(x).argmax(dim=1).tolist() == [int(label) for label in expected]


def test_the_steps_to_the_boundary_are_counted():
    # The mean rises by the size of a step: from 0.55 down past 0.5 it takes the third of 0.02, from 0.51 the first.
    x = torch.cat([torch.full((1, 3, 16, 16), level) for level in (0.55, 0.51, 0.9)])
    model = Weakness(Sums(), x, torch.Generator().manual_seed(0), size=0.02, most=6)
    assert model.steps(x).tolist() == [3, 1, 6]


def test_far_from_every_centre_neural_rejection_rejects(ground):
    images, labels = ground.train[0][:60], ground.train[1][:60]
    model = NeuralRejection(nn.Flatten(), images, labels, torch.arange(60))
    assert (model(images).argmax(dim=1) == labels).double().mean() > 0.9
    assert (model(10 + images).argmax(dim=1) == CLASSES).all()
