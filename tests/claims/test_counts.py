"""The exact tests of claimed and fresh votes, against sums over every possible outcome, and where passes are few."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from claimed import IMAGES
from torch import nn

from rushkit import registries
from rushkit.claims import scoring
from rushkit.claims.artifact import write_artifact
from rushkit.claims.counts import image_p_values, total_p_value
from rushkit.claims.scoring import Judge
from rushkit.claims.targets import verify_file
from rushkit.results.verification import VerifiedAttack
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine


def by_enumeration(claimed: Sequence[int], votes: int, fresh: Sequence[int], fresh_votes: int) -> float:
    """The p-value of the total, over every way in which each image's right votes fall into the two samples."""
    ways: dict[int, float] = {}
    sums = [one + other for one, other in zip(claimed, fresh, strict=True)]
    for split in itertools.product(*(range(votes + 1) for _ in sums)):
        weight = math.prod(
            math.comb(votes, here) * math.comb(fresh_votes, both - here) if both >= here else 0
            for here, both in zip(split, sums, strict=True)
        )
        ways[sum(split)] = ways.get(sum(split), 0.0) + weight
    total, at = sum(ways.values()), sum(claimed)
    low = sum(weight for right, weight in ways.items() if right <= at)
    high = sum(weight for right, weight in ways.items() if right >= at)
    return min(1.0, 2 * min(low, high) / total)


@pytest.mark.parametrize(
    ("claimed", "votes", "fresh", "fresh_votes"),
    [([3, 0, 2], 3, [1, 1, 0], 2), ([4], 4, [0], 4), ([1, 1, 1, 1], 1, [0, 2, 0, 1], 2), ([0, 2], 5, [3, 3], 3)],
)
def test_the_total_is_that_over_every_outcome(claimed, votes, fresh, fresh_votes):
    expected = by_enumeration(claimed, votes, fresh, fresh_votes)
    assert total_p_value(claimed, votes, fresh, fresh_votes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("votes", "fresh_votes"), [(10, 10), (3, 5), (1, 4)])
def test_an_images_test_is_that_over_every_outcome(votes, fresh_votes):
    pairs = list(itertools.product(range(votes + 1), range(fresh_votes + 1)))
    found = image_p_values([one for one, _ in pairs], votes, [other for _, other in pairs], fresh_votes)
    for (claimed, fresh), p in zip(pairs, found, strict=True):
        assert p == pytest.approx(by_enumeration([claimed], votes, [fresh], fresh_votes), rel=1e-12)


def test_the_largest_difference_of_ten_and_ten_votes():
    """All right against none right: twice one way of choose(20, 10)."""
    assert image_p_values([10], 10, [0], 10)[0] == pytest.approx(2 / math.comb(20, 10), rel=1e-12)


def verified(artifact, folder) -> VerifiedAttack:
    write_artifact(folder / "a.rushkit", artifact)
    (attack,) = verify_file(folder / "a.rushkit", seed=7).attacks
    return attack


def check(attack: VerifiedAttack, code: str):
    return next(one for one in attack.checks if one.code == code)


def test_where_passes_are_few_what_contradicts_the_claim_is_voted_on_again(random, tmp_path, monkeypatch):
    """One vote of two draws on each of 40 images; one flipped outcome is told from chance by ten more."""
    monkeypatch.setattr(scoring, "VOTES", 10)
    few = IMAGES * 2
    for name in ("PASSES", "CLEAN_PASSES"):
        monkeypatch.setattr(f"rushkit.claims.verify.{name}", few)
    monkeypatch.setattr(scoring, "_AGAIN", 2.0)
    honest = verified(random.artifact, tmp_path)
    said = re.search(r"; (\d+) of (\d+) that contradict the claim got 10 more", check(honest, "RV09").says)
    assert 0 < int(said[1]) <= min(8, int(said[2]))
    assert honest.verdict == "consistent"
    assert honest.here.votes == 1
    right, votes = random.artifact.right.clone(), random.artifact.manifest.attack.votes
    surest = int((right * 2 - votes).abs().argmax())
    right[surest] = votes - right[surest]
    forged = check(verified(replace(random.artifact, right=right), tmp_path), "RV09")
    assert (forged.status, "1 of 40 outcomes" in forged.says) == ("fail", True), forged


def test_where_a_vote_takes_many_passes_a_sample_is_voted_on(random, tmp_path, monkeypatch):
    monkeypatch.setattr("rushkit.claims.verify.PASSES", 60)
    monkeypatch.setattr("rushkit.claims.verify.CLEAN_PASSES", 40)
    attack = verified(random.artifact, tmp_path)
    assert attack.verdict == "consistent"
    attacked, clean = check(attack, "RV09"), check(attack, "RV10")
    assert (attacked.figures["images"], clean.figures["images"]) == (30, 20)
    assert "one fresh vote on each of 30 of 40 images" in attacked.says
    assert check(attack, "RV12").figures["images"] <= 16


def test_the_smaller_sample_is_part_of_the_larger_one():
    g = SmoothedClassifier(nn.Flatten(), registries.noises.create("uniform", scale=0.5), 4)
    judge = Judge(g, Machine(torch.device("cpu"), "float32"), 3, 10)
    large, small = judge.places(100, 200), judge.places(100, 120)
    assert (len(large), len(small)) == (50, 30)
    assert set(small.tolist()) < set(large.tolist())
    assert torch.equal(large, large.sort().values)
    assert torch.equal(judge.places(100, 400), torch.arange(100))


class OverTheBatch(nn.Module):
    """A classifier whose logits are those of an image less the batch's mean: what stands beside an image counts."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.network(x)
        return logits - logits.mean(dim=0)


class Rejects(nn.Module):
    """A classifier with one output more, which wins where the others are close."""

    def __init__(self, network: nn.Module, at: float) -> None:
        super().__init__()
        self.network, self.at = network, at

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.network(x)
        top = logits.topk(2, dim=1).values
        close = top[:, 0] - top[:, 1] < self.at
        more = torch.where(close, top[:, 0] + 1, top[:, 1] - 1)
        return torch.cat([logits, more[:, None]], dim=1)


def with_network(monkeypatch, wrap) -> None:
    """The judge asks another network than the artifact's."""
    made = Judge.of.__func__

    def of(cls, *args):
        judge = made(cls, *args)
        wrapped = wrap(judge.g.model)
        return replace(judge, g=SmoothedClassifier(wrapped, judge.g.noise, judge.g.samples))

    monkeypatch.setattr(Judge, "of", classmethod(of))


def test_a_model_that_minds_its_batch_is_found(fixed, tmp_path, monkeypatch):
    with_network(monkeypatch, OverTheBatch)
    found = check(verified(fixed.artifact, tmp_path), "RV14")
    assert (found.status, found.name) == ("fail", "batch-dependent"), found


def test_rejections_count_as_wrong(fixed, tmp_path, monkeypatch):
    """Where the model rejects what it cannot tell, an attacked image that is rejected is no right one."""
    plain = verified(fixed.artifact, tmp_path)
    with_network(monkeypatch, lambda network: Rejects(network, 1e9))
    attack = verified(fixed.artifact, tmp_path)
    found = check(attack, "RV15")
    assert (found.status, found.figures["rejected"]) == ("warn", IMAGES)
    assert plain.here.accuracy > 0
    assert attack.here.accuracy == 0
    assert check(attack, "RV10").status == "fail"
