"""Auto-PGD (Croce and Hein 2020): momentum, and steps that are halved by what the loss does."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rushkit.attacks import Norm, losses
from rushkit.attacks.losses import LossName
from rushkit.attacks.norms import project, rim_start, steepest
from rushkit.attacks.search import Best, Curve, GradientAttack, likeliest_others
from rushkit.attacks.victim import Victim
from rushkit.errors import UsageError

# The paper's constants: weight of the new direction, part of improving steps that keeps a step size, and the first
# interval between looks at it, how much the intervals shrink, and the shortest, in parts of the steps.
_ALPHA, _RHO = 0.75, 0.75
_FIRST_LOOK, _SHRINK, _SHORTEST = 0.22, 0.03, 0.06


@dataclass
class _State:
    """What a climb carries from step to step, one row an image, so that images may leave.

    Attributes:
        x, y, target: Clean images, labels, and targets or minus one.
        index: Position in the attack's batch.
        position: Position in the climb's batch.
        now, before: The last two iterates.
        gradient: At ``now``.
        loss, top_loss: At ``now``, and the largest so far.
        top, top_gradient: Where that was, and the gradient there.
        step: (n, 1, 1, 1) step sizes.
        rises: Steps since the last look that raised the loss.
        looked_loss: The largest loss at the last look.
        halved: Whether that look halved the step.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    index: Tensor
    position: Tensor
    now: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    top_loss: Tensor
    top: Tensor
    top_gradient: Tensor
    step: Tensor
    rises: Tensor
    looked_loss: Tensor
    halved: Tensor

    def keep(self, stay: Tensor) -> None:
        """Drop the rows that do not stay."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[stay])

    def look(self, interval: int) -> None:
        """Halve the steps of images whose loss rose too seldom or reached no new height, and send those back to it."""
        seldom = self.rises <= _RHO * interval
        stuck = ~self.halved & (self.looked_loss >= self.top_loss)
        self.halved = seldom | stuck
        self.looked_loss = self.top_loss.clone()
        self.rises = torch.zeros_like(self.rises)
        back = self.halved.view(-1, 1, 1, 1)
        self.step = torch.where(back, self.step / 2, self.step)
        self.now = torch.where(back, self.top, self.now)
        self.gradient = torch.where(back, self.top_gradient, self.gradient)


class APGD(GradientAttack):
    """Auto-PGD, untargeted or towards each of several classes (APGD-T), with EOT over a random model's draws.

    Gradient, loss and success come from all draws of a step. Targets (the likeliest other classes at the clean image)
    are a means: any error counts as success, as in AutoAttack.

    Args:
        norm: "linf" or "l2".
        eps: Radius of the ball, pixel units.
        steps: Gradient steps of one climb.
        loss: What is raised: "ce" or "dlr" (means over the draws), "nll", "dlr-mean" or "margin" (of log p̄).
        restarts: Climbs an image (and target); those already broken leave before the next.
        samples: Draws a gradient (EOT); None: the model's own m.
        selection_samples: Draws of the panel that compares iterates; None: max(samples, 20).
        targeted: APGD-T.
        n_targets: Targets an image, at most the number of other classes.
        seed: Of every draw.

    Raises:
        UsageError: a norm, radius or option that does not exist or fit.
    """

    def __init__(
        self,
        norm: Norm,
        eps: float,
        steps: int = 100,
        loss: LossName = "ce",
        restarts: int = 1,
        samples: int | None = None,
        selection_samples: int | None = None,
        targeted: bool = False,
        n_targets: int = 9,
        seed: int = 0,
    ) -> None:
        super().__init__(
            "apgd", ("linf", "l2"), norm, eps, steps, loss, True, restarts, samples, selection_samples, targeted, seed
        )
        if n_targets < 1:
            raise UsageError(f"apgd: n_targets must be at least 1 (got {n_targets})")
        self.n_targets = n_targets

    def _targets(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None) -> Tensor | None:
        if target is not None:
            raise UsageError("apgd chooses its targets itself", "use pgd with targeted=True for targets of your own")
        return None

    def _aims(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None) -> list[Tensor | None]:
        if not self.targeted:
            return [None] * self.restarts
        columns = likeliest_others(victim, x, y)[:, : self.n_targets].unbind(1)
        return [*columns] * self.restarts

    def _start(self, x: Tensor, source: torch.Generator) -> Tensor:
        return rim_start(x, self.norm, self.eps, source)

    def _selection_loss(self) -> losses.Loss:
        # Losses towards different targets do not compare.
        return losses.margin if self.targeted else self._loss

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
        loss, gradient, logits = victim.gradient(x_adv, y, self._loss, target)
        best.offer(index, x_adv, logits)
        position = torch.arange(len(x), device=x.device)
        curve.add(0, position, loss)
        state = _State(
            x=x,
            y=y,
            target=y if target is None else target,
            index=index,
            position=position,
            now=x_adv,
            before=x_adv,
            gradient=gradient,
            loss=loss,
            top_loss=loss,
            top=x_adv,
            top_gradient=gradient,
            step=torch.full((len(x), 1, 1, 1), 2 * self.eps, dtype=x.dtype, device=x.device),
            rises=torch.zeros(len(x), dtype=torch.int64, device=x.device),
            looked_loss=loss,
            halved=torch.ones(len(x), dtype=torch.bool, device=x.device),
        )
        interval = max(int(_FIRST_LOOK * self.steps), 1)
        since_look = 0
        for step in range(self.steps):
            state.keep(~best.broken[state.index])
            if not len(state.x):
                curve.hold(step + 1)
                return
            self._move(state, first=step == 0)
            last = step == self.steps - 1
            if last:
                best.offer(state.index, state.now)
                return
            aim = None if target is None else state.target
            loss, state.gradient, logits = victim.gradient(state.now, state.y, self._loss, aim)
            curve.add(step + 1, state.position, loss)
            self._record(state, loss, logits, victim, best)
            since_look += 1
            if since_look == interval:
                state.look(interval)
                since_look = 0
                interval = max(interval - max(int(_SHRINK * self.steps), 1), max(int(_SHORTEST * self.steps), 1))

    def _move(self, state: _State, first: bool) -> None:
        ahead = state.now + steepest(state.now, state.gradient, self.norm, state.step)
        ahead = project(state.x, ahead, self.norm, self.eps)
        if not first:
            ahead = state.now + _ALPHA * (ahead - state.now) + (1 - _ALPHA) * (state.now - state.before)
            ahead = project(state.x, ahead, self.norm, self.eps)
        state.before, state.now = state.now, ahead

    @staticmethod
    def _record(state: _State, loss: Tensor, logits: Tensor, victim: Victim, best: Best) -> None:
        state.rises = state.rises + (loss > state.loss)
        higher = loss > state.top_loss
        image = higher.view(-1, 1, 1, 1)
        state.top = torch.where(image, state.now, state.top)
        state.top_gradient = torch.where(image, state.gradient, state.top_gradient)
        state.loss, state.top_loss = loss, torch.where(higher, loss, state.top_loss)
        if not victim.random:
            best.offer(state.index, state.now, logits)
        elif higher.any():
            # A panel costs passes of the model: only new heights are worth one.
            best.offer(state.index[higher], state.now[higher])
