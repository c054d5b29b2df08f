"""Results of an audit."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rushkit.recipe.schema import Noise, Norm
from rushkit.results.base import Count, Number, Precision, Record, Share, Size, StageResults, check_same_length
from rushkit.results.notes import Check

# The check that reports the smallest drop in accuracy that an audit of so many images can detect.
POWER_CHECK = "RK119"
# The check that a claimed accuracy fails: it says nothing against the attacks.
CLAIM_CHECK = "RK127"


class AuditSettings(Record):
    """The ball and the budgets of an audit.

    Attributes:
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        steps: Gradient steps of the base attack.
        eot: Draws of noise for each gradient.
        queries: Queries of Square.
        planted: Number of images with a planted example.
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
        label: Name of the attack.
        value: The value of the setting that its sweep varies.
        share: (N,) share of correct votes on each attacked image.
        accuracy: Mean of these shares.
    """

    label: str
    value: Size
    share: list[Share]
    accuracy: Share


class AuditSweeps(Record):
    """Sweeps of attacks that differ in one setting.

    Attributes:
        steps: Attacks with different numbers of steps.
        eot: Attacks with different numbers of draws per gradient.
        eps: Attacks with different radii.
        losses: Attacks with different losses.
    """

    steps: list[AuditPoint]
    eot: list[AuditPoint]
    eps: list[AuditPoint]
    losses: list[AuditPoint]


class AuditAttacks(Record):
    """Accuracy under single attacks; None if one was not measured.

    Attributes:
        clean: Without an attack.
        fixed: Under an attack on one fixed panel of noise.
        single_step: Under a single large step.
        random_noise: Under random noise of the attack's size, without gradients.
        square: Under Square, a black-box attack.
        apgd: Under the steps of APGD.
        training: On training images that are right before it, under the base attack on the margin.
        best: On the worst white-box version of each image, scored by fresh votes.
        strongest: On the worst version of all attacks within eps, those without gradients included, scored likewise.
        minimum_norm: Under each attack that minimises the distance.
    """

    clean: AuditPoint | None = None
    fixed: AuditPoint | None = None
    single_step: AuditPoint | None = None
    random_noise: AuditPoint | None = None
    square: AuditPoint | None = None
    apgd: AuditPoint | None = None
    training: AuditPoint | None = None
    targeted: list[AuditPoint] = Field(default_factory=list)
    second_opinion: AuditPoint | None = None
    best: AuditPoint | None = None
    strongest: AuditPoint | None = None
    minimum_norm: list[AuditPoint] = Field(default_factory=list)


class AuditGradients(Record):
    """Input gradients of −log p̄ at the attacked images.

    Attributes:
        zero: (N,) whether every entry is 0.
        zero_entries: Share of entries that are 0, of the images whose gradients are finite.
        cosines: For each image with two nonzero gradients from independent draws, the cosine between them.
        saturated: Share of draws whose −log p of the label is exactly 0 in float32, and so has no gradient.
        not_finite: (N,) whether a gradient is NaN or infinite.
    """

    zero: list[bool]
    zero_entries: Share
    cosines: list[float]
    saturated: Share
    not_finite: list[bool]


class Audit(StageResults):
    """Results of ``rushkit audit``; docs/audit.md explains the checks.

    Attributes:
        recipe: The recipe's name.
        source: Path of the checkpoint.
        data: Data set and split.
        noise: The smoothing distribution.
        search_precision: Precision of the passes that search. Those that select and score are always float32.
        samples: m, the number of draws in each vote.
        settings: The ball and the budgets.
        claim: The share of all images that was said to stay right under attack; None if nothing was claimed.
        size: A sentence on what a radius means, if the images were resized; otherwise empty.
        checks: The verdicts of the checks.
        images: Number of images.
        attacked: Positions in the limited split of the images that are classified correctly before any attack.
        sweeps: Sweeps of attacks that differ in one setting.
        attacks: Single attacks.
        loss_curve: The base attack's mean loss at each step.
        gradients: Input gradients at the images; None if they could not be measured.
        passes: Passes of single images through the model, forward and backward; each draw counts.
        announced: The passes that were announced before the first attack.
    """

    stage: Literal["audit"] = "audit"
    recipe: str
    source: str
    data: str
    noise: Noise
    search_precision: Precision = "float32"
    samples: Number
    settings: AuditSettings
    claim: Share | None = None
    size: str
    checks: list[Check]
    images: Number
    attacked: list[Count]
    sweeps: AuditSweeps
    attacks: AuditAttacks
    loss_curve: list[float]
    gradients: AuditGradients | None
    passes: Count
    announced: Count

    @property
    def smallest_drop(self) -> float | None:
        """The smallest drop in accuracy between two attacks that the audit would warn about; None if it is unknown."""
        return next((check.figures.get("smallest_drop") for check in self.checks if check.code == POWER_CHECK), None)

    @property
    def refuted_claim(self) -> Check | None:
        """The check that refutes the claim; None if nothing was claimed, or the claim is not refuted."""
        return next((check for check in self.checks if (check.code, check.status) == (CLAIM_CHECK, "fail")), None)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        points = [*self.sweeps.steps, *self.sweeps.eot, *self.sweeps.eps, *self.sweeps.losses]
        check_same_length(self.attacked, *(point.share for point in points))
        return self
