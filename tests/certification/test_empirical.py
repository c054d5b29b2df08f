"""How likely certified images lose all their votes: against every sequence of fair flips written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rushkit.certification.contradictions import FALSE_ALARM, chance_of_losses


def at_least(lost, images, share):
    """P(X >= lost) of so many images that each count with this probability, by writing out all outcomes."""
    outcomes = (sum(outcome) for outcome in itertools.product([0, 1], repeat=images))
    return sum(share**k * (1 - share) ** (images - k) for k in outcomes if k >= lost)


def chance_by_enumeration(lost, compared, images, samples, votes, alpha):
    """A draw of a class with half of the noise is a fair flip; its vote is won with more than half of them."""
    flips = list(itertools.product([0, 1], repeat=samples))
    every = (sum(2 * sum(flip) <= samples for flip in flips) / len(flips)) ** votes
    false = [at_least(k, images, alpha) - at_least(k + 1, images, alpha) for k in range(images + 1)]
    return sum(share * at_least(lost - k, compared, every) for k, share in enumerate(false))


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
@pytest.mark.parametrize(
    ("lost", "compared", "images", "votes"), [(0, 3, 4, 1), (1, 3, 3, 2), (3, 3, 8, 2), (2, 6, 7, 10)]
)
@pytest.mark.parametrize("alpha", [0.0, 0.001, 0.2])
def test_the_chance_is_that_of_fair_flips_and_false_certificates(samples, lost, compared, images, votes, alpha):
    expected = chance_by_enumeration(lost, compared, images, samples, votes, alpha)
    assert chance_of_losses(lost, compared, images, samples, votes, alpha) == pytest.approx(expected, rel=1e-9)


def test_nothing_compared_says_nothing():
    assert chance_of_losses(0, 0, 5, 64, 10, 0.001) == 1.0


def test_false_certificates_are_expected_of_all_images_that_were_asked():
    # Of 10000 images just short of the radius, ten are certified at alpha 0.001, and an attack breaks each of these.
    false = np.random.default_rng(0).binomial(10000, 0.001, size=500)
    alarms = sum(chance_of_losses(lost, lost, 10000, 64, 10, 0.001) < FALSE_ALARM for lost in false)
    # True at the stated rate: 4 or more of 500 by chance with 0.0017.
    assert alarms <= 3


def test_many_losses_among_few_certificates_remain_a_contradiction():
    assert chance_of_losses(40, 50, 10000, 64, 10, 0.001) < 1e-9
