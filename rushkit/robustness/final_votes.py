"""The votes that score images: how many are right, and what most of them take each image for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rushkit.attacks.scoring import RULES, count_for, most_voted
from rushkit.recipe.schema import Rule
from rushkit.results.logs import FurtherVotes
from rushkit.results.taken import TakenByRule, TakenFor, joined


def no_votes(samples: int) -> FurtherVotes:
    """Return the votes of ``samples`` draws on no images."""
    return FurtherVotes(
        samples=samples,
        right={rule: [] for rule in RULES},
        clean_right={rule: [] for rule in RULES},
        taken_for={rule: TakenFor(classes=[], votes=[]) for rule in RULES},
        clean_taken_for={rule: TakenFor(classes=[], votes=[]) for rule in RULES},
    )


def final_votes(
    samples: int, attacked: Mapping[Rule, Tensor], clean: Mapping[Rule, Tensor], y: Tensor, target: int | None = None
) -> FurtherVotes:
    """Return what T votes of each rule say of N attacked images and of their originals.

    Args:
        samples: Number of draws in each vote.
        attacked: Rule -> (N, T) int64, the votes on the attacked images.
        clean: Rule -> (N, T) int64, those on the originals.
        y: (N,) int64 labels.
        target: The class that the images were to be taken for; a vote is then right if it does not give it.
    """
    return FurtherVotes(
        samples=samples,
        right=_right(attacked, y, target),
        clean_right=_right(clean, y, target),
        taken_for=_taken_for(attacked),
        clean_taken_for=_taken_for(clean),
    )


def followed_by(votes: FurtherVotes, more: FurtherVotes) -> FurtherVotes:
    """Return the votes on some images, and behind them those of as many draws on others."""
    return FurtherVotes(
        samples=votes.samples,
        right={rule: [*counts, *more.right[rule]] for rule, counts in votes.right.items()},
        clean_right={rule: [*counts, *more.clean_right[rule]] for rule, counts in votes.clean_right.items()},
        taken_for=joined([votes.taken_for, more.taken_for]),
        clean_taken_for=joined([votes.clean_taken_for, more.clean_taken_for]),
    )


def _right(cast: Mapping[Rule, Tensor], y: Tensor, target: int | None) -> dict[Rule, list[int]]:
    if target is None:
        return {rule: count_for(y, votes) for rule, votes in cast.items()}
    counts = {rule: count_for(torch.full_like(y, target), votes) for rule, votes in cast.items()}
    return {rule: [cast[rule].shape[1] - count for count in of_images] for rule, of_images in counts.items()}


def _taken_for(cast: Mapping[Rule, Tensor]) -> TakenByRule:
    most = {rule: most_voted(votes) for rule, votes in cast.items()}
    return {rule: TakenFor(classes=classes, votes=counts) for rule, (classes, counts) in most.items()}
