"""From per-image vote counts to robust accuracy: mean, flip rate, any-failure accuracy, interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

from rushkit import statistics
from rushkit.recipe.schema import Norm, Rule
from rushkit.results.attacks import AttackOutcomes, AttackRow, FailedAttack, Rescored, RuleFigures, VoteOutcomes
from rushkit.results.logs import AttackBlock, TransferBlock
from rushkit.results.taken import joined
from rushkit.results.unions import Ball, UnionFigures, UnionRow, unfailing, union_shares

# Sums of vote shares are rounded to this: coarser than their rounding error, finer than any share.
_DIGITS = 9


def attack_outcomes(blocks: Sequence[AttackBlock], indices: Sequence[int]) -> AttackOutcomes:
    """Return the outcomes of all images in the blocks of an attack.

    Args:
        blocks: The lines of the log, in order.
        indices: (N,) indices of the attacked images in the data set's split, in the order of the blocks.
    """
    return AttackOutcomes(
        **vars(vote_outcomes(blocks)),
        labels=[label for block in blocks for label in block.labels],
        chosen=[candidate for block in blocks for candidate in block.chosen],
        indices=list(indices),
        first_broken={
            rule: [number for block in blocks for number in block.first_broken[rule]] for rule in blocks[0].first_broken
        },
        queries=[number for block in blocks for number in block.queries],
        last_fall={rule: [fall for block in blocks for fall in block.last_fall[rule]] for rule in blocks[0].last_fall},
    )


def vote_outcomes(blocks: Sequence[AttackBlock] | Sequence[TransferBlock]) -> VoteOutcomes:
    """Return the votes on every image of some blocks, by rule."""
    rules = list(blocks[0].right)
    return VoteOutcomes(
        images=[image for block in blocks for image in block.images],
        right={rule: [count for block in blocks for count in block.right[rule]] for rule in rules},
        clean_right={rule: [count for block in blocks for count in block.clean_right[rule]] for rule in rules},
        taken_for=joined([block.taken_for for block in blocks]),
        clean_taken_for=joined([block.clean_taken_for for block in blocks]),
    )


def figures_by_rule(outcomes: AttackOutcomes | VoteOutcomes, votes: int) -> dict[Rule, RuleFigures]:
    """Return the robust accuracy under each rule, given the outcomes of ``votes`` votes on each image."""
    return {rule: _figures(right, outcomes.clean_right[rule], votes) for rule, right in outcomes.right.items()}


def rescored_of(blocks: Sequence[AttackBlock], votes: int) -> list[Rescored]:
    """Return the figures of the votes of other numbers of draws on all images in the blocks of an attack."""
    rescored = []
    for number, first in enumerate(blocks[0].rescored):
        of_blocks = [
            TransferBlock(
                images=block.images,
                right=votes_at.right,
                clean_right=votes_at.clean_right,
                taken_for=votes_at.taken_for,
                clean_taken_for=votes_at.clean_taken_for,
            )
            for block in blocks
            for votes_at in (block.rescored[number],)
        ]
        outcomes = vote_outcomes(of_blocks)
        rescored.append(Rescored(samples=first.samples, rules=figures_by_rule(outcomes, votes), outcomes=outcomes))
    return rescored


def contributions_of(blocks: Sequence[AttackBlock]) -> dict[str, int]:
    """Return attack -> number of images in all blocks that it was the first to break."""
    total: dict[str, int] = {}
    for block in blocks:
        for name, count in block.contributions.items():
            total[name] = total.get(name, 0) + count
    return total


def unions_of(rows: Sequence[AttackRow], failed: Sequence[FailedAttack]) -> list[UnionRow]:
    """Return what attacks in balls of different norms leave together.

    Joined are all rows of one protocol, version, effort, m, number of votes and images, if they have two norms or more.
    Where an attack of the same protocol and m failed there is no union: its ball would be missing from it.

    Args:
        rows: The untargeted attacks of one run.
        failed: Its attacks that raised an error.
    """
    alike: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        about = row.split, row.protocol, row.version, row.effort, row.samples, row.votes
        alike.setdefault((*about, *row.outcomes.indices), []).append(place)
    lost = {(row.protocol, row.samples) for row in failed}
    joined = ((places, [rows[place] for place in places]) for places in alike.values())
    return [
        _union(places, members)
        for places, members in joined
        if len({row.norm for row in members}) > 1 and (members[0].protocol, members[0].samples) not in lost
    ]


def _union(places: list[int], rows: Sequence[AttackRow]) -> UnionRow:
    first, rules = rows[0], {}
    for rule in first.rules:
        right = [row.outcomes.right[rule] for row in rows]
        total = sum(union_shares(right, first.votes))
        low, high = mean_interval(total, first.images)
        rules[rule] = UnionFigures(
            accuracy=total / first.images,
            low=low,
            high=high,
            clean_accuracy=first.rules[rule].clean_accuracy,
            any_failure_accuracy=unfailing(right, first.votes),
        )
    radii: dict[Norm, float] = {}
    for row in rows:
        radii[row.norm] = max(row.eps, radii.get(row.norm, 0.0))
    return UnionRow(
        rows=places,
        balls=[Ball(norm=norm, eps=eps) for norm, eps in radii.items()],
        split=first.split,
        protocol=first.protocol,
        version=first.version,
        effort=first.effort,
        samples=first.samples,
        votes=first.votes,
        images=first.images,
        rules=rules,
    )


def mean_interval(total: float, images: int) -> tuple[float, float]:
    """Return the 95% Wilson interval for a mean of outcomes in [0, 1], spanning those of the whole counts around it.

    Votes on one image are not independent trials, so the number of trials is the number of images.
    """
    # A sum of shares can be a whole number only up to rounding error.
    total = round(total, _DIGITS)
    low, _ = statistics.wilson_interval(math.floor(total), images)
    _, high = statistics.wilson_interval(math.ceil(total), images)
    return float(low), float(high)


def _figures(right: Sequence[int], clean: Sequence[int], votes: int) -> RuleFigures:
    share = np.asarray(right, dtype=np.float64) / votes
    low, high = mean_interval(float(share.sum()), len(share))
    return RuleFigures(
        accuracy=float(share.mean()),
        low=low,
        high=high,
        clean_accuracy=float(np.mean(clean)) / votes,
        any_failure_accuracy=float(np.mean(share == 1)),
        flip_rate=float(np.minimum(share, 1 - share).mean()),
    )


class AccuracyFields(TypedDict):
    """The fields of every record of an accuracy; see ``evaluation.Accuracy``."""

    correct: int
    images: int
    accuracy: float
    low: float
    high: float
    confidence: float


def accuracy_row(right: ArrayLike, confidence: float = 0.95) -> AccuracyFields:
    """Return the accuracy of (N,) bool outcomes with its Wilson interval."""
    flags = np.asarray(right, dtype=bool)
    correct, total = int(flags.sum()), len(flags)
    low, high = statistics.wilson_interval(correct, total, confidence)
    return {
        "correct": correct,
        "images": total,
        "accuracy": correct / total,
        "low": float(low),
        "high": float(high),
        "confidence": confidence,
    }
