"""Results of an audit."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from rushkit.recipe.schema import Noise, Norm
from rushkit.results.base import Count, Number, Record, Share, Size, StageResults, check_same_length
from rushkit.results.notes import Check

# The check that says what an audit of so many images can notice.
POWER_CHECK = "RK119"


class AuditSettings(Record):
    """What an audit spent.

    Attributes:
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        steps: Gradient steps of the base attack.
        eot: Draws of each gradient.
        queries: Of Square.
        planted: Images that get a planted example.
        seed: Seed of all draws.
    """

    norm: Norm
    eps: Size
    steps: Number
    eot: Number
    queries: Number
    planted: Number
    seed: int


class AuditPoint(Record):
    """The accuracy under one attack of an audit.

    Attributes:
        label: The attack.
        value: Its place in its sweep.
        share: (N,) share of votes that are right, of each attacked image.
        accuracy: Share of attacked images that are right.
    """

    label: str
    value: Size
    share: list[Share]
    accuracy: Share


class AuditSweeps(Record):
    """Attacks that differ in one setting.

    Attributes:
        steps: In the number of steps.
        eot: In the number of draws of a gradient.
        eps: In the radius.
        losses: In the loss.
    """

    steps: list[AuditPoint]
    eot: list[AuditPoint]
    eps: list[AuditPoint]
    losses: list[AuditPoint]


class AuditAttacks(Record):
    """Single attacks; None where one was not measured.

    Attributes:
        clean: No attack.
        fixed: On one panel of noise.
        single_step: One large step.
        random_noise: No gradient, only noise.
        square: Black box.
        best: The best white-box image of each, judged by fresh votes.
    """

    clean: AuditPoint | None = None
    fixed: AuditPoint | None = None
    single_step: AuditPoint | None = None
    random_noise: AuditPoint | None = None
    square: AuditPoint | None = None
    best: AuditPoint | None = None


class AuditGradients(Record):
    """Input gradients of −log p̄ at the attacked images.

    Attributes:
        zero: (N,) whether every entry is 0.
        zero_entries: Share of entries that are 0.
        cosines: Cosine between two gradients of independent draws, of each image that has two.
        saturated: Share of draws whose −log p of the label is exactly 0 in float32, and so has no gradient.
    """

    zero: list[bool]
    zero_entries: Share
    cosines: list[float]
    saturated: Share


class Audit(StageResults):
    """Results of ``rushkit audit``; docs/audit.md explains the checks.

    Attributes:
        recipe: The recipe's name.
        source: Path of the checkpoint.
        data: Data set and split.
        noise: The smoothing distribution.
        samples: m, the number of draws in each vote.
        settings: What was spent.
        size: A sentence on what a radius means, if the images were resized; otherwise empty.
        checks: What each check says.
        images: How many images there were.
        attacked: Places in the limited split of those that are right before any attack.
        sweeps: Attacks that differ in one setting.
        attacks: Single attacks.
        loss_curve: The base attack's mean loss at each step.
        gradients: At the images; None where they could not be measured.
    """

    stage: Literal["audit"] = "audit"
    recipe: str
    source: str
    data: str
    noise: Noise
    samples: Number
    settings: AuditSettings
    size: str
    checks: list[Check]
    images: Number
    attacked: list[Count]
    sweeps: AuditSweeps
    attacks: AuditAttacks
    loss_curve: list[float]
    gradients: AuditGradients | None

    @property
    def smallest_drop(self) -> float | None:
        """The smallest drop in accuracy between two attacks that the audit would warn of; None where it cannot say."""
        return next((check.figures.get("smallest_drop") for check in self.checks if check.code == POWER_CHECK), None)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        points = [*self.sweeps.steps, *self.sweeps.eot, *self.sweeps.eps, *self.sweeps.losses]
        check_same_length(self.attacked, *(point.share for point in points))
        return self
