"""Attacked images are scored by votes of fresh noise, and the worst version of each is kept."""

from __future__ import annotations

import pytest
import torch
from linear_models import prototypes

from rushkit import registries
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.plan import Settings
from rushkit.auditing.scoring import WorstVersions, score, score_votes
from rushkit.smoothing import SmoothedClassifier
from rushkit.units import noisy_unit


def test_a_score_is_that_of_all_its_draws():
    g, x, y = prototypes(noise=0.6, samples=3)
    scores = score(g, x, y, 5, seed=1, label="attack")
    # 15 draws of each image come from one unit.
    noisy = torch.stack([noisy_unit(g.noise, x[image], 15, 1, "audit score attack", image, 0) for image in range(60)])
    with torch.no_grad():
        logits = g.model(noisy.flatten(0, 1)).view(60, 5, 3, 3).permute(1, 2, 0, 3)
    for image, label in enumerate(y.tolist()):
        answers = logits[:, :, image].argmax(dim=2)
        counts = [int((answers == k).sum()) for k in range(3)]
        votes = [[int((vote == k).sum()) for k in range(3)] for vote in answers]
        assert scores.share[image] == sum(vote.index(max(vote)) == label for vote in votes) / 5
        lead = max(count for k, count in enumerate(counts) if k != label) - counts[label]
        doubt = 1 - float(logits[:, :, image].softmax(dim=2)[..., label].double().mean())
        assert scores.lead[image] == pytest.approx((lead + doubt) / 15, abs=2e-6)


def test_with_one_draw_a_vote_the_label_alone_counts():
    g, x, y = prototypes(noise=0.6, samples=1)
    scores = score(g, x, y, 64, seed=0, label="attack")
    assert torch.tensor(scores.lead) == pytest.approx(-torch.tensor(scores.share), abs=1 / 64)


@pytest.mark.parametrize("m, votes", [(1, 64), (10, 6), (64, 1), (100, 1)])
def test_about_64_draws_score_an_attack_and_one_vote_where_all_are_the_same(m, votes):
    assert score_votes(m, deterministic=False) == votes
    assert score_votes(m, deterministic=True) == 1


def test_without_noise_a_vote_is_one_pass():
    g, x, y = prototypes(samples=64)
    still = SmoothedClassifier(g.model, registries.noises.create("none"), 64, seed=0)
    assert set(score(still, x, y, 1, seed=0, label="clean").share) <= {0.0, 1.0}
    assert still.image_forwards == len(x)


def test_the_version_with_the_largest_lead_is_kept_and_of_equals_the_first():
    x = torch.zeros(3, 1, 2, 2)
    worst = WorstVersions(x)
    worst.offer(0, x + 0.1, [-0.5, 0.2, 0.0])
    worst.offer(1, x + 0.2, [-0.6, 0.2, 0.1])
    worst.offer(2, x + 0.3, [-0.5, 0.3, 0.1])
    assert worst.number.tolist() == [0, 2, 1]
    assert worst.lead.tolist() == [-0.5, 0.3, 0.1]
    assert worst.x_adv[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.3, 0.2])


def test_votes_on_an_image_do_not_depend_on_which_others_are_attacked():
    g, x, y = prototypes(noise=0.6, samples=1)
    settings, rows = Settings("linf", 0.1), torch.tensor([3, 17, 40])
    every, some = Attacks(g, x, y, settings), Attacks(g, x[rows], y[rows], settings, rows=rows)
    share = every.opinion(x).share
    assert len(set(share)) > 10
    assert some.opinion(x[rows]).share == [share[row] for row in rows.tolist()]
    places = torch.tensor([1, 2])
    votes = every.judge(x, torch.arange(len(x))).share
    assert some.judge(x[rows[places]], places).share == [votes[17], votes[40]]
