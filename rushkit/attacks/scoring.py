"""Score adversarial images by votes of draws of their own, which were not used to choose the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from rushkit.recipe.schema import Rule
from rushkit.smoothing import SmoothedClassifier

RULES: tuple[Rule, ...] = ("majority", "mean")


def count_right(
    g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int, keys: Tensor, purpose: str = "score"
) -> dict[Rule, list[int]]:
    """Count, for each rule and image, how many of ``votes`` independent predictions from m fresh draws are right.

    Args:
        g: The model under its noise, with the m of the votes.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        votes: T, the number of votes on each image.
        seed: Seed of the draws.
        keys: (N,) index of each image in its split, which seeds its draws: an image has the same draws in any batch.
        purpose: What is scored; nothing that chose the images may have used its draws.
    """
    tally = g.keyed_tally(x, keys, seed, purpose, votes=votes)
    right = {rule: tally.predict(rule).view(len(x), votes) == y[:, None] for rule in RULES}
    return {rule: counts.sum(dim=1).tolist() for rule, counts in right.items()}


def count_right_by_rule(
    g: SmoothedClassifier, versions: Mapping[Rule, Tensor], y: Tensor, votes: int, seed: int, keys: Tensor
) -> dict[Rule, list[int]]:
    """Count, for each rule, how many votes are right on the images (N, C, H, W) that were chosen for this rule.

    Images that several rules share are scored once. The other arguments are those of ``count_right``.
    """
    first, *others = versions
    counted = count_right(g, versions[first], y, votes, seed, keys)
    right = {first: counted[first]}
    for rule in others:
        right[rule] = list(counted[rule])
        rows = (versions[rule] != versions[first]).flatten(1).any(dim=1).nonzero().squeeze(1)
        if len(rows):
            apart = count_right(g, versions[rule][rows], y[rows], votes, seed, keys[rows.cpu()])
            for row, count in zip(rows.tolist(), apart[rule], strict=True):
                right[rule][row] = count
    return right


def newly_wrong(right: Sequence[int], clean_right: Sequence[int]) -> int:
    """Count the images that lost every vote although the clean image won at least one."""
    return sum(count == 0 and before > 0 for count, before in zip(right, clean_right, strict=True))
