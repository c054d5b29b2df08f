"""What the last doubling of a search changed: the mean of the falls, its interval and its sign."""

from __future__ import annotations

import math

import pytest

from rushkit.results.attacks import AttackOutcomes
from rushkit.results.convergence import convergence_of
from rushkit.results.intervals import attack_outcomes, mean_interval
from rushkit.results.logs import AttackBlock
from rushkit.statistics import wilson_interval


def outcomes(images=4, **facts):
    columns = {name: [0] * images for name in ("labels", "chosen")}
    votes = {"majority": [1] * images}
    places = list(range(images))
    return AttackOutcomes(images=places, indices=places, right=votes, clean_right=votes, **columns, **facts)


def test_the_estimate_is_the_mean_fall_whether_or_not_a_vote_has_turned():
    """Four images, none newly broken, whose votes lost 0.25, 0.5, 0.25 and nothing: the accuracy fell by 0.25."""
    falls = {"majority": [0.25, 0.5, 0.25, 0.0], "mean": [0.0, 0.0, 0.125, 0.0]}
    change = convergence_of(outcomes(last_fall=falls, first_broken={"majority": [-1, -1, 0, -1]}))
    assert change["majority"].estimate == -0.25
    low, high = wilson_interval(1, 4)
    assert (change["majority"].low, change["majority"].high) == (-high, -low)
    low, high = mean_interval(0.125, 4)
    assert change["mean"].model_dump() == {"estimate": -0.03125, "low": -high, "high": 0.0}


def test_a_vote_that_turned_counts_no_more_than_its_probability_fell():
    """A vote that turned does not count as such: from a probability of 0.51 to 0.49 is a fall of 0.02."""
    facts = {"last_fall": {"majority": [0.02, 0.0, 0.0, 0.0]}, "first_broken": {"majority": [3, 3, -1, -1]}}
    assert convergence_of(outcomes(**facts))["majority"].estimate == -0.005


def test_no_fall_is_zero_without_a_sign():
    change = convergence_of(outcomes(last_fall={"majority": [0.0] * 4}))["majority"]
    assert (change.estimate, change.high) == (0.0, 0.0)
    assert [math.copysign(1, figure) for figure in (change.estimate, change.high)] == [1, 1]
    assert change.low == -wilson_interval(0, 4)[1]


def test_without_two_doublings_nothing_is_known():
    assert convergence_of(outcomes(first_broken={"majority": [1, -1, -1, 0]})) == {}


@pytest.mark.parametrize("falls", [[0.1, 0.1, 0.1, 1.1], [-0.1, 0, 0, 0], [0.1] * 3, [math.nan] * 4])
def test_falls_are_shares_of_every_image(falls):
    with pytest.raises(ValueError, match=r"last_fall|lists of one value"):
        outcomes(last_fall={"majority": falls})


def test_the_falls_of_all_blocks_follow_one_another():
    blocks = [
        AttackBlock(
            images=images,
            labels=[0] * len(images),
            chosen=[0] * len(images),
            right={"majority": [1] * len(images)},
            clean_right={"majority": [1] * len(images)},
            contributions={},
            last_fall={"majority": falls},
            notes=[],
            image_forwards=1,
            image_backwards=1,
            seconds=1.0,
        )
        for images, falls in (([0, 1], [0.5, 0.0]), ([2], [0.25]))
    ]
    assert attack_outcomes(blocks, [5, 7, 9]).last_fall == {"majority": [0.5, 0.0, 0.25]}
