"""How likely certified images lose all their votes: against every sequence of fair flips written out."""

from __future__ import annotations

import itertools

import pytest

from rushkit.stages.empirical import chance_of_losses


def chance_by_enumeration(lost, images, samples, votes, alpha):
    """A draw of a class with half of the noise is a fair flip; its vote is won with more than half of them."""
    flips = list(itertools.product([0, 1], repeat=samples))
    one = sum(2 * sum(flip) <= samples for flip in flips) / len(flips)
    every = alpha + one**votes
    outcomes = itertools.product([False, True], repeat=images)
    return sum(
        every ** sum(outcome) * (1 - every) ** (images - sum(outcome)) for outcome in outcomes if sum(outcome) >= lost
    )


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
@pytest.mark.parametrize(("lost", "images", "votes"), [(0, 3, 1), (1, 3, 2), (3, 3, 2), (2, 6, 10)])
def test_the_chance_is_that_of_fair_flips(samples, lost, images, votes):
    expected = chance_by_enumeration(lost, images, samples, votes, 0.001)
    assert chance_of_losses(lost, images, samples, votes, 0.001) == pytest.approx(expected, rel=1e-9)


def test_nothing_compared_says_nothing():
    assert chance_of_losses(0, 0, 64, 10, 0.001) == 1.0
