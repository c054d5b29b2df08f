"""RK129: an attack that was there and went away again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_models import prototypes
from scipy.stats import binom
from torch import nn

from rushkit import registries
from rushkit.attacks.norms import length
from rushkit.attacks.pgd import PGD
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.checks.attacks import _FEW_DRAWS, _HELD, _LOST, silent_success
from rushkit.auditing.checks.verdict import LARGE
from rushkit.auditing.measure import Measured
from rushkit.auditing.plan import Settings, plan
from rushkit.auditing.scoring import SCORE_DRAWS, score_votes
from rushkit.auditing.selftest.ground import Ground
from rushkit.smoothing import SmoothedClassifier

# Twenty steps of ten draws, the defaults.
SETTINGS = Settings("linf", 0.1)


def judged(least, last, deterministic=True, settings=SETTINGS):
    measured = Measured(settings, deterministic=deterministic, least_right=tuple(least), last_right=tuple(last))
    return silent_success(measured)


@pytest.mark.parametrize(
    "silent, images, status", [(0, 40, "pass"), (2, 40, "pass"), (3, 40, "fail"), (1, 10, "pass"), (2, 10, "fail")]
)
def test_more_than_a_twentieth_and_two_images_fail(silent, images, status):
    verdict = judged([0.0] * (silent + 5) + [1.0] * (images - silent - 5), [1.0] * silent + [0.0] * (images - silent))
    assert verdict.status == status
    assert verdict.figures == {"silent": silent, "wrong_at_an_iterate": silent + 5, "images": images}


@pytest.mark.parametrize(
    "least, last, status", [(0.2, 0.8, "fail"), (0.3, 1.0, "pass"), (0.0, 0.79, "pass"), (0.0, 1.0, "fail")]
)
def test_under_noise_an_image_is_lost_by_a_fifth_of_the_draws_and_held_by_four(least, last, status):
    assert judged([least] * 10, [last] * 10, deterministic=False).status == status


def test_too_few_draws_say_nothing_of_an_image():
    verdict = judged([0.0] * 10, [1.0] * 10, deterministic=False, settings=Settings("linf", 0.1, eot=7))
    assert (verdict.status, verdict.says) == ("skipped", "too few draws: 7 a gradient, and it takes 8")
    assert judged([0.0] * 10, [1.0] * 10, settings=Settings("linf", 0.1, eot=1)).status == "fail"


def test_one_image_says_nothing():
    verdict = judged([0.0], [1.0])
    assert (verdict.status, verdict.says) == ("skipped", "too few images: 1, of 2")


def test_an_attack_that_reports_no_iterates_is_not_judged():
    verdict = judged([], [1.0] * 10)
    assert (verdict.status, verdict.says) == ("skipped", "the attack does not report its iterates")


def counted_by_chance(eot, draws):
    """The largest probability, over p, that an image counts whose label has probability p at every iterate."""
    p = np.linspace(0.001, 0.999, 999)
    lost = 1 - (1 - binom.cdf(np.floor(_LOST * eot + 1e-9), eot, p)) ** SETTINGS.steps
    held = binom.sf(np.ceil(_HELD * draws - 1e-9) - 1, draws, p)
    return float((lost * held).max())


@pytest.mark.parametrize("eot", [_FEW_DRAWS, SETTINGS.eot, 2 * SETTINGS.eot])
def test_an_image_that_is_as_right_at_every_iterate_as_at_the_last_seldom_counts(eot):
    """docs/audit.md: at most 0.0013 of the images, whatever p is, and 0.021 for four of 64 however they depend."""
    worst = counted_by_chance(eot, SCORE_DRAWS)
    assert worst < 0.0013
    needed = int(LARGE * 64) + 1
    # Markov's inequality asks for no independence between the images, which share their draws.
    assert 64 * worst / needed < 0.021


def test_fewer_scoring_draws_count_an_image_by_chance_more_often():
    """docs/audit.md: at most 0.0043, where a vote of m draws leaves as few as 33 of them."""
    fewest = min(score_votes(m, False) * m for m in range(1, 200))
    assert fewest == 33
    assert 0.0042 < max(counted_by_chance(eot, draws) for eot in range(8, 41) for draws in range(33, 65)) < 0.0043


class Recorded(nn.Module):
    """A model that keeps the images of its passes with gradients, and its answers to them."""

    def __init__(self, model):
        super().__init__()
        self.model, self.images, self.answers = model, [], []

    def forward(self, x):
        logits = self.model(x)
        if logits.requires_grad:
            self.images.append(x.detach().clone())
            self.answers.append(logits.detach().argmax(dim=1))
        return logits


@pytest.mark.parametrize("norm, eps", [("linf", 0.05), ("l2", 0.2), ("l1", 0.4)])
def test_the_smallest_share_is_that_of_the_iterates_within_the_ball(norm, eps):
    """The slow reference: every pass with a gradient, one after the other. In l1 PGD begins in larger balls."""
    g, x, y = prototypes()
    model = Recorded(g.model)
    result = PGD(norm, eps, steps=12, loss="margin", best="last", seed=3).run(model, x, y)
    inside = [length(at - x, norm).amax() <= eps * (1 + 1e-5) for at in model.images]
    assert len(inside) == 12
    assert all(inside) == (norm != "l1")
    right = [answer == y for answer, within in zip(model.answers, inside, strict=True) if within]
    expected = torch.stack(right).all(dim=0)
    assert torch.equal(result.least_right, expected.double())
    assert 0 < expected.sum() < len(x)
    if norm == "l1":
        outside = torch.stack([answer == y for answer in model.answers]).all(dim=0)
        assert not torch.equal(outside, expected)


def test_under_noise_it_is_a_share_of_each_gradients_draws():
    g, x, y = prototypes(noise=0.3)
    model = Recorded(g.model)
    noisy = SmoothedClassifier(model, g.noise, 4, seed=0)
    result = PGD("linf", 0.02, steps=5, samples=6, best="last", seed=1).run(noisy, x, y)
    # Draws of one gradient go through the model together, draw by draw.
    shares = [(answers.view(6, -1) == y).double().mean(dim=0) for answers in model.answers]
    assert torch.allclose(result.least_right, torch.stack(shares).amin(dim=0))
    assert ((result.least_right > 0) & (result.least_right < 1)).any()


class Band(nn.Module):
    """Wrong where the image is brighter than 0.5 by 0.2 to 0.7 of eps; the slope leads through and beyond."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        place = (x.flatten(1).mean(dim=1) - 0.5) / self.eps
        wrong = ((place > 0.2) & (place < 0.7)).float() - 0.5
        margin = wrong + place - place.detach()
        return torch.stack([-margin, margin], dim=1)


