"""The accuracy under several balls together, image by image: what is left when an attacker may choose the ball.

Each attack gave T votes of fresh noise on each image. Votes of two attacks have different noise, so they make no pairs:
the share of images that are right "in vote t of both" would be a product of chances, and lower than what either attack
leaves of any image. What counts is the attack that is worst for an image. The same votes may not choose it and score
it, or three attacks of equal strength would look stronger than one, by chance alone. So half of the votes of each
attack choose the worst one, and the other half score it. All halvings are equally likely, and the mean over all of them
is computed exactly. Where a single attack leaves less than such a choice by few votes does, that attack is the choice
for all images. For a model without noise this is the share of images that are right under every attack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Norm, Rule
from rushkit.results.base import SLACK, Count, Number, Record, Share, Size


class UnionFigures(Record):
    """The accuracy under several balls together, by one rule of voting.

    Attributes:
        accuracy: Mean over images of the share of right votes under the attack that is worst for the image, and at most
            what each attack leaves.
        low: Lower end of its 95% Wilson interval over the images.
        high: Upper end of the interval.
        clean_accuracy: The same images without an attack.
        any_failure_accuracy: Share of images that are right in all votes under every attack.
    """

    accuracy: Share
    low: Share
    high: Share
    clean_accuracy: Share
    any_failure_accuracy: Share

    @model_validator(mode="after")
    def _lies_within(self) -> Self:
        if not self.low - SLACK <= self.accuracy <= self.high + SLACK:
            raise ValueError("the share lies outside its interval")
        return self


class Ball(Record):
    """A ball around each image.

    Attributes:
        norm: Its norm.
        eps: Its radius, pixel units.
    """

    norm: Norm
    eps: Size


class UnionRow(Record):
    """What the attacks of one run in balls of different norms leave together.

    Attributes:
        rows: Places of the attacks in the results' ``attacks``. They have one protocol, m, number of votes, and images.
        balls: The largest ball of each norm.
        split: Data set and split.
        protocol: The protocol of the attacks.
        version: Version of the protocol.
        effort: How much of the protocol's budget was spent: 1, 2 or 4 times.
        samples: m, the number of draws in each vote.
        votes: T, the number of votes on each image and attack.
        images: Number of images.
        rules: Rule -> the accuracy under it.
    """

    rows: list[Count] = Field(min_length=2)
    balls: list[Ball] = Field(min_length=2)
    split: str
    protocol: str
    version: Number
    effort: Number
    samples: Number
    votes: Number
    images: Number
    rules: dict[Rule, UnionFigures]

    def ball_words(self) -> str:
        """Return ``"l-inf 8/255 or l2 0.5"``."""
        return " or ".join(ball_words(ball.norm, ball.eps) for ball in self.balls)


def union_shares(right: Sequence[Sequence[int]], votes: int) -> list[float]:
    """Return the share of right votes that attacks leave of each image together.

    Args:
        right: (J, N) number of right votes of each of J attacks on each image.
        votes: T.

    Returns:
        (N,) shares in [0, 1]: those of ``worst_shares``, or of the one attack that leaves less. Their mean is at most
        what each attack leaves.
    """
    alone = ([count / votes for count in of_attack] for of_attack in right)
    return min((worst_shares(right, votes), *alone), key=sum)


def worst_shares(right: Sequence[Sequence[int]], votes: int) -> list[float]:
    """Return the share of right votes under the attack that is worst for each image.

    The worst attack is chosen by half of its votes, ⌊T/2⌋ of them, and scored by the others; attacks that are equal
    in the first half share the score. The mean over all halvings is exact. A single vote must choose and score alike.

    Args:
        right: (J, N) number of right votes of each of J attacks on each image.
        votes: T.

    Returns:
        (N,) shares in [0, 1].
    """
    images: list[tuple[int, ...]] = list(zip(*right, strict=True))
    shares = {counts: _mean_over_halvings(counts, votes) for counts in set(images)}
    return [shares[counts] for counts in images]


def _mean_over_halvings(counts: tuple[int, ...], votes: int) -> float:
    """Return the mean score of the worst of J attacks on one image over all halvings of its votes: (J,) counts of T."""
    if votes == 1:
        return float(min(counts))
    half = votes // 2
    first_half = [[_in_half(a, count, votes) for a in range(half + 1)] for count in counts]
    total = 0.0
    for own, count in enumerate(counts):
        others = first_half[:own] + first_half[own + 1 :]
        for a in range(min(count, half) + 1):
            # The probability that no other attack has fewer than a, and that so many have a too.
            ties = [1.0]
            for other in others:
                equal, more = other[a], sum(other[a + 1 :])
                ties = [more * none + equal * one for none, one in zip([*ties, 0.0], [0.0, *ties], strict=True)]
            won = sum(chance / (number + 1) for number, chance in enumerate(ties))
            total += first_half[own][a] * won * (count - a) / (votes - half)
    return min(1.0, total)


def _in_half(right: int, count: int, votes: int) -> float:
    """Return the probability that a random half of the votes holds so many of the ``count`` right ones."""
    half = votes // 2
    return math.comb(count, right) * math.comb(votes - count, half - right) / math.comb(votes, half)


def unfailing(right: Sequence[Sequence[int]], votes: int) -> float:
    """Return the share of images that are right in all T votes under each of J attacks, given counts (J, N)."""
    images: list[tuple[int, ...]] = list(zip(*right, strict=True))
    return sum(min(counts) == votes for counts in images) / len(images)
