"""The result of an attack whose images are scored by draws that were not used to choose them."""

from __future__ import annotations

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.attacks.losses import margin
from rushkit.attacks.norms import settle
from rushkit.attacks.result import AttackNote, AttackResult
from rushkit.attacks.victim import Victim


def judged(
    victim: Victim,
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    ball: tuple[Norm, float],
    *,
    draw: int,
    notes: tuple[AttackNote, ...] = (),
) -> AttackResult:
    """Move the images into ball and box to the last bit, let the model vote on them, and return the result.

    Args:
        victim: The model under attack.
        x: (N, C, H, W) clean images.
        x_adv: (N, C, H, W) the attack's versions of them.
        y: (N,) labels.
        ball: The norm and the radius of the ball, pixel units.
        draw: Seeds the draws of the vote.
        notes: Notes that qualify the figures.

    Returns:
        The result, unchecked; its loss is the margin of log p̄, and there is no loss curve.
    """
    x_adv = settle(x, x_adv, *ball)
    verdict = victim.judge(x_adv, y, draw=draw)
    return AttackResult(
        x_adv=x_adv,
        success=verdict.wrong,
        loss=torch.where(verdict.finite, margin(verdict.logits, y), torch.nan),
        loss_curve=torch.empty(0, dtype=torch.float64),
        image_forwards=victim.image_forwards,
        image_backwards=victim.image_backwards,
        notes=notes,
    )
