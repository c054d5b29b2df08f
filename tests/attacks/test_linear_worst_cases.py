"""Linear classifiers: the robust accuracy is known, attacks meet it exactly and never go below it."""

import pytest
import torch
from planted_models import Linear, reach, several_classes, spaced

from rushkit import attacks, registries
from rushkit.attacks import apgd
from rushkit.attacks.autoattack import AutoAttack
from rushkit.attacks.pgd import PGD
from rushkit.attacks.steps.sparse import SparseSteps
from rushkit.auditing.selftest.weak import SpreadInL1, pgd_by
from rushkit.smoothing import SmoothedClassifier

TWO_CLASS = {
    "pgd": {},
    "pgd from the image": {"random_start": False},
    "pgd with constant steps": {"steps": 100, "step_size": 0.01},
    "pgd, mean CE": {"loss": "ce"},
    "pgd, margin": {"loss": "margin"},
    "pgd, targeted": {"targeted": True, "loss": "ce"},
    "apgd": {"steps": 40},
    "apgd, targeted": {"steps": 40, "targeted": True, "loss": "margin"},
    "fab": {"steps": 30},
    "autoattack": {"queries": 50},
    "torchattacks/apgd": {"steps": 40},
}


def create(label, norm, eps, options):
    return attacks.create(label.partition(",")[0].partition(" ")[0], norm=norm, eps=eps, **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("label", TWO_CLASS)
def test_the_known_robust_accuracy_is_met_image_by_image(label, norm):
    model, x, y, distance = spaced(norm)
    eps = 0.042
    result = create(label, norm, eps, TWO_CLASS[label]).run(model, x, y)
    assert torch.equal(result.success, distance < eps)
    assert reach(x, result.x_adv, norm) <= eps + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("label", TWO_CLASS)
def test_a_ball_past_the_largest_margin_leaves_no_image(label, norm):
    model, x, y, _ = spaced(norm)
    result = create(label, norm, 0.085, TWO_CLASS[label]).run(model, x, y)
    assert result.success.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [5])
def test_targeted_dlr_and_autoattack_are_exact_with_several_classes(classes, norm):
    model, x, y, distance = several_classes(classes, norm)
    eps = float(distance.sort().values[[29, 30]].mean())
    broken = distance < eps
    targeted = attacks.create("apgd", norm=norm, eps=eps, loss="dlr", targeted=True, steps=60)
    assert torch.equal(targeted.run(model, x, y).success, broken)
    suite = AutoAttack(norm, eps, queries=20, steps=60).run(model, x, y)
    assert torch.equal(suite.success, broken)
    assert sum(suite.contributions.values()) == 30


