"""Checks that compare two attacks tell a weaker attack from the chance of the votes."""

from __future__ import annotations

import numpy as np
import pytest

from rushkit.auditing.checks.verdict import smallest_drop, worse_by
from rushkit.auditing.measure import Point

VOTES = 10


def point(share):
    return Point("attack", 0.0, tuple(float(each) for each in share))


@pytest.mark.parametrize("images", [20, 64])
def test_an_attack_rarely_warns_about_its_own_repetition(images):
    """At most one pair in 20 warns or fails; if one in 14 did, 2000 pairs would pass with probability below 1e-3."""
    source = np.random.default_rng(0)
    chance = source.beta(0.5, 0.5, (2000, 1, images))
    shares = source.binomial(VOTES, np.repeat(chance, 2, axis=1)) / VOTES
    said = sum(worse_by(point(first), point(second)) != "pass" for first, second in shares)
    assert said <= 100


@pytest.mark.parametrize("images", [4, 20, 64, 500])
def test_the_smallest_drop_that_warns_is_the_smallest(images):
    """Whole images fall: below the named drop nothing is said, from it on something is."""
    higher = point(np.ones(images))
    statuses = {}
    for fallen in range(images + 1):
        lower = point(np.arange(images) >= fallen)
        statuses[fallen / images] = worse_by(lower, higher)
    named = smallest_drop(images)
    assert all(status == "pass" for drop, status in statuses.items() if drop < named)
    assert all(status != "pass" for drop, status in statuses.items() if drop > named)


def test_images_that_go_both_ways_are_no_drop():
    """5 fall and 3 rise of 64: more than 3 points, less than two standard errors."""
    higher = [1.0] * 32 + [0.0] * 32
    lower = list(higher)
    lower[:5], lower[32:35] = [0.0] * 5, [1.0] * 3
    assert worse_by(point(lower), point(higher)) == "pass"
    # The same net drop, every image a little: that is no chance.
    steady = [share - 2 / 64 if share else share for share in higher]
    assert worse_by(point([max(share - 0.04, 0.0) for share in [1.0] * 64]), point([1.0] * 64)) == "warn"
    assert worse_by(point(steady), point(higher)) == "pass"


def test_a_single_image_is_no_news():
    assert worse_by(point([0.0]), point([1.0])) == "pass"
