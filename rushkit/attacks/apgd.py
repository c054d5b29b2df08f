"""Auto-PGD (Croce and Hein 2020, Algorithm 1): momentum, and a step size that is halved where the loss stalls."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestIterate
from rushkit.attacks.checks import check_eps, check_labels, checked_images
from rushkit.attacks.losses import LossName
from rushkit.attacks.norms import project, rim_start, steepest
from rushkit.attacks.restarts import (
    Batch,
    Curve,
    check_classes,
    check_settings,
    check_untargeted,
    climbs,
    concluded,
    likeliest_others,
    start_source,
)
from rushkit.attacks.result import AttackResult
from rushkit.attacks.victim import Victim, under_attack
from rushkit.errors import UsageError

# The paper's α, the weight of the new direction, and ρ, the fraction of improving steps that keeps a step size.
_ALPHA, _RHO = 0.75, 0.75
# The first interval between checkpoints, how much the intervals shrink, and the shortest, as fractions of the steps.
_FIRST_INTERVAL, _SHRINK, _SHORTEST = 0.22, 0.03, 0.06


@dataclass(frozen=True, repr=False)
class APGD:
    """Auto-PGD, untargeted or towards each of several classes (APGD-T), with EOT over a random model's draws.

    Gradient, loss and success come from all draws of a step. Targets (the likeliest other classes at the clean image)
    are a means: any error counts as success, as in AutoAttack.

    Args:
        norm: "linf" or "l2".
        eps: Radius of the ball, pixel units.
        steps: Gradient steps of one climb.
        loss: The loss that is climbed: "ce" or "dlr" (means over the draws), "nll", "dlr-mean" or "margin" (of log p̄).
        restarts: Climbs for each image (and target); images that are broken leave before the next climb.
        samples: Draws for each gradient (EOT); None: the model's own m.
        selection_samples: Draws of the panel that compares iterates; None: max(samples, 20).
        targeted: Climb towards other classes (APGD-T).
        n_targets: Targets for each image, at most the number of other classes.
        seed: Seeds every draw.

    Raises:
        UsageError: a norm, radius or option that does not exist or fit.
    """

    norm: Norm
    eps: float
    steps: int = 100
    loss: LossName = "ce"
    restarts: int = 1
    samples: int | None = None
    selection_samples: int | None = None
    targeted: bool = False
    n_targets: int = 9
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings("apgd", self, ("linf", "l2"))
        if self.n_targets < 1:
            raise UsageError(f"apgd: n_targets must be at least 1 (got {self.n_targets})")

    def __repr__(self) -> str:
        return f"APGD(norm={self.norm!r}, eps={self.eps:g}, steps={self.steps}, loss={self.loss!r})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def check_fit(self, classes: int, height: int, width: int) -> None:
        """Raise UsageError if the loss needs more classes than there are."""
        check_classes(self, classes)

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1].

        Args:
            model: The classifier, smoothed or not; it is left as it was.
            x: Clean images.
            y: (N,) their labels.
            target: Refused: APGD-T chooses its targets itself.

        Raises:
            UsageError: images or labels that do not fit, a target, too few classes for the loss, no gradient.
            NumericsError: NaN or infinite logits or gradients; they are never counted as a success.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        check_untargeted("apgd", self, target)
        if target is not None:
            raise UsageError("apgd chooses its targets itself", "use pgd with targeted=True for targets of your own")
        loss = losses.get(self.loss)
        with under_attack(model, x, self.seed, self.samples, self.selection_samples) as victim:
            check_labels(y, victim.num_classes)
            self.check_fit(victim.num_classes, *x.shape[2:])
            # Losses towards different targets are not comparable.
            best = BestIterate(victim, x, y, None, losses.margin if self.targeted else loss, self.seed)
            curve = Curve(self.steps)

            def start(number: int) -> Tensor:
                return rim_start(x, self.norm, self.eps, start_source(self.seed, number, x.device))

            best.offer(torch.arange(len(x), device=x.device), x)
            for batch in climbs(best, x, self._targets(victim, x, y), start, curve):
                climb(victim, batch, self, best, curve)
            return concluded(self, best, x, curve)

    def _targets(self, victim: Victim, x: Tensor, y: Tensor) -> list[Tensor | None]:
        """Return the (N,) target classes of each climb in turn; None for an untargeted climb."""
        if not self.targeted:
            return [None] * self.restarts
        columns = likeliest_others(victim, x, y)[:, : self.n_targets].unbind(1)
        return [*columns] * self.restarts


def climb(victim: Victim, batch: Batch, settings: APGD, best: BestIterate, curve: Curve) -> None:
    """Run Algorithm 1 from the batch's start. Settled images leave the batch; every iterate is offered to ``best``.

    The names are the paper's: x_k is the iterate, η the step size, f the loss, x_max the point of largest loss. Each
    variable has one row per image.
    """
    norm, eps, f = settings.norm, settings.eps, losses.get(settings.loss)
    x, y, target, index, x_k = batch.x, batch.y, batch.target, batch.index, batch.start
    position = torch.arange(len(x), device=x.device)
    f_k, gradient, logits = victim.gradient(x_k, y, f, target)
    best.offer(index, x_k, logits)
    curve.add(0, position, f_k)
    x_before, x_max, f_max, gradient_max = x_k, x_k, f_k, gradient
    eta = torch.full((len(x), 1, 1, 1), 2 * eps, dtype=x.dtype, device=x.device)
    rises = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    f_max_checked, halved = f_k, torch.ones(len(x), dtype=torch.bool, device=x.device)
    intervals = checkpoints(settings.steps)
    for k in range(settings.steps):
        stay = ~best.settled[index]
        x, y, index, position, x_k, x_before, gradient = (
            rows[stay] for rows in (x, y, index, position, x_k, x_before, gradient)
        )
        f_k, f_max, x_max, gradient_max = f_k[stay], f_max[stay], x_max[stay], gradient_max[stay]
        eta, rises, f_max_checked, halved = eta[stay], rises[stay], f_max_checked[stay], halved[stay]
        target = None if target is None else target[stay]
        if not len(x):
            curve.hold(k + 1)
            return
        # Lines 1, 7 and 8: a step, and from the second step on momentum.
        z = project(x, x_k + steepest(x_k, gradient, norm, eta), norm, eps)
        if k > 0:
            z = project(x, x_k + _ALPHA * (z - x_k) + (1 - _ALPHA) * (x_k - x_before), norm, eps)
        x_before, x_k = x_k, z
        if k == settings.steps - 1:
            best.offer(index, x_k)
            return
        f_before = f_k
        f_k, gradient, logits = victim.gradient(x_k, y, f, target)
        curve.add(k + 1, position, f_k)
        # Lines 9 to 11: the largest loss so far.
        rises = rises + (f_k > f_before)
        higher = f_k > f_max
        x_max = torch.where(_images(higher), x_k, x_max)
        gradient_max = torch.where(_images(higher), gradient, gradient_max)
        f_max = torch.where(higher, f_k, f_max)
        if not victim.random:
            best.offer(index, x_k, logits)
        elif higher.any():
            # A panel costs forward passes, so only iterates with a new largest loss are scored on it.
            best.offer(index[higher], x_k[higher])
        # Lines 12 to 15: if the loss rose too seldom, or has no new maximum at the same step size since the last
        # checkpoint, halve the step size and go back to the best point.
        if k in intervals:
            halved = (rises <= _RHO * intervals[k]) | (~halved & (f_max_checked >= f_max))
            eta = torch.where(_images(halved), eta / 2, eta)
            x_k = torch.where(_images(halved), x_max, x_k)
            gradient = torch.where(_images(halved), gradient_max, gradient)
            f_max_checked, rises = f_max, torch.zeros_like(rises)


def checkpoints(steps: int) -> dict[int, int]:
    """Return the steps after which the step size is reconsidered, each with the number of steps since the last one.

    The paper's w_j: the first interval is 22 % of the steps, each later one 3 % shorter, down to 6 %.
    """
    intervals: dict[int, int] = {}
    step, interval = 0, max(int(_FIRST_INTERVAL * steps), 1)
    while step + interval <= steps:
        step += interval
        intervals[step - 1] = interval
        interval = max(interval - max(int(_SHRINK * steps), 1), max(int(_SHORTEST * steps), 1))
    return intervals


def _images(rows: Tensor) -> Tensor:
    return rows.view(-1, 1, 1, 1)
