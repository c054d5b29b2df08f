"""The attack under doubt is held against optima that are known, and against a second opinion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from linear_models import prototypes
from torch import nn

from rushkit import registries
from rushkit.attacks.pgd import PGD
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.checks.strength import planted_optimum, second_opinion
from rushkit.auditing.given import Given
from rushkit.auditing.landscapes import SOUND
from rushkit.auditing.measure import Measured, Point, measure
from rushkit.auditing.plan import Passes, Settings, plan
from rushkit.auditing.selftest.weak import Descending, Overshooting, SpreadInL1, pgd_by
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.05, steps=2, eot=2, queries=5, planted=1)
LOW, HIGH = SOUND - 0.01, SOUND + 0.01


def point(label, right, images=60):
    return Point(label, 0.0, tuple(float(index < right) for index in range(images)))


def opinion_of(doubted, second, images=60):
    """Figures in which the attack under doubt leaves so many images, and the second opinion the first of them."""
    found = Measured(SETTINGS, images=images)
    found.points["steps"] = [point("2 steps", images, images), point("4 steps", doubted, images)]
    found.second_opinion = point("apgd and apgd-t", second, images)
    return found


@pytest.mark.parametrize(
    "doubted, second, images, status, p",
    [
        (40, 40, 60, "pass", 1.0),
        # Ten images one way: p = 2/2¹⁰. Eleven: half of that.
        (40, 30, 60, "pass", 2**-9),
        (40, 29, 60, "fail", 2**-10),
        # Significant, but too small to matter: twelve of 300 images.
        (200, 188, 300, "pass", 2**-11),
        (200, 169, 300, "fail", 2**-30),
        # An attack under doubt that is stronger is never blamed.
        (20, 40, 60, "pass", 2**-19),
        # Ten images lost of ten are not enough for the test.
        (10, 0, 10, "skipped", 2**-9),
        (11, 0, 11, "fail", 2**-10),
    ],
)
def test_the_second_opinion_needs_a_large_and_a_sure_difference(doubted, second, images, status, p):
    said = second_opinion(opinion_of(doubted, second, images))
    assert said.status == status
    assert said.figures["p"] == pytest.approx(p)
    assert ("too few images" in said.says) == (status == "skipped")


def test_the_best_point_of_the_sweep_stands_for_the_attack_under_doubt():
    found = opinion_of(60, 20)
    assert second_opinion(found).status == "fail"
    found.points["steps"].insert(0, point("1 steps", 22))
    said = second_opinion(found)
    assert said.status == "pass"
    assert said.figures["accuracy under 1 steps"] == pytest.approx(22 / 60)


@pytest.mark.parametrize(
    "norm, linear, curved, second, status",
    [
        ("linf", HIGH, HIGH, 40, "pass"),
        ("linf", LOW, HIGH, 40, "fail"),
        ("linf", LOW, LOW, 40, "fail"),
        # A network hardly curves within the ball, so that the curved landscape alone needs a witness.
        ("linf", HIGH, LOW, 40, "warn"),
        ("l2", HIGH, LOW, 40, "warn"),
        ("linf", HIGH, LOW, 20, "fail"),
        # In l1 each optimum counts.
        ("l1", HIGH, LOW, 40, "fail"),
        ("l1", LOW, HIGH, 40, "fail"),
    ],
)
def test_an_attack_that_misses_a_known_optimum_is_weak(norm, linear, curved, second, status):
    found = opinion_of(40, second)
    found.settings = replace(SETTINGS, norm=norm)
    found.landscapes = {"linear": linear, "curved": curved}
    said = planted_optimum(found)
    assert said.status == status
    assert said.figures == {"share of the linear optimum": linear, "share of the curved optimum": curved}


def audited(attack=PGD, norm="linf", noise="none", m=1, **options):
    g, x, y = prototypes(samples=m)
    g = SmoothedClassifier(g.model, registries.noises.create(noise, **options), m, seed=0)
    return measure(g, x, y, replace(SETTINGS, norm=norm, eps=1e-4), Given(attack=attack))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_real_attack_reaches_the_known_optima_within_an_audit(norm):
    found = audited(norm=norm)
    assert planted_optimum(found).status == "pass"
    assert min(found.landscapes.values()) > 0.98


def test_the_landscapes_know_no_noise_and_cost_no_pass():
    still, noisy = audited(), audited(noise="uniform", m=4, scale=0.1)
    assert still.landscapes == noisy.landscapes
    assert still.passes <= still.announced


@pytest.mark.parametrize(
    "rule, norm, status", [(Descending, "linf", "fail"), (Overshooting, "linf", "warn"), (SpreadInL1, "l1", "fail")]
)
def test_a_weak_attack_under_doubt_is_told_by_the_known_optima(rule, norm, status):
    # In so small a ball no attack breaks any image, so that the second opinion is silent.
    found = audited(pgd_by(rule), norm)
    assert second_opinion(found).status == "pass"
    assert planted_optimum(found).status == status


class OnePixelEach(nn.Module):
    """Class 0, and two that each like one pixel; at a grey image the last is the likelier of them."""

    def forward(self, x):
        liked = torch.tensor([-1.0, -0.5]) + 4 * (x.flatten(1)[:, :2] - 0.5)
        return torch.cat([torch.zeros_like(liked[:, :1]), liked], dim=1)


@pytest.mark.parametrize("noise, m, options", [("none", 1, {}), ("gaussian", 8, {"scale": 0.01})])
def test_each_of_the_likeliest_classes_is_climbed_to(noise, m, options):
    x, y = torch.full((5, 3, 2, 2), 0.5), torch.zeros(5, dtype=torch.int64)
    g = SmoothedClassifier(OnePixelEach(), registries.noises.create(noise, **options), m, seed=0)
    settings = Settings("linf", 0.4, steps=10, eot=4)
    attacks = Attacks(g, x, y, settings)
    measurements = [each for each in plan(settings, m, 3, x.shape, noise == "none") if each.place == "targeted"]
    # With three classes the loss is the margin, which depends on the target's pixel alone.
    for measurement, pixel in zip(measurements, (1, 0), strict=True):
        outcome, x_adv = attacks.measure(measurement)
        assert outcome.passes == measurement.passes
        assert outcome.share == [0.0] * 5
        assert x_adv.flatten(1)[:, pixel].tolist() == pytest.approx([0.9] * 5)


def test_two_classes_have_one_target():
    targeted = [each.label for each in plan(SETTINGS, 1, 2, (5, 3, 4, 4), True) if each.place == "targeted"]
    assert targeted == ["apgd-t, class 1"]


@pytest.mark.parametrize("deterministic, most", [(False, 0.3), (True, 0.3)])
def test_the_second_opinion_costs_less_than_three_tenths_of_the_rest(deterministic, most):
    settings, shape = Settings("linf", 8 / 255), (64, 3, 32, 32)
    planned = plan(settings, 64, 10, shape, deterministic)
    passes = Passes(64, 64, deterministic)
    opinion = sum(each.passes for each in planned if each.place == "targeted") + passes.score
    rest = sum(each.passes for each in planned if each.place != "targeted") + passes.final
    assert opinion < most * rest
