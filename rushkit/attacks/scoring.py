"""Score adversarial images by votes of fresh draws, which were not used to choose the images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rushkit.recipe.schema import Rule
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

RULES: tuple[Rule, ...] = ("majority", "mean")


def count_right(g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int) -> dict[Rule, list[int]]:
    """Count, for each rule and image, how many of ``votes`` independent predictions from m fresh draws are right."""
    right = {rule: torch.zeros_like(y) for rule in RULES}
    with g.fresh_noise(seed):
        for _ in range(votes):
            tally = g.tally(x)
            for rule in RULES:
                right[rule] += tally.predict(rule) == y
    return {rule: counts.tolist() for rule, counts in right.items()}


def score_seeds(seed: int, start: int) -> tuple[int, int]:
    """Return the seeds of the votes on the adversarial and on the clean images of the block at position ``start``."""
    return derived_seed(seed, "score", start), derived_seed(seed, "clean", start)


def newly_wrong(right: Sequence[int], clean_right: Sequence[int]) -> int:
    """Count the images that lost every vote although the clean image won at least one."""
    return sum(count == 0 and before > 0 for count, before in zip(right, clean_right, strict=True))
