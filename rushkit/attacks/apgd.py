"""Auto-PGD: Croce and Hein 2020, Algorithm 1, in l-inf and l2; Croce and Hein 2021, "Mind the box", in l1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestIterate
from rushkit.attacks.checks import check_counts, check_eps, check_labels, checked_images
from rushkit.attacks.losses import LossName
from rushkit.attacks.norms import rim_start
from rushkit.attacks.restarts import (
    Batch,
    Curve,
    check_classes,
    check_settings,
    check_untargeted,
    climbs,
    concluded,
    draw_of_step,
    drive,
    likeliest_others,
    start_source,
)
from rushkit.attacks.result import AttackResult
from rushkit.attacks.steps.auto import AutoSteps
from rushkit.attacks.steps.climb import Climb
from rushkit.attacks.steps.sparse import SparseSteps
from rushkit.attacks.victim import Victim, under_attack
from rushkit.errors import UsageError


@dataclass(frozen=True, repr=False)
class APGD:
    """Auto-PGD, untargeted or towards each of several classes (APGD-T), with EOT over a random model's draws.

    Gradient, loss and success come from all draws of a step. Targets (the likeliest other classes at the clean image)
    are a means: any error counts as success, as in AutoAttack.

    Args:
        norm: "linf", "l2" or "l1".
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
        check_settings("apgd", self, ("linf", "l2", "l1"))
        check_counts("apgd", n_targets=self.n_targets)

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
            NumericsError: NaN or infinite logits or gradients at all images; they are never counted as a success.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        check_untargeted("apgd", self, target)
        if target is not None:
            raise UsageError("apgd chooses its targets itself", "use pgd with targeted=True for targets of your own")
        with under_attack(model, x, self.seed, self.samples, self.selection_samples) as victim:
            check_labels(y, victim.num_classes)
            self.check_fit(victim.num_classes, *x.shape[2:])
            # Losses towards different targets are not comparable.
            compared = losses.margin if self.targeted else losses.get(self.loss)
            best = BestIterate(victim, x, y, None, compared, self.seed)
            curve = Curve(self.steps)

            radius = self.eps * (SparseSteps if self.norm == "l1" else AutoSteps).first_radius

            def start(number: int) -> Tensor:
                return rim_start(x, self.norm, radius, start_source(self.seed, number, x.device))

            best.offer(torch.arange(len(x), device=x.device), x)
            for batch in climbs(best, x, self._targets(victim, x, y), start, curve):
                climb = self._steps(batch, victim.random)
                draw = draw_of_step(self.seed, batch.number)
                drive(victim, batch, climb, self.loss, best, curve, "improved", draw)
            return concluded(self, best, x, curve)

    def _steps(self, batch: Batch, noisy: bool) -> Climb:
        if self.norm == "l1":
            return SparseSteps(batch.x, batch.start, self.norm, self.eps, self.steps, noisy)
        return AutoSteps(batch.x, batch.start, self.norm, self.eps, self.steps)

    def _targets(self, victim: Victim, x: Tensor, y: Tensor) -> list[Tensor | None]:
        """Return the (N,) target classes of each climb in turn; None for an untargeted climb."""
        if not self.targeted:
            return [None] * self.restarts
        columns = likeliest_others(victim, x, y, self.seed)[:, : self.n_targets].unbind(1)
        return [*columns] * self.restarts
