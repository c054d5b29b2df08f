"""Score adversarial images by votes of draws of their own, which were not used to choose the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rushkit.recipe.schema import Rule
from rushkit.smoothing import SmoothedClassifier
from rushkit.votes import first_argmax

RULES: tuple[Rule, ...] = ("majority", "mean")


def cast_votes(
    g: SmoothedClassifier, x: Tensor, votes: int, seed: int, keys: Tensor, purpose: str = "score"
) -> dict[Rule, Tensor]:
    """Return, for each rule, the classes (N, T) int64 that independent predictions from m fresh draws each give.

    Args:
        g: The model under its noise, with the m of the votes. Where its classes are known, an answer that is none of
            them is -1.
        x: (N, C, H, W) images in [0, 1].
        votes: T, the number of votes on each image.
        seed: Seed of the draws.
        keys: (N,) index of each image in its split, which seeds its draws: an image has the same draws in any batch.
        purpose: What is scored; nothing that chose the images may have used its draws.
    """
    tally = g.keyed_tally(x, keys, seed, purpose, votes=votes)
    cast = {rule: tally.predict(rule).view(len(x), votes) for rule in RULES}
    if g.classes is None:
        return cast
    return {rule: given.where(given < len(g.classes), -1) for rule, given in cast.items()}


def cast_votes_by_rule(
    g: SmoothedClassifier, versions: Mapping[Rule, Tensor], votes: int, seed: int, keys: Tensor
) -> dict[Rule, Tensor]:
    """Return, for each rule, the votes (N, T) int64 on the images (N, C, H, W) that were chosen for this rule.

    Images that several rules share are scored once. The other arguments are those of ``cast_votes``.
    """
    first, *others = versions
    on_first = cast_votes(g, versions[first], votes, seed, keys)
    cast = {first: on_first[first]}
    for rule in others:
        cast[rule] = on_first[rule].clone()
        rows = (versions[rule] != versions[first]).flatten(1).any(dim=1).nonzero().squeeze(1)
        if len(rows):
            cast[rule][rows] = cast_votes(g, versions[rule][rows], votes, seed, keys[rows.cpu()])[rule]
    return cast


def count_right(
    g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int, keys: Tensor, purpose: str = "score"
) -> dict[Rule, list[int]]:
    """Count, for each rule and image, how many of ``votes`` independent predictions give the labels ``y`` (N,).

    The other arguments are those of ``cast_votes``.
    """
    cast = cast_votes(g, x, votes, seed, keys, purpose)
    return {rule: count_for(y, given) for rule, given in cast.items()}


def count_for(classes: Tensor, cast: Tensor) -> list[int]:
    """Return how many votes (N, T) on each image give its class, (N,) int64."""
    counts: list[int] = (cast == classes[:, None]).sum(dim=1).tolist()
    return counts


def most_voted(cast: Tensor) -> tuple[list[int], list[int]]:
    """Return the class that most votes on each image give, and how many give it.

    Of several classes it is the lowest, and -1, an answer that is none of them, comes last.

    Args:
        cast: (N, T) int64 classes.
    """
    # Other answers than classes are counted behind all classes.
    rejected = int(cast.max()) + 1
    places = cast.where(cast >= 0, rejected)
    counts = cast.new_zeros(len(cast), rejected + 1).scatter_add_(1, places, torch.ones_like(cast))
    winners = first_argmax(counts)
    most: list[int] = counts.gather(1, winners[:, None]).squeeze(1).tolist()
    return winners.where(winners < rejected, -1).tolist(), most


def newly_wrong(right: Sequence[int], clean_right: Sequence[int]) -> int:
    """Count the images that lost every vote although the clean image won at least one."""
    return sum(count == 0 and before > 0 for count, before in zip(right, clean_right, strict=True))
