"""The sound models have learned the digits, or do not count; on a linear one the audit's best attack is exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit.attacks.norms import length
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings
from rushkit.auditing.selftest import sound
from rushkit.auditing.selftest.case import Planted
from rushkit.auditing.selftest.ground import CLASSES, Ground, pgd_trained, trades_trained
from rushkit.errors import NumericsError
from rushkit.smoothing import SmoothedClassifier

CASES = {case.name: case for case in sound.CASES}


@pytest.fixture(scope="module")
def ground():
    return Ground(1)


@pytest.mark.parametrize("name", ["linear, l-inf", "base net, l-inf"])
def test_a_sound_model_has_learned_the_digits(name, ground, untouched_global_state):
    planted = CASES[name].build(ground)
    assert sound.clean_accuracy(ground, planted) > 0.9


def test_a_constant_answer_does_not_count_as_sound(ground):
    class Constant(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :CLASSES] * 0 + torch.eye(CLASSES)[0]

    with pytest.raises(NumericsError, match=r"clean accuracy of 0\.\d+, and counts as sound above 0\.8"):
        sound.learned(lambda ground: Planted(Constant()), ground)


def test_at_least_eleven_models_are_sound():
    assert len(sound.CASES) >= 11
    assert all(case.kind == "sound" and not case.causes for case in sound.CASES)


def worst_linear_right(model, x, y, norm, eps):
    """Whether the label of each image (N,) leads everywhere in ball and box: exact for a linear model.

    The least of <w, d> in both is at clip(-t w) for the largest t that the ball allows in l2, and at the corner of
    both in l-inf.
    """
    layer = next(part for part in model if isinstance(part, nn.Linear))
    weight, bias, flat = layer.weight.double(), layer.bias.double(), x.flatten(1).double()[:, None]
    direction = weight[y][:, None] - weight[None]
    low, high = -flat, 1 - flat
    if norm == "linf":
        least = (-direction.sign() * eps).clamp(low, high)
    else:
        below, above = torch.zeros(2, *direction.shape[:2], 1, dtype=torch.float64)
        above += 1e6
        for _ in range(100):
            middle = (below + above) / 2
            within = (-middle * direction).clamp(low, high).norm(dim=2, keepdim=True) <= eps
            below, above = torch.where(within, middle, below), torch.where(within, above, middle)
        least = (-below * direction).clamp(low, high)
    lead = (direction * (flat + least)).sum(2) + bias[y][:, None] - bias
    return (lead > 0).scatter(1, y[:, None], True).all(1)


@pytest.mark.parametrize("name", ["linear, l-inf", "linear, l2"])
def test_the_best_attack_of_an_audit_is_the_worst_case_of_a_linear_model(name, ground):
    case, planted = CASES[name], CASES[name].build(ground)
    x, y = (part[:64] for part in ground.test)
    g = SmoothedClassifier(planted.model, planted.noise, planted.samples, seed=0)
    measured = measure(g, x, y, Settings(case.norm, case.eps))
    attacked = list(measured.attacked)
    exact = worst_linear_right(planted.model, x[attacked], y[attacked], case.norm, case.eps)
    held = torch.tensor(measured.best.right)
    assert not (exact & ~held).any()
    assert int((held & ~exact).sum()) <= 1
    assert 0.5 < float(exact.double().mean()) < 0.99


class Untrained(Ground):
    """A ground that keeps what a network would be trained on, and returns the base network."""

    def trained(self, make, name, **options):
        self.options = options
        return self._base

    def __init__(self, base):
        super().__init__(1)
        self._base = base


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.15), ("l2", 2.0)])
@pytest.mark.parametrize(("epoch", "share"), [(0, 1 / 12), (5, 0.5), (11, 1.0), (29, 1.0)])
def test_pgd_training_climbs_within_a_ball_that_grows_over_twelve_epochs(norm, eps, epoch, share, ground):
    untrained = Untrained(ground.base)
    pgd_trained(untrained, norm, eps)
    x, y = (part[:32] for part in ground.train)
    x_adv = untrained.options["moved"](ground.base, x, y, epoch, torch.Generator().manual_seed(0))
    distance = length(x_adv - x, norm)
    assert float(distance.max()) == pytest.approx(share * eps, rel=1e-4)
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1
    before, after = (nn.functional.cross_entropy(ground.base(images), y) for images in (x, x_adv))
    assert float(after) > 2 * float(before)


def test_trades_climbs_the_divergence_and_weighs_it_beside_the_clean_loss(ground):
    untrained = Untrained(ground.base)
    trades_trained(untrained, beta=3.0)
    x, y = (part[:32] for part in ground.train)
    both = untrained.options["moved"](ground.base, x, y, 29, torch.Generator().manual_seed(0))
    assert torch.equal(both[:32], x)
    assert float((both[32:] - x).abs().max()) == pytest.approx(0.15, rel=1e-4)
    clean, attacked = (ground.base(images).double() for images in both.split(32))
    p, q = clean.softmax(1), attacked.softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    # At .15 the base network answers nearly every image otherwise.
    assert float(divergence) > 5
    expected = -clean.log_softmax(1)[range(32), y].mean() + 3 * divergence
    logits = torch.cat([clean, attacked])
    assert float(untrained.options["loss"](logits, y)) == pytest.approx(float(expected), rel=1e-6)


def test_a_network_that_an_attack_has_taught_nothing_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, CLASSES, bias=False).requires_grad_(False))
    network[1].weight.zero_()
    with pytest.raises(NumericsError, match=r"trained against PGD in linf 0\.15, the network gets 0\.\d+ of clean"):
        pgd_trained(Untrained(network))
