from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from rushkit.attacks.norms import length
from rushkit.attacks.pgd import PGD
from rushkit.auditing.selftest import held_out
from rushkit.auditing.selftest.claimed import adaptive, naive
from rushkit.auditing.selftest.ground import CLASSES, Ground
from rushkit.auditing.selftest.held_out import attacks, leaking, randomness
from rushkit.auditing.selftest.held_out.ensembles import Ensemble, log_volume
from rushkit.auditing.selftest.held_out.randomness import ActivationPruning, MeanOfAll, PicksOne
from rushkit.auditing.selftest.held_out.rejecting import NeuralRejection, Weakness
from rushkit.auditing.selftest.held_out.slopes import (
    Compression,
    HalfPrecision,
    NearestAnswer,
    ReverseSigmoid,
)
from rushkit.auditing.selftest.held_out.state import Remembers, Sharpens
from rushkit.auditing.selftest.weak import pgd_by

CASES = {case.name: case for case in held_out.CASES}
# Those that need no network but the base one, and are as fast as it is.
FAST = (
    "JPEG + reverse sigmoid",
    "anti-adversary",
    "float16 that underflows",
    "nearest neighbour, faint net",
    "remembers its queries",
    "sharpens the batch",
)
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


def test_every_activation_keeps_its_mean_under_pruning_and_none_turns():
    x = torch.tensor([[0.0, 1.0, 2.0, 5.0]]).expand(100_000, 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pruned = ActivationPruning(0.5)(x)
    # The means of 100 000 draws have standard deviations of .0072 or less: one seed in 500 000 exceeds five of them.
    assert torch.allclose(pruned.mean(dim=0), x[0], atol=0.036)
    assert ((pruned == 0).double().mean(dim=0)[1:] > 0.1).all()


class Constant(nn.Module):
    """One class, whatever the image."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, x):
        return nn.functional.one_hot(torch.full((len(x),), self.label), 3).float()


@pytest.mark.parametrize("whole_batch", [False, True])
def test_one_of_the_networks_answers_each_image_or_each_batch(whole_batch):
    x = noisy_images(300)
    networks = [Constant(label) for label in range(3)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        answers = torch.stack([PicksOne(networks, whole_batch)(x).argmax(dim=1) for _ in range(12)])
    assert set(answers.flatten().tolist()) == {0, 1, 2}
    assert (answers == answers[:, :1]).all() == whole_batch
    assert torch.allclose(MeanOfAll(networks)(x), torch.full((300, 3), 1 / 3))


def test_the_thirds_share_no_pixel_and_leave_out_none(ground):
    thirds = randomness.thirds_of_the_pixels(ground)
    assert [int((thirds == third).sum()) > 60 for third in range(3)] == [True] * 3
    assert torch.equal(thirds, randomness.thirds_of_the_pixels(Ground(11)))
    assert not torch.equal(thirds, randomness.thirds_of_the_pixels(Ground(12)))


def test_what_resembles_a_query_is_answered_alike_until_it_is_forgotten():
    model = Remembers(Sums(), faint=0.0)
    bright, dark = torch.full((1, 3, 16, 16), 0.6), torch.full((1, 3, 16, 16), 0.45)
    far = torch.full((1, 3, 16, 16), 0.1)
    assert model(bright).argmax() == 1
    assert model(dark).argmax() == 1
    assert model(torch.cat([far, dark])).argmax(dim=1).tolist() == [0, 1]
    model.forget()
    assert model(dark).argmax() == 0


def test_a_full_memory_takes_no_more():
    model = Remembers(Sums(), room=1)
    model(torch.full((1, 3, 16, 16), 0.6))
    model(torch.full((1, 3, 16, 16), 0.1))
    assert model(torch.full((1, 3, 16, 16), 0.1)).argmax() == 0
    assert len(model.seen) == 1


def test_the_least_certain_image_of_a_batch_sets_the_scale_of_all():
    images = torch.cat([torch.full((1, 3, 16, 16), level) for level in (0.6, 0.9)])
    model = Sharpens(Sums(), lead=6.0)
    logits = model(images)
    assert (logits[:, 1] - logits[:, 0]).tolist() == pytest.approx([6, 24], rel=1e-4)
    assert model(images[1:])[0].diff().item() == pytest.approx(6, rel=1e-4)


def test_what_the_leak_has_not_seen_falls_and_what_it_has_seen_stands(ground):
    case = CASES["label leak, training images too"]
    knowing = replace(case.build(ground), stand_in=ground.base)
    assert adaptive(case, knowing, *(part[-leaking.UNSEEN :][:IMAGES] for part in ground.train)) <= 0.1
    for seen in (ground.test, ground.train):
        assert adaptive(case, knowing, *(part[:IMAGES] for part in seen)) == 1


def test_the_volume_of_three_networks_is_a_determinant():
    probs = torch.rand(5, 3, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(dim=2)
    y = torch.tensor([0, 3, 9, 5, 5])
    for row in range(5):
        others = torch.stack([torch.cat([p[: y[row]], p[y[row] + 1 :]]) for p in probs[row]])
        unit = others / others.norm(dim=1, keepdim=True)
        assert log_volume(probs, y)[row].exp().item() == pytest.approx(torch.linalg.det(unit @ unit.T).item(), rel=1e-2)


def test_the_ensemble_averages_probabilities():
    x = noisy_images()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = Ensemble()
        mean = model(x).softmax(dim=2).mean(dim=1)
        assert torch.allclose(model.eval()(x).exp(), mean, atol=1e-6)


RULES = {
    attacks.OneChannel: lambda delta: (delta[:, 1:] == 0).all(),
    attacks.HalfFrozen: lambda delta: (delta[:, :, 0, 1::2] == 0).all() and (delta[:, :, 1, ::2] == 0).all(),
    attacks.HalfBall: lambda delta: delta.abs().max() <= 0.05 + 1e-6,
    attacks.OneSlopeForAll: lambda delta: (delta - delta[:1]).abs().max() < 1e-6,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_spoilt_rule_moves_images_as_it_says_and_pgd_does_not(rule):
    x = 0.3 + 0.4 * noisy_images()
    y = torch.zeros(len(x), dtype=torch.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 2)).requires_grad_(False)
    mixed = torch.randn(2, 768, generator=torch.Generator().manual_seed(1))
    model[1].weight.copy_(mixed)
    options = {"steps": 8, "random_start": False, "best": "last"}

    def moved(attack):
        return attack("linf", 0.1, **options).run(Wavy(model), x, y).x_adv - x

    assert RULES[rule](moved(pgd_by(rule)))
    assert not RULES[rule](moved(PGD))


class Wavy(nn.Module):
    """A network whose slope differs from image to image."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(torch.sin(30 * x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("case", [case for case in held_out.CASES if case.kind == "weak"], ids=lambda case: case.name)
def test_a_weak_attack_stays_in_the_ball_and_takes_the_options_of_pgd(case, norm):
    x = noisy_images()
    attack = case.build(Untrained(11)).attack(norm, 0.1, steps=4, samples=1, best="last", selection_samples=1, seed=3)
    result = attack.run(Wavy(nn.Sequential(nn.Flatten(), nn.Linear(768, 3))), x, torch.tensor([0, 1, 2, 0]))
    assert result.x_adv.shape == x.shape
    assert length((result.x_adv - x).double(), norm).max() <= 0.1 + 1e-6


class Untrained(Ground):
    """A ground whose networks are not trained: the attacks are built at once."""

    robust = nn.Identity()

    def trained(self, make, name, **options):
        return make()


def test_labels_shifted_by_one_are_those_of_the_next_image():
    x = noisy_images()
    y = torch.tensor([0, 1, 2, 0])
    model = Wavy(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)))
    options = {"steps": 4, "best": "last", "seed": 3}
    shifted = attacks.ShiftedLabels("linf", 0.1, **options).run(model, x, y).x_adv
    assert torch.equal(shifted, PGD("linf", 0.1, **options).run(model, x, torch.tensor([1, 2, 0, 0])).x_adv)
