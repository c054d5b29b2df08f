"""What several attacks leave together: by image, from votes of different noise, without a bias from choosing."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest

from rushkit.results.attacks import FailedAttack
from rushkit.results.intervals import mean_interval, unions_of
from rushkit.results.unions import unfailing, union_shares, worst_shares


def by_every_halving(counts: tuple[int, ...], votes: int) -> float:
    """The definition, written out: every way to halve the votes of each attack."""
    cast = [[1] * count + [0] * (votes - count) for count in counts]
    halves = list(combinations(range(votes), votes // 2))
    scores = []
    for chosen in product(halves, repeat=len(counts)):
        first = [sum(one[place] for place in half) for one, half in zip(cast, chosen, strict=True)]
        second = [(sum(one) - seen) / (votes - votes // 2) for one, seen in zip(cast, first, strict=True)]
        worst = [score for seen, score in zip(first, second, strict=True) if seen == min(first)]
        scores.append(sum(worst) / len(worst))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("votes, attacks", [(2, 2), (4, 2), (5, 2), (4, 3), (6, 2)])
def test_the_score_is_the_mean_over_all_halvings(votes, attacks):
    for counts in product(range(votes + 1), repeat=attacks):
        (share,) = worst_shares([[count] for count in counts], votes)
        assert share == pytest.approx(by_every_halving(counts, votes), abs=1e-12)


def test_without_noise_an_image_is_right_where_it_holds_against_each_attack():
    right = [[10, 10, 0, 0], [10, 0, 10, 0]]
    assert worst_shares(right, 10) == [1.0, 0.0, 0.0, 0.0]
    assert unfailing(right, 10) == 0.25


@pytest.mark.parametrize("p", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("attacks", [2, 3])
def test_attacks_of_equal_strength_are_together_as_strong_as_one(p, attacks):
    """Chance alone makes no attack the worst: the mean of the share is p, and that of the least count is lower."""
    votes = 4
    chances = [math.comb(votes, count) * p**count * (1 - p) ** (votes - count) for count in range(votes + 1)]
    mean, least = 0.0, 0.0
    for counts in product(range(votes + 1), repeat=attacks):
        chance = math.prod(chances[count] for count in counts)
        mean += chance * worst_shares([[count] for count in counts], votes)[0]
        least += chance * min(counts) / votes
    assert mean == pytest.approx(p, abs=1e-12)
    assert least < p - 0.05


def test_an_attack_that_is_clearly_worse_scores_alone():
    """With four of ten right a half has four at most, and of the other attack always five."""
    (share,) = worst_shares([[10], [4]], 10)
    assert share == pytest.approx(0.4, abs=1e-12)


def test_a_single_vote_chooses_and_scores():
    assert worst_shares([[1, 1, 0], [1, 0, 1]], 1) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("seed", range(20))
def test_no_attack_alone_leaves_less_than_all_together(seed):
    """Few images of equal attacks: here the choice by image is often the worse one, by chance."""
    right = np.random.default_rng(seed).binomial(10, 0.5, size=(3, 6))
    together = sum(union_shares(right.tolist(), 10))
    assert together <= right.sum(axis=1).min() / 10 + 1e-12
    assert together >= right.min(axis=0).sum() / 10 - 1e-12


def test_the_choice_by_image_is_often_the_worse_one_there():
    draws = [np.random.default_rng(seed).binomial(10, 0.5, size=(3, 6)) for seed in range(20)]
    assert any(sum(worst_shares(right.tolist(), 10)) > right.sum(axis=1).min() / 10 for right in draws)


class TestRows:
    def test_balls_of_two_norms_are_joined_with_the_interval_over_images(self, attack_row):
        rows = [attack_row("linf", 8 / 255, [10, 10, 0, 6]), attack_row("l2", 0.5, [10, 0, 10, 6])]
        (union,) = unions_of(rows, [])
        figures = union.rules["majority"]
        balls = [(ball.norm, ball.eps) for ball in union.balls]
        assert (union.rows, balls) == ([0, 1], [("linf", 8 / 255), ("l2", 0.5)])
        total = sum(union_shares([[10, 10, 0, 6], [10, 0, 10, 6]], 10))
        assert figures.accuracy == total / 4
        assert (figures.low, figures.high) == mean_interval(total, 4)
        assert figures.any_failure_accuracy == 0.25
        assert union.ball_words() == "l-inf 8/255 or l2 0.5"

    def test_two_radii_of_one_norm_are_no_union(self, attack_row):
        assert unions_of([attack_row("linf", 4 / 255, [9]), attack_row("linf", 8 / 255, [3])], []) == []

    def test_of_each_norm_the_largest_ball_is_named_and_every_attack_takes_part(self, attack_row):
        rows = [attack_row("linf", 4 / 255, [0]), attack_row("linf", 8 / 255, [10]), attack_row("l2", 0.5, [10])]
        (union,) = unions_of(rows, [])
        assert [ball.eps for ball in union.balls] == [8 / 255, 0.5]
        assert union.rules["majority"].accuracy == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"protocol": "weaker"},
            {"version": 1},
            {"effort": 2},
            {"samples": 4},
            {"split": "digits/train"},
            {"indices": [7]},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_rows_that_differ_in_more_than_the_ball_are_not_joined(self, attack_row, change):
        assert unions_of([attack_row("linf", 0.1, [5]), attack_row("l2", 0.5, [5], **change)], []) == []

    def test_a_failed_attack_of_the_same_protocol_and_m_leaves_no_union(self, attack_row):
        rows = [attack_row("linf", 0.1, [5]), attack_row("l2", 0.5, [5])]
        failed = {"attack": "pgd", "norm": "l1", "eps": 12.0, "message": "it broke", "hint": None}
        assert unions_of(rows, [FailedAttack(**failed, protocol="strict", samples=1)]) == []
        assert len(unions_of(rows, [FailedAttack(**failed, protocol="strict", samples=64)])) == 1
        assert len(unions_of(rows, [FailedAttack(**failed, protocol="paper", samples=1)])) == 1
