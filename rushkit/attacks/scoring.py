"""How often fresh noise is right about adversarial images: votes of draws that have chosen nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rushkit.recipe.schema import Rule
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

RULES: tuple[Rule, ...] = ("majority", "mean")


def count_right(g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int) -> dict[Rule, list[int]]:
    """Count, for each rule and image, how many of ``votes`` independent predictions by m fresh draws are right."""
    right = {rule: torch.zeros_like(y) for rule in RULES}
    with g.fresh_noise(seed):
        for _ in range(votes):
            tally = g.tally(x)
            for rule in RULES:
                right[rule] += tally.predict(rule) == y
    return {rule: counts.tolist() for rule, counts in right.items()}


def score_seeds(seed: int, start: int) -> tuple[int, int]:
    """Return the seeds of the votes on the adversarial images and on the originals of the block that starts there."""
    return derived_seed(seed, "score", start), derived_seed(seed, "clean", start)


def newly_wrong(right: Sequence[int], clean_right: Sequence[int]) -> int:
    """Count the images that lost every vote while the original won at least one."""
    return sum(count == 0 and before > 0 for count, before in zip(right, clean_right, strict=True))
