"""The cascade as an attack: from a model and images to adversarial images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestByRule
from rushkit.attacks.cascade.engine import Ball, Engine
from rushkit.attacks.cascade.schedule import EFFORTS, Schedule, schedule_of
from rushkit.attacks.checks import check_ball, check_eps, check_labels, checked_images
from rushkit.attacks.result import AttackResult, checked
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.errors import UsageError


@dataclass(frozen=True, repr=False)
class Cascade:
    """Rounds of climbs, the cheap ones first; an image leaves as soon as its vote is as good as lost.

    The rounds climb several losses, from random points or from the best version so far. Versions of an image race on a
    panel of draws that no gradient uses. It is the search of the protocol ``strict``.

    Args:
        norm: "linf", "l2" or "l1".
        eps: Radius of the ball, pixel units.
        effort: 1, 2 or 4; 2 and 4 add rounds, at about two and four times the passes of 1.
        rule: The steps of the rounds of ``strict`` ("mixed"), or those of Auto-PGD alone ("apgd"; in l1 of APGD-L1).
        samples: The fewest draws in a gradient; None: those of the rounds.
        seed: Seeds every draw.

    Example::

        attacks.create("cascade", norm="linf", eps=8 / 255).run(model, x, y)

    Raises:
        UsageError: a norm, radius or effort that does not exist or fit.
    """

    norm: Norm
    eps: float
    effort: int = 1
    rule: Literal["mixed", "apgd"] = "mixed"
    samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball("cascade", self.norm, self.eps, ("linf", "l2", "l1"))
        if self.effort not in EFFORTS:
            raise UsageError(f"cascade has no effort {self.effort}", f"it has: {', '.join(map(str, EFFORTS))}")
        if self.rule not in ("mixed", "apgd"):
            raise UsageError(f"cascade has no rule {self.rule!r}", "it has: mixed, apgd")
        if self.samples is not None and self.samples < 1:
            raise UsageError(f"samples must be at least 1 (got {self.samples})")

    def __repr__(self) -> str:
        return f"Cascade(norm={self.norm!r}, eps={self.eps:g}, effort={self.effort})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1] and (N,) labels.

        Raises:
            UsageError: images or labels that do not fit, no gradient.
            NumericsError: NaN or infinite logits or gradients at all images; they are never counted as a success.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        with under_attack(model, x, self.seed) as victim:
            check_labels(y, victim.num_classes)
            best = BestByRule(victim, x, y, derive(self.seed, "selection"))
            engine = self.on(victim, best, x, y)
            while engine.advance():
                pass
            verdict = victim.judge(best.x_adv, y, draw=derive(self.seed, "verdict"))
            result = AttackResult(
                x_adv=best.x_adv,
                success=verdict.wrong,
                loss=torch.where(verdict.finite, losses.margin(verdict.logits, y), torch.nan),
                loss_curve=torch.empty(0, dtype=torch.float64),
                image_forwards=victim.image_forwards,
                image_backwards=victim.image_backwards,
                notes=engine.notes(),
            )
            return checked(result, engine.useless)

    def on(self, victim: Victim, best: BestByRule, x: Tensor, y: Tensor, smaller: Tensor | None = None) -> Engine:
        """Return the cascade on these images, before its first step; ``best`` keeps its versions.

        ``smaller`` (N, C, H, W) are versions that were found in a smaller ball.
        """
        schedule = self.schedule(victim.random, victim.num_classes)
        return Engine(victim, best, x, y, schedule, Ball(self.norm, self.eps), self.seed, smaller)

    def schedule(self, random: bool, classes: int) -> Schedule:
        """Return the rounds for a model of so many classes whose draws differ, or not."""
        if self.eps == 0:
            return Schedule((), 1)
        schedule = schedule_of(self.norm, random, classes, self.effort, self.rule)
        return schedule.of_least(self.samples) if self.samples is not None and random else schedule
