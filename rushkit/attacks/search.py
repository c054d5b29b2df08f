"""What PGD and APGD share: restarts, the best iterate of each image, who leaves the batch, and the final judgement."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses
from rushkit.attacks.checks import check_ball, check_eps, check_labels, checked_images
from rushkit.attacks.norms import random_start, settle
from rushkit.attacks.result import AttackResult
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.errors import UsageError
from rushkit.smoothing import log_mean_softmax
from rushkit.system import generator


class Best:
    """The best iterate of each image so far, by a selection panel of the model's own noise that no gradient sees.

    A deterministic model needs no panel. The lead in votes comes first, then the attack's loss.

    Attributes:
        x_adv: (N, C, H, W) the best iterates.
        lead: (N,) what they led by in the vote of the panel.
        loss: (N,) their loss on it, which decides between equal leads.
        broken: (N,) bool, images that need no more work: wrong for a deterministic model, and for a random one by a
            vote so clear that chance hardly explains it.
    """

    def __init__(
        self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None, loss: losses.Loss, seed: int
    ) -> None:
        self._victim = victim
        self._loss = loss
        self._y, self._target = y, target
        self._panel = derive(seed, "selection")
        self.x_adv = x.clone()
        self.lead = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self.loss = self.lead.clone()
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def offer(self, index: Tensor, x_adv: Tensor, logits: Tensor | None = None) -> None:
        """Keep those of the iterates x_adv of images ``index`` that beat what is kept.

        ``logits`` (m, n, K) there, where the attack has them, are enough for a deterministic model. A random one is
        asked on the panel.
        """
        y, target = self._y[index], None if self._target is None else self._target[index]
        if self._victim.random or logits is None:
            logits = self._victim.logits(x_adv, panel=self._panel)
        lead = self._victim.worth(logits, y, target).to(self.lead.dtype)
        loss = self._loss(logits, y, target).to(self.loss.dtype)
        if not self._victim.random:
            self.broken[index] |= lead > 0
        better = (lead > self.lead[index]) | ((lead == self.lead[index]) & (loss > self.loss[index]))
        chosen = index[better]
        self.x_adv[chosen], self.lead[chosen], self.loss[chosen] = x_adv[better], lead[better], loss[better]

    def take(self, index: Tensor, x_adv: Tensor) -> None:
        """Keep these iterates, whatever they score."""
        self.x_adv[index] = x_adv

    def confirm(self) -> None:
        """Between restarts: a random model's images that a fresh vote finds clearly wrong need no more work."""
        if not self._victim.random:
            return
        open_images = (~self.broken).nonzero().squeeze(1)
        promising = open_images[self.lead[open_images] > 0]
        if len(promising):
            target = None if self._target is None else self._target[promising]
            verdict = self._victim.judge(self.x_adv[promising], self._y[promising], target)
            self.broken[promising] = verdict.clear


class Curve:
    """The mean loss at each step, over images and restarts; an image that has left counts with its last value."""

    def __init__(self, steps: int) -> None:
        self._total = torch.zeros(steps, dtype=torch.float64)
        self._count = 0
        self._last = torch.empty(0)

    def begin(self, images: int) -> None:
        """A restart with this many images."""
        self._count += images
        self._last = torch.zeros(images)

    def add(self, step: int, position: Tensor, loss: Tensor) -> None:
        """Losses at a step, of the images at these positions of the restart's batch."""
        self._last = self._last.to(loss.device, loss.dtype)
        self._last[position] = loss
        self._total[step] += self._last.sum().cpu()

    def hold(self, step: int) -> None:
        """No image is left: every later step counts the last values."""
        self._total[step:] += self._last.sum().cpu()

    def mean(self) -> Tensor:
        """(steps,) float64."""
        return self._total / max(self._count, 1)