@pytest.mark.parametrize("loss", ["nll", "ce", "dlr", "dlr-mean", "margin"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_loss_reports_an_image_that_cannot_be_broken(loss, norm):
    model, x, y, distance = several_classes(5, norm)
    eps = float(distance.median())
    for name in ("pgd", "apgd"):
        result = attacks.create(name, norm=norm, eps=eps, loss=loss, steps=30).run(model, x, y)
        assert not (result.success & (distance > eps * (1 + 1e-5))).any()
        assert result.success.sum() >= 0.6 * (distance < eps).sum()


def test_l1_breaks_what_a_greedy_choice_of_pixels_breaks():
    """The worst case in l1 with a box: the pixels of largest weight go to their bound until eps is spent."""
    model, x, y, _ = spaced("linf")
    u = model.weight[0].detach()
    eps = 1.3
    sign = (1 - 2 * y)[:, None] * u.sign()
    room = torch.where(sign > 0, x.flatten(1), 1 - x.flatten(1))
    order = u.abs().argsort(descending=True)
    spent = torch.minimum(room[:, order], (eps - (room[:, order].cumsum(1) - room[:, order])).clamp(min=0))
    drop = (spent * u.abs()[order]).sum(1)
    with torch.no_grad():
        z = model(x)
        margin = (z[:, 0] - z[:, 1]).abs() / 2
    result = attacks.create("pgd", norm="l1", eps=eps).run(model, x, y)
    assert not (result.success & (drop < margin)).any()
    assert result.success[drop > 1.01 * margin].all()
    assert reach(x, result.x_adv, "l1") <= eps + 1e-6


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_the_loss_set_of_strict_finds_the_same_whatever_the_scale_of_the_logits(scale):
    model, x, y, distance = spaced("linf", scale=scale)
    found = torch.zeros(len(x), dtype=torch.bool)
    for loss in ("nll", "ce", "margin"):
        found |= attacks.create("pgd", norm="linf", eps=0.042, loss=loss).run(model, x, y).success
    assert torch.equal(found, distance < 0.042)


@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_more_steps_restarts_and_a_larger_ball_never_find_less(name):
    model, x, y, distance = several_classes(5, "linf")
    eps = float(distance.median())
    plain = attacks.create(name, norm="linf", eps=eps, steps=10).run(model, x, y).success
    for more in ({"steps": 80}, {"restarts": 4, "steps": 10}):
        assert attacks.create(name, norm="linf", eps=eps, **more).run(model, x, y).success.sum() >= plain.sum()
    assert attacks.create(name, norm="linf", eps=2 * eps, steps=10).run(model, x, y).success.sum() >= plain.sum()


def never_broken(side, count):
    """A linear model whose label 1 wins by far. -> model, x, y; the margin rises with the first class's weight."""
    g = torch.Generator().manual_seed(side)
    x = torch.rand(count, 3, side, side, generator=g)
    weight = torch.randn(3 * side * side, generator=g)
    model = Linear(torch.stack([weight, -weight]), torch.tensor([-1000.0, 1000.0]))
    return model, x, torch.ones(count, dtype=torch.int64)


def worst_l1(weight, x, eps):
    """The largest gain of a linear function in the l1 ball and the box: (N,)."""
    room = torch.where(weight > 0, 1 - x.flatten(1), x.flatten(1)).double()
    order = weight.abs().argsort(descending=True)
    room = room[:, order]
    spent = torch.minimum(room, (eps - (room.cumsum(1) - room)).clamp(min=0))
    return (spent * weight.abs()[order].double()).sum(1)


@pytest.mark.parametrize("eps", [1.0, 3.0])
@pytest.mark.parametrize("side, count", [(6, 8), (16, 8), (32, 4), (96, 2), (224, 1)])
@pytest.mark.parametrize("name, steps", [("pgd", 20), ("apgd", 40)])
def test_l1_reaches_the_exact_worst_case_at_every_size_in_few_steps(name, steps, side, count, eps):
    """Its optimum moves a few of 108 pixels, or of 150528."""
    model, x, y = never_broken(side, count)
    x_adv = attacks.create(name, norm="l1", eps=eps, loss="margin", steps=steps)(model, x, y)
    gain = ((x_adv - x).flatten(1).double() * model.weight[0].double()).sum(1)
    assert (gain >= 0.98 * worst_l1(model.weight[0], x, eps)).all()
    assert reach(x, x_adv, "l1") <= eps


def gains(attack, g, weight, x, y, eps, **options):
    """The share of the largest gain that each image reaches under the noise of g."""
    x_adv = attack("l1", eps, loss="margin", samples=8, **options)(g, x, y)
    gain = ((x_adv - x).flatten(1).double() * weight.double()).sum(1)
    return gain / worst_l1(weight, x, eps)


@pytest.mark.parametrize("eps", [1.0, 3.0])
@pytest.mark.parametrize("side, count", [(6, 8), (32, 4)])
@pytest.mark.parametrize("noise, scale", [("uniform", 0.3), ("gaussian", 0.25), ("laplace", 0.2)])
def test_l1_reaches_the_exact_worst_case_under_noise(noise, scale, side, count, eps):
    """The smoothed answer depends on the gain alone, and so does its worst case, whatever the noise."""
    model, x, y = never_broken(side, count)
    g = SmoothedClassifier(model, registries.noises.create(noise, scale=scale), 16, seed=0)
    weight = model.weight[0].detach()
    assert (gains(PGD, g, weight, x, y, eps, steps=20) >= 0.98).all()
    # Its sparse steps follow one draw after the other: 40 of them leave a few hundredths.
    assert (gains(apgd.APGD, g, weight, x, y, eps, steps=40) >= 0.92).all()


class Lucky(SparseSteps):
    """Takes every loss for the truth."""

    def __init__(self, *settings):
        super().__init__(*settings[:5], noisy=False)


def test_a_sparse_climb_that_kept_its_luckiest_draws_would_lose_a_third_under_noise(monkeypatch):
    model, x, y = never_broken(32, 4)
    g = SmoothedClassifier(model, registries.noises.create("gaussian", scale=0.25), 16, seed=0)
    weight = model.weight[0].detach()
    sound = gains(apgd.APGD, g, weight, x, y, 1.0, steps=40)
    monkeypatch.setattr(apgd, "SparseSteps", Lucky)
    assert sound.mean() > 0.95
    assert gains(apgd.APGD, g, weight, x, y, 1.0, steps=40).mean() < 0.8


def test_l1_steps_spread_over_one_percent_lose_a_fifth_at_32_pixels():
    model, x, y = never_broken(32, 4)
    g = SmoothedClassifier(model, registries.noises.create("uniform", scale=0.3), 16, seed=0)
    weight = model.weight[0].detach()
    assert (gains(pgd_by(SpreadInL1), g, weight, x, y, 3.0, steps=40) < 0.9).all()
