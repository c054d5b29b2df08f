"""The options of objectives that attack their images before they train on them."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.attacks import Norm
from rushkit.attacks.ascend import Ball, BatchNormMode, Precision, Start, StepRule
from rushkit.errors import UsageError
from rushkit.recipe.radius import check_eps


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """A base for objectives with an inner attack, by default in l-inf 8/255 with 10 steps of 2/255 (Madry et al. 2018).

    Args:
        norm: Norm of the attack's ball: "linf", "l2" or "l1".
        eps: Radius of the ball, pixel units.
        step_size: Length of a step, pixel units; None: eps / 4 in l-inf, 2 eps / steps in l2 and l1.
        steps: Number of steps.
        start: Where the attack starts: "uniform" in the ball, "gaussian" with standard deviation 0.001, or "clean".
        attack_bn: BatchNorm in the attack: "eval", "batch" (statistics of the batch, running ones untouched), or
            "train" (they move).
        attack_rule: Steps along the "sign" of the gradient (in l2 its direction), or by "adam".
        attack_precision: "auto": the training's own, but float32 for steps below 1/255; or "float32".

    Raises:
        UsageError: a radius or step that is not in pixel units, no steps, or a clean start that has no gradient.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    step_size: float | None = None
    steps: int = 10
    start: Start = "uniform"
    attack_bn: BatchNormMode = "eval"
    attack_rule: StepRule = "sign"
    attack_precision: Precision = "auto"

    def __post_init__(self) -> None:
        check_eps(self.norm, self.eps)
        if self.step_size is not None:
            # Adam's learning rate is no length, but as little can it be longer than the box.
            check_eps(self.norm, self.step_size, name="step_size")
        if self.steps < 1:
            raise UsageError(f"steps must be at least 1 (got {self.steps})", "eps = 0 trains without an attack")
        if self.flat_at_start and self.start == "clean" and self.eps:
            raise UsageError(
                "start = clean gives this attack no gradient: its loss is flat at the clean image",
                "start = uniform, or gaussian",
            )

    @property
    def flat_at_start(self) -> bool:
        """Whether the loss of the attack has no gradient at the clean image, as a divergence from it has none."""
        return False

    def ball(self, eps: float | None = None) -> Ball:
        """Return the ball and the steps of the attack; ``eps`` stands for another radius, as in a warm-up."""
        eps = self.eps if eps is None else eps
        step_size = (
            (eps / 4 if self.norm == "linf" else 2 * eps / self.steps) if self.step_size is None else self.step_size
        )
        return Ball(
            self.norm,
            eps,
            step_size,
            self.steps,
            self.start,
            self.attack_bn,
            self.attack_rule,
            self.attack_precision,
        )
