from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from rushkit.results.attacks import AttackOutcomes, AttackRow
from rushkit.results.intervals import figures_by_rule


@pytest.fixture
def attack_row() -> Callable[..., AttackRow]:
    """``attack_row("l2", 0.5, [10, 3])``: a strict row of ten votes on each image, with these right."""

    def make(norm: str, eps: float, right: Sequence[int], **changes: object) -> AttackRow:
        votes, images = 10, list(range(len(right)))
        outcomes = AttackOutcomes(
            images=images,
            right={"majority": list(right), "mean": list(right)},
            clean_right={"majority": [votes] * len(right), "mean": [votes] * len(right)},
            labels=[0] * len(right),
            chosen=[0] * len(right),
            indices=changes.pop("indices", images),
        )
        about = {"split": "digits/test", "protocol": "strict", "version": 2, "effort": 1, "samples": 1}
        return AttackRow(
            attack="pgd",
            norm=norm,
            eps=eps,
            deviations=[],
            votes=votes,
            gradient_samples=1,
            candidates=[],
            images=len(right),
            rules=figures_by_rule(outcomes, votes),
            outcomes=outcomes,
            seconds=0.0,
            image_forwards=0,
            image_backwards=0,
            contributions={},
            notes=[],
            **{**about, **changes},
        )

    return make