class GradientAttack(ABC):
    """Climbs a loss from one or several starts. Subclasses say how one climb goes.

    Args:
        name: As in the registry, for messages.
        norms: Those that the attack has.
        norm: The ball's.
        eps: Its radius, pixel units.
        steps: Gradient steps of one climb.
        loss: nll, ce, dlr, dlr-mean or margin.
        random_start: Start anywhere in the ball, or at the image.
        restarts: Climbs an image; an image that is broken leaves before the next.
        samples: Draws a gradient (EOT); None: the model's own m.
        selection_samples: Draws of the selection panel; None: max(m, 20).
        targeted: Climb towards a class rather than away from the label.
        seed: Of every draw.
    """

    def __init__(
        self,
        name: str,
        norms: tuple[Norm, ...],
        norm: str,
        eps: float,
        steps: int,
        loss: str,
        random_start: bool,
        restarts: int,
        samples: int | None,
        selection_samples: int | None,
        targeted: bool,
        seed: int,
    ) -> None:
        check_ball(name, norm, eps, norms)
        for option, value in (("steps", steps), ("restarts", restarts)):
            if value < 1:
                raise UsageError(f"{name}: {option} must be at least 1 (got {value})")
        self.name = name
        self.norm: Norm = norm  # type: ignore[assignment]
        self.eps = eps
        self.steps = steps
        self.loss = loss
        self.random_start = random_start
        self.restarts = restarts
        self.samples = samples
        self.selection_samples = selection_samples
        self.targeted = targeted
        self.seed = seed
        self._loss = losses.get(loss)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(norm={self.norm!r}, eps={self.eps:g}, steps={self.steps}, loss={self.loss!r})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1].

        Args:
            model: The classifier, smoothed or not; it is left as it was.
            x: Clean images.
            y: (N,) their labels.
            target: (N,) classes to be reached, for an attack made with ``targeted``; None: the likeliest other class.

        Raises:
            UsageError: images, labels or targets that do not fit, too few classes for the loss, no gradient.
            NumericsError: NaN or infinite logits or gradients; they are never counted as a success.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        if target is not None and not self.targeted:
            raise UsageError(f"{self.name} was given a target but is untargeted", "make it with targeted=True")
        with under_attack(model, x, self.seed, self.samples, self.selection_samples) as victim:
            check_labels(y, victim.num_classes)
            self.check_fit(victim.num_classes, *x.shape[2:])
            targets = self._targets(victim, x, y, target)
            curve = Curve(self.steps)
            best = self._search(victim, x, y, targets, curve)
            x_adv = settle(x, best.x_adv, self.norm, self.eps)
            verdict = victim.judge(x_adv, y, targets)
            return AttackResult(
                x_adv=x_adv,
                success=verdict.wrong,
                loss=self._loss(verdict.logits, y, targets),
                loss_curve=curve.mean(),
                image_forwards=victim.image_forwards,
                image_backwards=victim.image_backwards,
                notes=self._notes(victim),
            )

    @abstractmethod
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
        """One climb from x_adv, offering iterates to ``best`` under their ``index`` in the whole batch."""

    def _notes(self, victim: Victim) -> tuple[str, ...]:
        """What a reader of the result must know."""
        return ()

    def _starts_clean(self) -> bool:
        """Whether the image itself is a candidate: one that is wrong already is then left alone."""
        return True

    def _search(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None, curve: Curve) -> Best:
        best = Best(victim, x, y, target, self._selection_loss(), self.seed)
        if self._starts_clean():
            best.offer(torch.arange(len(x), device=x.device), x)
        for climb, aim in enumerate(self._aims(victim, x, y, target)):
            # The last iterate is asked for whatever the first ones did.
            if self._starts_clean() or climb:
                best.confirm()
            index = (~best.broken).nonzero().squeeze(1)
            if not len(index):
                break
            start = x
            if self.random_start:
                # Drawn for the whole batch, so that an image's start does not depend on who has left.
                source = generator(self.seed, "attack start", climb, device=x.device)
                start = self._start(x, source)
            curve.begin(len(index))
            chosen = None if aim is None else aim[index]
            self._climb(victim, x[index], y[index], chosen, start[index], index, best, curve)
        return best

    def _start(self, x: Tensor, source: torch.Generator) -> Tensor:
        """Where a climb from a random point begins."""
        return random_start(x, self.norm, self.eps, source)

    def _aims(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None) -> list[Tensor | None]:
        """The target of each climb in turn."""
        return [target] * self.restarts

    def _selection_loss(self) -> losses.Loss:
        """What ranks iterates whose votes are equal."""
        return self._loss

    def check_fit(self, classes: int, height: int, width: int) -> None:
        """Raises UsageError where the loss needs more classes than there are."""
        needed = losses.classes_needed(self.loss, self.targeted)
        if classes < needed:
            kind = f"targeted {self.loss}" if self.targeted else self.loss
            raise UsageError(f"{kind} needs {needed} classes (the model has {classes})", "use loss nll, ce or margin")

    def _targets(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None) -> Tensor | None:
        if not self.targeted:
            return None
        if target is None:
            return likeliest_others(victim, x, y)[:, 0]
        target = target.detach().to(x.device, torch.int64).contiguous()
        if target.shape != y.shape or bool((target == y).any()):
            raise UsageError(f"targets are classes of shape {tuple(y.shape)} that differ from the labels")
        check_labels(target, victim.num_classes)
        return target


def likeliest_others(victim: Victim, x: Tensor, y: Tensor) -> Tensor:
    """(N, K-1) the classes other than the label, by falling log p̄ at x."""
    log_prob = log_mean_softmax(victim.logits(x))
    order = log_prob.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return order[:, :-1]
