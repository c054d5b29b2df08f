"""Projected gradient descent (Madry et al. 2018) with expectation over the model's noise (Athalye et al. 2018)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.attacks.checks import check_eps
from rushkit.attacks.losses import LossName
from rushkit.attacks.norms import project, steepest
from rushkit.attacks.search import Best, Curve, GradientAttack
from rushkit.attacks.victim import Victim, derive
from rushkit.errors import UsageError

# The first step of the falling schedule, in parts of eps: 40 steps then cross the ball ten times over.
_FIRST_STEP = 0.5


class PGD(GradientAttack):
    """Steps in the direction that raises the loss most, each projected onto ball and box.

    The RUSH paper's attack is ``steps=40, step_size=2/255, random_start=False, best="last", noise="fixed"`` in l-inf
    at 8/255: eq. 7 on one panel of noise. The defaults are those of a stronger one.

    Args:
        norm: "linf", "l2" or "l1".
        eps: Radius of the ball, pixel units.
        steps: Gradient steps of one climb.
        step_size: Length of every step in the norm, pixel units; None: from eps/2 down to 0 along a cosine.
        loss: What is raised: "nll" (−log p̄, eq. 7), "ce" (mean over draws), "dlr" (mean over draws), "dlr-mean" (of
            log p̄) or "margin" (of log p̄).
        random_start: Start anywhere in the ball, or at the image.
        restarts: Climbs an image; those already broken leave before the next.
        noise: "fresh" draws at every step, or one "fixed" panel for the whole attack.
        samples: Draws a gradient (EOT); None: the model's own m.
        best: Return the "best" iterate by a selection panel (by the loss, for a deterministic model), or the "last".
        selection_samples: Draws of the selection panel; None: max(samples, 20).
        targeted: Reach a class rather than leave one; by default the likeliest other.
        seed: Of every draw.

    Raises:
        UsageError: a norm, radius or option that does not exist or fit.
    """

    def __init__(
        self,
        norm: Norm,
        eps: float,
        steps: int = 40,
        step_size: float | None = None,
        loss: LossName = "nll",
        random_start: bool = True,
        restarts: int = 1,
        noise: Literal["fixed", "fresh"] = "fresh",
        samples: int | None = None,
        best: Literal["last", "best"] = "best",
        selection_samples: int | None = None,
        targeted: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            "pgd",
            ("linf", "l2", "l1"),
            norm,
            eps,
            steps,
            loss,
            random_start,
            restarts,
            samples,
            selection_samples,
            targeted,
            seed,
        )
        if step_size is not None:
            if step_size == 0:
                raise UsageError("pgd: step_size must be above 0")
            check_eps(norm, step_size, name="step_size")
        if noise not in ("fixed", "fresh") or best not in ("last", "best"):
            raise UsageError(f"pgd: noise is fixed or fresh, best is last or best (got {noise!r}, {best!r})")
        self.step_size = step_size
        self.noise = noise
        self.best = best

    def _starts_clean(self) -> bool:
        return self.best == "best"

    def _step_length(self, step: int) -> float:
        if self.step_size is not None:
            return self.step_size
        return _FIRST_STEP * self.eps * (1 + math.cos(math.pi * step / self.steps)) / 2

    def _notes(self, victim: Victim) -> tuple[str, ...]:
        if self.noise == "fixed" and victim.random and not victim.has_panels:
            return ("noise was to be fixed, but the model draws its own: it was fresh",)
        return ()

    def _climb(
        self,
        victim: Victim,
        x: Tensor,
        y: Tensor,
        target: Tensor | None,
        x_adv: Tensor,
        index: Tensor,
        best: Best,
        curve: Curve,
    ) -> None:
        panel = derive(self.seed, "panel") if self.noise == "fixed" else None
        position = torch.arange(len(x), device=x.device)
        for step in range(self.steps):
            loss, gradient, logits = victim.gradient(x_adv, y, self._loss, target, panel)
            curve.add(step, position, loss)
            if self.best == "best":
                best.offer(index, x_adv, logits)
                # Within a climb only a deterministic model's images break: those of a random one await a vote.
                stay = ~best.broken[index]
                if not stay.all():
                    if not stay.any():
                        curve.hold(step + 1)
                        return
                    x, y, x_adv, gradient = x[stay], y[stay], x_adv[stay], gradient[stay]
                    index, position = index[stay], position[stay]
                    target = None if target is None else target[stay]
            move = steepest(x_adv, gradient, self.norm, self._step_length(step))
            x_adv = project(x, x_adv + move, self.norm, self.eps)
        if self.best == "last" and self.restarts == 1:
            best.take(index, x_adv)
            return
        best.offer(index, x_adv)
