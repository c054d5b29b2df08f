"""A claimed accuracy is refuted by the audit's own strongest attack, and a true claim hardly ever is."""

from __future__ import annotations

from math import comb, isclose, nan

import numpy as np
import pytest
import torch
from linear_models import prototypes
from scipy.stats import binom, hypergeom
from torch import nn

from rushkit import registries
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.checks.subjects import claim_refuted
from rushkit.auditing.given import Given
from rushkit.auditing.measure import Measured, measure
from rushkit.auditing.plan import Settings
from rushkit.errors import UsageError
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.05, steps=2, eot=2, queries=5, planted=1)


def judged(claim, right, images):
    votes = (True,) * right + (False,) * ((images - right) // 2)
    return claim_refuted(Measured(SETTINGS, images=images, claim=claim, claim_votes=votes))


@pytest.mark.parametrize("claim, right, images", [(0.65, 30, 64), (0.65, 29, 64), (0.9, 3, 8), (0.5, 0, 5)])
def test_p_is_the_probability_of_at_most_so_many(claim, right, images):
    """Images that were wrong before any attack are not among the votes, and count as wrong."""
    exact = sum(comb(images, k) * claim**k * (1 - claim) ** (images - k) for k in range(right + 1))
    verdict = judged(claim, right, images)
    assert isclose(verdict.figures["p"], exact, rel_tol=1e-9)
    assert verdict.figures | {"p": 0} == {"claim": claim, "right": right, "images": images, "p": 0}
    assert verdict.status == ("fail" if exact < 1e-3 else "pass")


@pytest.mark.parametrize(
    "claim, right, status", [(1.0, 64, "pass"), (1.0, 63, "fail"), (0.0, 0, "pass"), (0.0, 64, "pass")]
)
def test_the_ends_of_the_interval(claim, right, status):
    assert judged(claim, right, 64).status == status


@pytest.mark.parametrize("images", [1, 8, 64, 500])
def test_a_true_claim_is_refuted_in_less_than_one_of_a_thousand_cases(images):
    for claim in np.linspace(0.01, 0.99, 21):
        refuted = [right for right in range(images + 1) if judged(claim, right, images).status == "fail"]
        assert binom.pmf(refuted, images, claim).sum() < 1e-3
        # Of so many, none is beyond one that is not refuted.
        assert refuted == list(range(len(refuted)))


def test_a_sample_without_replacement_is_refuted_even_more_rarely():
    """64 images of a split of 360, of which the claimed share is right."""
    for right in range(18, 360, 18):
        refuted = [k for k in range(65) if judged(right / 360, k, 64).status == "fail"]
        drawn = hypergeom.pmf(refuted, 360, right, 64).sum()
        assert drawn <= binom.pmf(refuted, 64, right / 360).sum() < 1e-3


def test_simulated_true_claims_stand():
    """20000 audits of 64 images: above 40 refutals have a probability below 1e-4 where each has less than 1e-3."""
    source, claim = np.random.default_rng(0), 0.65
    counts = (source.random((20_000, 64)) < claim).sum(axis=1)
    status = {int(k): judged(claim, int(k), 64).status for k in np.unique(counts)}
    refuted = sum(status[int(k)] == "fail" for k in counts)
    assert refuted <= 40


def audited(claim, eps, noise="none", m=1, cut=False):
    g, x, y = prototypes()
    model = (lambda images: g.model(images.detach())) if cut else g.model
    options = {} if noise == "none" else {"scale": 0.1}
    smoothed = SmoothedClassifier(Wrapped(model), registries.noises.create(noise, **options), m, seed=0)
    # Six images have a wrong label: they are right before no attack.
    y = y.clone()
    y[:6] = (y[:6] + 1) % 3
    found = measure(smoothed, x, y, Settings("linf", eps, steps=4, eot=2, queries=50), Given(claim=claim))
    return found, {check.code: check for check in check_all(found)}["RK127"]


class Wrapped(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("cut", [False, True])
def test_a_false_claim_is_refuted_by_one_vote_of_each_strongest_version(cut):
    found, check = audited(0.9, eps=0.1, cut=cut)
    assert found.no_gradient == cut
    assert check.status == "fail"
    assert check.figures["right"] == sum(share == 1 for share in found.strongest.share)
    assert check.figures["images"] == 60


def test_under_noise_one_vote_of_many_counts():
    found, check = audited(0.5, eps=0.02, noise="uniform", m=1)
    split = [0 < share < 1 for share in found.strongest.share]
    assert sum(split) > 10
    assert len(found.claim_votes) == found.images
    # A vote is right as often as votes are; eight standard errors: one seed in 10^15 fails.
    mean = sum(found.strongest.share) + sum(found.clean.share[row] for row in range(60) if row not in found.attacked)
    assert abs(check.figures["right"] - mean) < 8 * (sum(split) / 4) ** 0.5
    assert 0 < check.figures["right"] < len(found.attacked)


def test_under_noise_the_votes_on_a_claim_are_on_the_strongest_versions():
    found, check = audited(0.9, eps=0.2, noise="uniform", m=3)
    assert found.strongest.accuracy < 0.3 < 0.6 < len(found.attacked) / 60
    assert (check.status, check.figures["right"] < 0.4 * 60) == ("fail", True)


def test_a_claim_of_a_model_that_is_never_right_is_refuted():
    g, x, y = prototypes()
    smoothed = SmoothedClassifier(g.model, registries.noises.create("none"), 1, seed=0)
    checks = check_all(measure(smoothed, x, (y + 1) % 3, SETTINGS, Given(claim=0.5)))
    (check,) = [check for check in checks if check.code == "RK127"]
    assert (check.status, check.figures["right"]) == ("fail", 0)


def test_a_claim_of_a_random_classifier_that_is_never_right_is_refuted_by_a_vote_on_each_image():
    g, x, y = prototypes()
    smoothed = SmoothedClassifier(g.model, registries.noises.create("uniform", scale=0.01), 3, seed=0)
    found = measure(smoothed, x, (y + 1) % 3, SETTINGS, Given(claim=0.5))
    (check,) = [check for check in check_all(found) if check.code == "RK127"]
    assert (found.attacked, check.status, check.figures["right"]) == ((), "fail", 0)
    assert found.passes == found.announced
    without = measure(smoothed, x, (y + 1) % 3, SETTINGS)
    assert (without.claim_votes, found.passes - without.passes) == ((), 3 * len(x))


class SharedCoin(nn.Module):
    """Wrong at all images of a pass with the same probability of 0.2, and right at all of them otherwise."""

    def forward(self, x):
        sign = torch.where(torch.rand(()) < 0.2, -1.0, 1.0) + 1e-3 * x.flatten(1).sum(dim=1)
        return torch.stack([sign, -sign], dim=1)


def test_images_vote_on_a_claim_by_draws_that_they_do_not_share():
    """0.8 is a true claim. Of votes that are all right or all wrong, every fifth audit would refute it."""
    x, y = torch.full((200, 3, 2, 2), 0.5), torch.zeros(200, dtype=torch.int64)
    g = SmoothedClassifier(SharedCoin(), registries.noises.create("none"), 1, seed=0, own_draws=True)
    counts = []
    for seed in range(10):
        share = Attacks(g, x, y, Settings("linf", 0.05, seed=seed)).vote(x).share
        assert set(share) == {0.0, 1.0}
        counts.append(sum(share))
    # Of 2000 trials; each count within four standard deviations, and the sum as well: one base seed in 1400 fails.
    assert all(abs(count - 160) < 4 * 32**0.5 for count in counts)
    assert abs(sum(counts) - 1600) < 4 * 320**0.5


def test_without_a_claim_nothing_is_refuted():
    _, check = audited(None, eps=0.1)
    assert (check.status, check.says) == ("skipped", "no claim was made")


@pytest.mark.parametrize("claim", [-0.01, 1.01, nan, float("inf")])
def test_a_claim_is_a_share(claim):
    with pytest.raises(UsageError, match="claim is the share"):
        Given(claim=claim)


class Coin(nn.Module):
    """Right where the noise of one pixel lies above a threshold, whatever the image; it has a slope."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        place = x.flatten(1)[:, 0] - self.threshold + 0 * x.flatten(1).sum(dim=1)
        sign = torch.where(place > 0, 1.0, -1.0) + 1e-6 * x.flatten(1)[:, 1]
        return torch.stack([sign, -sign], dim=1)


@pytest.mark.parametrize("m", [64, 1])
def test_a_true_claim_of_votes_that_flip_is_not_refuted(m):
    """Every vote is right with probability 0.87 (of one draw: 0.54), attacked or not: so many are counted."""
    chance = {64: 0.5625, 1: 0.54}[m]
    noise = registries.noises.create("uniform", scale=0.2)
    x, y = torch.full((400, 3, 2, 2), 0.5), torch.zeros(400, dtype=torch.int64)
    # One draw is right with this chance; eps moves the image by next to nothing.
    coin = Coin(0.5 + 0.2 * (1 - 2 * chance))
    tiny = Settings("linf", 1e-4, steps=1, eot=1, queries=1, planted=1, seed=1)
    vote = float(binom.sf(m // 2, m, chance) + (binom.pmf(m // 2, m, chance) if m > 1 else 0))
    found = measure(SmoothedClassifier(coin, noise, m, seed=0), x, y, tiny, Given(claim=vote))
    check = {check.code: check for check in check_all(found)}["RK127"]
    assert found.images - len(found.attacked) > (20 if m > 1 else 60)
    assert check.status == "pass"
    # Without the images that were wrong at first it would be.
    assert binom.cdf(sum(found.claim_votes[row] for row in found.attacked), 400, vote) < 1e-3
