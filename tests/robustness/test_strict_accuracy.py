"""What must hold of strict accuracy, on models whose answer to noise is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from linear_models import count_calls, prototypes
from torch import nn

from rushkit.attacks.best import BestByRule
from rushkit.attacks.race import Judge
from rushkit.attacks.scoring import cast_votes_by_rule, count_right, newly_wrong
from rushkit.attacks.victim import Victim
from rushkit.recipe.schema import Attack
from rushkit.results.intervals import mean_interval
from rushkit.robustness.block import Block, attack_block
from rushkit.robustness.protocols import Candidate, Plan, plan_attack
from rushkit.smoothing import SmoothedClassifier
from rushkit.statistics import wilson_interval


def strict_right(g, x, y, seed=0, votes=10, **options):
    section = Attack(type="pgd", **options)
    plan = plan_attack(section, "strict", g.samples, 3, seed)
    record, x_adv = attack_block(g, plan, section, Block(0, x, y, torch.arange(len(x))), seed)
    return record, x_adv


def share(record):
    counts = record.right["majority"]
    return sum(counts) / (10 * len(counts))


@pytest.mark.parametrize(
    "weak, strong",
    [
        ({"steps": 2, "eps": 0.1}, {"steps": 20, "eps": 0.1}),
        ({"restarts": 1, "steps": 3, "eps": 0.1}, {"restarts": 4, "steps": 3, "eps": 0.1}),
        ({"eot": 1, "steps": 5, "eps": 0.1}, {"eot": 30, "steps": 5, "eps": 0.1}),
        ({"steps": 5, "eps": 0.05}, {"steps": 5, "eps": 0.1}),
        ({"steps": 5, "eps": 0.0}, {"steps": 5, "eps": 0.05}),
        ({"effort": 1, "eps": 0.1}, {"effort": 4, "eps": 0.1}),
        ({"eps": 0.1}, {"eot": 40, "eps": 0.1}),
        ({"eps": 0.05}, {"eps": 0.1}),
    ],
    ids=["steps", "restarts", "eot", "eps", "any eps", "effort", "eot of the cascade", "eps of the cascade"],
)
def test_more_never_raises_strict_accuracy_beyond_its_interval(weak, strong):
    g, x, y = prototypes()
    before, after = (share(strict_right(g, x, y, **options)[0]) for options in (weak, strong))
    # Ten votes of 60 images: their mean moves by 0.02 (one standard deviation) at most; a false alarm is below 1e-4.
    assert after <= before + 0.08


# Settings of its own make it PGD; without them it is the cascade.
EITHER = pytest.mark.parametrize("options", [{"steps": 20}, {}], ids=["pgd", "cascade"])


@EITHER
def test_strict_accuracy_is_that_of_the_worst_case_of_a_linear_model(options):
    g, x, y = prototypes(noise=0.001, samples=1)
    linear = g.model[1]
    with torch.no_grad():
        logits = g.model(x)
        gap = logits.gather(1, y[:, None]) - logits
        reach = (linear.weight[y][:, None] - linear.weight[None]).abs()
        # The box [0, 1] does not bind at this radius.
        worst = (gap - 0.1 * reach.sum(2)).scatter(1, y[:, None], math.inf).amin(1)
    record, _ = strict_right(g, x, y, eps=0.1, **options)
    expected = (worst > 0).float()
    clear = (worst.abs() > 0.05).nonzero().flatten().tolist()
    got = torch.tensor(record.right["majority"]) / 10
    assert len(clear) > 40
    assert torch.equal(got[clear], expected[clear])


@EITHER
def test_logits_times_1e5_change_nothing_that_strict_finds(options):
    found = []
    for scale in (1.0, 1e5):
        g, x, y = prototypes(scale=scale)
        record, _ = strict_right(g, x, y, eps=0.1, **options)
        found.append(share(record))
    assert found[1] <= found[0] + 0.05


class Flips(nn.Module):
    """Right by the brightest of two pixels, but the noise flips the answer with probability 0.3."""

    def forward(self, x):
        flip = x[:, 2, 1, 1] - x[:, 2, 1, 1].round() > -0.2
        logits = 9 * torch.stack([x[:, 0, 0, 0], x[:, 1, 0, 0]], 1)
        return torch.where(flip[:, None], logits, logits.flip(1))


class FlipNoise:
    """Whole numbers plus U(-1/2, 1/2) on one pixel, which decides about the flip; nothing elsewhere."""

    std = 1.0

    def sample(self, x, generator=None):
        noise = torch.zeros_like(x)
        noise[:, 2, 1, 1] = torch.rand(len(x), generator=generator) - 0.5 - x.detach()[:, 2, 1, 1]
        return noise


@pytest.mark.parametrize("kind, extra", [("pgd", {}), ("apgd", {"steps": 5}), ("square", {"queries": 20})])
def test_a_classifier_that_flips_three_in_ten_keeps_everything_under_a_vote_of_101(kind, extra):
    y = torch.arange(8) % 2
    x = torch.full((8, 3, 4, 4), 0.5)
    x[torch.arange(8), y, 0, 0] = 0.9
    g = SmoothedClassifier(Flips(), FlipNoise(), 101, seed=0)
    section = Attack(type=kind, eps=0.05, eot=5, **extra)
    plan = plan_attack(section, "strict", 101, 2, 0)
    record, x_adv = attack_block(g, plan, section, Block(0, x, y, torch.arange(len(x))), 0)
    # 101 flips with probability 0.3 reach a majority with probability 2e-5; 160 votes are cast.
    assert record.right["majority"] == record.clean_right["majority"] == [10] * 8
    assert sum(record.contributions.values()) == 0
    assert (x_adv - x).abs().max() <= 0.05 + 1e-6


def versions(g, x, y, seed=0):
    """The best versions by rule, before any attack."""
    search = BestByRule(Victim(g, x, None, None), x, y, seed)
    search.begin()
    return search


def test_settled_images_leave_and_open_ones_stay():
    g, x, y = prototypes(noise=0.05, samples=1)
    wrong = (y + 1) % 3
    labels = torch.where(torch.arange(60) < 30, wrong, y)
    lost = versions(g, x, labels).settled
    assert lost[:30].sum() > 0
    assert not lost[30:].any()
    right = torch.tensor(count_right(g, x, labels, 200, 1, torch.arange(60))["majority"])
    # Settled at m = 1: the label wins a few draws of a hundred at most.
    assert right[lost].max() <= 12


def test_a_version_replaces_the_best_only_where_it_is_better():
    g, x, y = prototypes(samples=16)
    search, rows = versions(g, x, y), torch.arange(60)
    before = int(search.broken.sum())
    # The same draws make the same of the same image, so it is no better.
    assert not search.offer(0, rows, x).any()
    assert (search.chosen == -1).all()
    toward = x - 0.15 * (g.model[1].weight[y]).sign().view_as(x)
    newly_broken = search.offer(1, rows, toward.clamp(0, 1))
    assert int(newly_broken.sum()) + before == int(search.broken.sum())
    assert newly_broken.any()
    assert int((search.chosen == 1).sum()) >= int(newly_broken.sum())


@pytest.mark.parametrize("options", [{"steps": 5}, {}], ids=["pgd", "cascade"])
def test_passes_that_are_counted_are_the_passes_that_are_made(monkeypatch, options):
    """At most 1.15 times: here in passes of the model, the forwards of all draws."""
    g, x, y = prototypes()
    counted = []
    monkeypatch.setattr(SmoothedClassifier, "_count", count_calls(SmoothedClassifier._count, counted))
    section = Attack(type="pgd", eps=0.1, **options)
    plan = plan_attack(section, "strict", 4, 3, 0)
    record, _ = attack_block(g, plan, section, Block(0, x, y, torch.arange(len(x))), 0)
    # The votes that score are extra: 3 x 10 of 4 draws, for 60 images; and one pass tells K.
    beside = 60 * 3 * 10 * 4 + 1
    assert record.image_forwards <= sum(counted) <= record.image_forwards + beside


def test_a_plan_is_plain_data():
    plan = plan_attack(Attack(), "strict", 1, 10, 0)
    assert isinstance(plan, Plan)
    json.dumps([candidate.options for candidate in plan.candidates])


class Timid(nn.Module):
    """Two versions of a grey image: the brightness of one pixel says how often class 1 wins, and how surely.

    At 0.6 class 1 wins seven draws of ten by a hair, and its mean softmax stays below a half: the vote is lost, and
    the mean is not. At 0.4 it wins three of ten beyond doubt and loses the rest by a hair: the mean alone is lost.
    Black is class 0 beyond doubt.
    """

    def forward(self, x):
        draw, kind = x[:, 2, 0, 0], x[:, 0, 0, 0]
        often = torch.where(draw < 0.7, 0.1, -3.0)
        seldom = torch.where(draw < 0.3, 3.0, -0.1)
        gain = torch.where(kind > 0.5, often, torch.where(kind > 0.2, seldom, -9.0))
        return torch.stack([torch.zeros_like(gain), gain], 1)


class OnOnePixel:
    """Adds U(0, 1) to one pixel that is black."""

    std = 1.0

    def sample(self, x, generator=None):
        noise = torch.zeros_like(x)
        noise[:, 2, 0, 0] = torch.rand(len(x), generator=generator)
        return noise


@pytest.mark.parametrize("order", [(0.6, 0.4), (0.4, 0.6)])
def test_each_rule_keeps_the_version_that_is_worst_for_it(order):
    g = SmoothedClassifier(Timid(), OnOnePixel(), 501, seed=0)
    y = torch.zeros(1, dtype=torch.int64)

    def version(brightness):
        x = torch.zeros(1, 3, 2, 2)
        x[:, 0] = brightness
        return x

    search = versions(g, version(0.0), y)
    for number, brightness in enumerate(order):
        search.offer(number, torch.arange(1), version(brightness))
    worst = {rule: kept.x_adv for rule, kept in search.best.items()}
    cast = cast_votes_by_rule(g, worst, 20, 1, torch.arange(1))
    # 501 draws: a vote goes against 7 in 10, a mean against its sign, with probability below 1e-15.
    assert [int((cast[rule] == 0).sum()) for rule in ("majority", "mean")] == [0, 0]
    assert search.best["majority"].x_adv[0, 0, 0, 0] == pytest.approx(0.6)
    assert search.best["mean"].x_adv[0, 0, 0, 0] == pytest.approx(0.4)
    assert search.chosen.tolist() == [order.index(0.6)]


def test_a_block_counts_each_rule_on_the_version_that_is_worst_for_it(monkeypatch):
    """The attack finds one version after the other: see ``Timid``."""
    g = SmoothedClassifier(Timid(), OnOnePixel(), 501, seed=0)
    x, y = torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.int64)
    plan = plan_attack(Attack(type="pgd"), "strict", 501, 2, 0)
    plan = replace(plan, candidates=plan.candidates * 2)
    brightness = iter((0.6, 0.4))
    monkeypatch.setattr(
        Candidate,
        "create",
        lambda *_: lambda model, images, labels: torch.cat([torch.full((1, 1, 2, 2), next(brightness)), x[:, 1:]], 1),
    )
    record, _ = attack_block(g, plan, Attack(type="pgd"), Block(0, x, y, torch.arange(len(x))), 0)
    # As above: no vote goes against its odds.
    assert record.right == {"majority": [0], "mean": [0]}


def test_an_image_stays_while_one_rule_still_has_something_to_lose():
    g = SmoothedClassifier(Timid(), OnOnePixel(), 501, seed=0)
    x = torch.zeros(1, 3, 2, 2)
    x[:, 0] = 0.6
    search = versions(g, x, torch.zeros(1, dtype=torch.int64))
    assert search.broken.all()
    assert search.best["majority"].settled.all()
    assert len(search.open()) == 1


def test_a_search_goes_on_from_its_state():
    g, x, y = prototypes(noise=0.2, samples=16)
    rows, toward = torch.arange(60), (x - 0.1 * g.model[1].weight[y].sign().view_as(x)).clamp(0, 1)
    whole = versions(g, x, y)
    resumed = BestByRule(Victim(g, x, None, None), x, y, 0)
    resumed.restore(whole.state())
    for search in (whole, resumed):
        search.offer(1, rows, toward)
    assert whole.state().keys() == resumed.state().keys()
    assert all(torch.equal(tensor, resumed.state()[name]) for name, tensor in whole.state().items())


@pytest.mark.parametrize(
    "rule, leads, most_open",
    [
        # A lead of 0.2, of which a draw's variance is 0.6 + 0.4 - 0.2²: lost from 16 x 0.96 / 0.04 = 384 draws on.
        ("majority", [1.0] * 60 + [-1.0] * 40, 380),
        # A lead of 0.1; label and rival go apart by 0.1 + 0.1: lost from 16 x 0.04 / 0.01 = 64 draws on.
        ("mean", [0.3, -0.1] * 50, 60),
        # None of the 100 draws differs, which shows no variance below 1 / 100: lost from 16 x 0.01 / 0.01 on.
        ("mean", [0.1] * 100, 15),
        ("majority", [1.0] * 100, 0),
    ],
    ids=["a vote", "a mean", "a mean without variance", "every vote"],
)
def test_an_image_is_lost_where_its_lead_is_four_standard_deviations(rule, leads, most_open):
    drawn = torch.tensor(leads, dtype=torch.float64)[:, None]
    for samples, lost in ((most_open, False), (most_open + 10, True)):
        if samples:
            assert bool(Judge(rule, samples, random=True).lost(drawn)) is lost


def test_of_equal_votes_the_version_that_the_label_convinces_least_is_kept():
    """Every draw of a linear model gives the label; the further towards the boundary, the less surely."""
    g, x, y = prototypes(noise=0.001, samples=16)
    weight = g.model[1].weight
    toward = -(weight[y] - weight[(y + 1) % 3]).sign().view_as(x)
    sure = g.tally(x).votes.gather(1, y[:, None]).squeeze(1) == 16
    for order in ((0.003, 0.002, 0.001), (0.002, 0.001, 0.003), (0.001, 0.003, 0.002)):
        search = versions(g, x, y)
        for number, length in enumerate(order):
            search.offer(number, torch.arange(60), (x + length * toward).clamp(0, 1))
        undecided = sure & ~search.broken
        assert undecided.sum() > 40
        assert (search.chosen[undecided] == order.index(0.003)).all()


def test_votes_on_attacked_images_and_on_their_originals_are_of_independent_draws():
    g, x, y = prototypes(noise=0.6, samples=1)
    record, x_adv = strict_right(g, x, y, eps=0.0, steps=1)
    assert torch.equal(x_adv, x)
    assert record.right["majority"] != record.clean_right["majority"]


def test_an_attack_is_credited_with_what_was_right_before_it():
    assert newly_wrong([0, 0, 3, 0], [10, 0, 10, 1]) == 2
    g, x, y = prototypes(noise=0.001)
    wrong = torch.where(torch.arange(60) < 10, (y + 1) % 3, y)
    section = Attack(type="pgd", eps=0.1)
    plan = plan_attack(section, "paper", 4, 3, 0)
    record, _ = attack_block(g, plan, section, Block(0, x, wrong, torch.arange(len(x))), 0)
    clean, attack = record.contributions.values()
    # Hardly any noise: a vote is always right or never.
    assert clean == record.clean_right["majority"].count(0) == 10
    assert attack > 0
    assert clean + attack == record.right["majority"].count(0)


@pytest.mark.parametrize("images", [100, 200])
def test_a_mean_that_is_a_whole_count_has_the_interval_of_that_count(images):
    # 116 / 200 * 200 is 115.99999999999999.
    for count in range(images + 1):
        assert mean_interval(count / images * images, images) == wilson_interval(count, images)
    assert mean_interval(17.5, images) == (wilson_interval(17, images)[0], wilson_interval(18, images)[1])