@pytest.mark.parametrize("noise, m", [("none", 1), ("uniform", 8)])
def test_an_attack_that_walks_through_the_wrong_answers_is_seen(noise, m):
    x, y = torch.full((20, 3, 8, 8), 0.5), torch.zeros(20, dtype=torch.int64)
    options = {} if noise == "none" else {"scale": 0.01}
    g = SmoothedClassifier(Band(SETTINGS.eps), registries.noises.create(noise, **options), m, seed=0)
    verdict = silent_success(base_alone(g, x, y, SETTINGS))
    assert verdict.status == "fail"
    assert verdict.figures == {"silent": 20, "wrong_at_an_iterate": 20, "images": 20}


def base_alone(g, x, y, settings):
    """What is measured by the base attack alone."""
    measured = Measured(settings, images=len(x), deterministic=g.deterministic)
    (base,) = [each for each in plan(settings, g.samples, 10, x.shape, g.deterministic) if each.base]
    assert measured.add(base, Attacks(g, x, y, settings).measure(base)[0])
    return measured


@pytest.mark.parametrize("norm, eps", [("linf", 0.05), ("l2", 1.0)])
def test_a_sound_model_raises_no_alarm(norm, eps):
    x, y = (tensor[:128] for tensor in GROUND.test)
    g = SmoothedClassifier(GROUND.base, registries.noises.create("none"), 1, seed=0)
    right = g.predict(x) == y
    verdict = silent_success(base_alone(g, x[right], y[right], Settings(norm, eps)))
    assert verdict.status == "pass"
    assert verdict.figures["wrong_at_an_iterate"] > 10
    assert verdict.figures["silent"] <= 1


GROUND = Ground(11)
