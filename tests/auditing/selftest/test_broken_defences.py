"""The planted defences leak, draw, reject or mix a batch as they claim to, whatever their networks have learned."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rushkit.auditing.selftest import batches, leaking, random_defences, rejecting
from rushkit.auditing.selftest.ground import CLASSES, Ground
from rushkit.auditing.selftest.random_defences import Expected, FreshNoise, HashNoise

CASES = {case.name: case for module in (batches, leaking, random_defences, rejecting) for case in module.CASES}
LEAKS = ("label leak, logits 20", "label leak, logits 5")
RANDOM = ("resize + pad", "dropout .3/.5", "dropout .6")
REJECTING = ("rejects low confidence", "rejects on 3x3 mean")
MIXING = ("balanced over the batch", "batch norm in train mode")


class Hasty(Ground):
    """A ground whose networks train for two epochs."""

    def trained(self, make, name, **options):
        return super().trained(make, name, **{**options, "epochs": 2})


@pytest.fixture(scope="module")
def ground():
    return Hasty(1)


@pytest.fixture(scope="module")
def planted(ground):
    return {name: case.build(ground) for name, case in CASES.items()}


def answers(model, x):
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize("name", CASES)
def test_a_defence_has_finite_logits_slopes_and_weights_that_stay(name, planted, ground):
    model = planted[name].model
    x = ground.test[0][:16].clone().requires_grad_()
    logits = _seeded_with_slopes(model, x)
    (slope,) = torch.autograd.grad(logits.logsumexp(1).sum() - logits[:, 0].sum(), x)
    assert logits.shape == (16, CLASSES + (name in REJECTING))
    assert torch.isfinite(logits).all()
    assert slope.flatten(1).any(dim=1).all()
    assert not any(weight.requires_grad for weight in model.parameters())


def _seeded_with_slopes(model, x):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return model(x)


@pytest.mark.parametrize("name", CASES)
def test_only_the_random_defences_draw(name, planted, ground):
    x = ground.test[0][:16]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        one, two = answers(planted[name].model, x), answers(planted[name].model, x)
        assert torch.equal(one, two) == (name not in RANDOM)


@pytest.mark.parametrize("name", CASES)
def test_only_the_batches_mix_images(name, planted, ground):
    x = ground.test[0][:16]
    if name in RANDOM:
        # One draw a batch cannot be told from a mixture of images.
        return
    together = answers(planted[name].model, x)
    alone = torch.cat([answers(planted[name].model, image[None]) for image in x])
    moved = float((together - alone).abs().max() / together.abs().max())
    assert moved > 0.05 if name in MIXING else moved < 1e-5


def test_a_balanced_batch_has_every_class_equally_often():
    logits = torch.randn(40, CLASSES, generator=torch.Generator().manual_seed(0)).mul(20)
    model = batches.Balanced(torch.nn.Identity())
    shares = model(logits).exp()
    assert shares.sum(1) == pytest.approx(torch.ones(40), abs=1e-5)
    # Five rounds do not converge altogether.
    assert shares.sum(0) == pytest.approx(torch.full((CLASSES,), 4.0), abs=0.5)
    assert (logits / 8).softmax(1).sum(0).std() > 3 * shares.sum(0).std()


def test_batch_statistics_are_of_the_batch_in_eval_mode_too():
    x = 3 + 2 * torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    layer = batches.BatchStatistics(4).eval().requires_grad_(False)
    layer.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
    layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    weight, bias = layer.weight.view(-1, 1, 1), layer.bias.view(-1, 1, 1)
    assert layer(x) == pytest.approx((x - mean) / (variance + 1e-5).sqrt() * weight + bias, abs=1e-5)


def test_batch_statistics_follow_both_convolutions_and_have_learned(planted):
    model = planted["batch norm in train mode"].model
    followed = [type(before) for before, layer in pairwise(model) if _is_statistics(layer)]
    assert followed == [torch.nn.Conv2d] * 2
    assert all((layer.weight != 1).any() and (layer.bias != 0).any() for layer in model if _is_statistics(layer))


def _is_statistics(layer):
    return isinstance(layer, batches.BatchStatistics)


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_knows_every_test_image_anywhere_in_the_ball_and_no_training_image(name, planted, ground):
    case, model = CASES[name], planted[name].model
    x, y = ground.test
    assert torch.equal(answers(model, x).argmax(1), y)
    signs = torch.randint(2, x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    corners = (x + case.eps * signs).clamp(0, 1)
    # Where balls overlap, the nearest image may be another.
    assert (answers(model, corners).argmax(1) == y).float().mean() > 0.99
    others = ground.train[0][:64]
    assert torch.equal(answers(model, others).argmax(1), answers(ground.base, others).argmax(1))


def test_a_leak_takes_the_nearest_in_l_inf_within_reach(planted):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(30, 3, 4, 4, generator=generator)
    labels = torch.randint(CLASSES, (30,), generator=generator)
    model = leaking.LabelLeak(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, CLASSES)), images, labels, 5)
    # Two remembered images at once are within reach of some of these.
    images[20:] = images[:10] + 0.1
    reach = torch.linspace(0.02, 0.3, 20).view(-1, 1, 1, 1)
    x = images[:20] + reach * torch.rand(20, 3, 4, 4, generator=generator)
    distance, nearest = (x[:, None] - images).flatten(2).abs().amax(2).min(dim=1)
    known = distance <= leaking.REACH
    lead = model(x).detach() - 0.02 * model.network(x).detach()
    expected = 5.0 * torch.nn.functional.one_hot(labels[nearest], CLASSES) * known[:, None]
    assert lead == pytest.approx(expected, abs=1e-5)
    assert 0 < int(known.sum()) < 20
    assert (nearest[known] >= 20).any()
    assert (nearest[known] < 20).any()


def test_low_confidence_is_rejected_and_nothing_else():
    logits = 4 * torch.randn(400, CLASSES, generator=torch.Generator().manual_seed(0))
    probabilities = logits.softmax(1)
    answer = rejecting.RejectsLowConfidence(torch.nn.Identity())(logits).argmax(1)
    confident = probabilities.amax(1) >= 0.98
    assert torch.equal(answer, torch.where(confident, probabilities.argmax(1), CLASSES))
    assert 0.1 < float(confident.float().mean()) < 0.9


def test_one_training_image_in_twenty_moves_too_far_under_blur(planted, ground):
    x = ground.train[0]
    logits = answers(ground.base, x)
    moved = (logits.softmax(1) - answers(ground.base, rejecting.blur(x)).softmax(1)).abs().sum(1)
    answer = answers(planted["rejects on 3x3 mean"].model, x).argmax(1)
    assert torch.equal(answer, torch.where(moved <= moved.quantile(0.95), logits.argmax(1), CLASSES))
    assert float((answer == CLASSES).float().mean()) == pytest.approx(0.05, abs=0.002)


def test_blur_is_the_mean_of_each_window():
    x = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    assert float(rejecting.blur(x)[0, 0, 2, 3]) == pytest.approx(float(x[0, 0, 1:4, 2:5].mean()))
    assert rejecting.blur(torch.full((1, 3, 5, 5), 0.7)) == pytest.approx(torch.full((1, 3, 5, 5), 0.7))


def test_the_noise_of_a_hash_is_the_images_own_whatever_lies_beside_it():
    """Of 192 and 576 draws; three bounds of five standard errors: one of 600 000 other sets of images fails."""
    model = HashNoise(torch.nn.Identity())
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = model(x) - x
    nudged = x.clone()
    nudged[0, 0, 0, 0] += 1e-6
    assert torch.equal(model(x.flip(0)).flip(0), model(x))
    assert float(((model(nudged) - nudged)[0] - noise[0]).std()) == pytest.approx(0.4 * 2**0.5, rel=5 / 384**0.5)
    assert torch.equal(model(nudged)[1:], model(x)[1:])
    assert float(noise.std()) == pytest.approx(0.4, rel=5 / 1152**0.5)
    assert abs(float(noise.mean())) < 5 * 0.4 / 576**0.5


def test_the_slope_takes_the_noise_for_a_constant():
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(HashNoise(torch.nn.Identity())(x).sum(), x)
    assert torch.equal(slope, torch.ones_like(x))


def test_an_expectation_averages_passes_of_their_own():
    x = torch.zeros(4, 3, 8, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mean = Expected(FreshNoise(torch.nn.Identity()), 100)(x)
    # 768 means of 100 draws; five standard errors: one seed in a million and a half fails.
    assert float(mean.std()) == pytest.approx(0.04, rel=5 / 1536**0.5)


def test_resize_and_pad_moves_the_whole_batch_alike_and_keeps_black_around_it():
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(4, -1, -1, -1) + 0.1
    sides = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(100):
            padded = random_defences.ResizeAndPad()(x)
            assert padded.shape == (4, 3, 20, 20)
            assert torch.equal(padded[0], padded[3])
            lit = (padded[0, 0] > 0).nonzero()
            assert torch.equal(lit.amax(0) - lit.amin(0), (lit.amax(0) - lit.amin(0))[:1].expand(2))
            sides.add(int(lit[:, 0].amax() - lit[:, 0].amin()) + 1)
    assert sides == {12, 13, 14, 15, 16}
