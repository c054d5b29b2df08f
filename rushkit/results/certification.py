"""Results of a certification."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from rushkit.recipe.schema import Noise, Norm, Rule
from rushkit.results.attacks import Deviation, Protocol
from rushkit.results.base import (
    Choice,
    Count,
    Number,
    Record,
    Share,
    Size,
    StageResults,
    check_same_length,
    check_share,
)

# A fixed number of draws, a test for each radius, or a count over all splits.
Mode = Literal["fixed", "sequential", "splits"]


class Rate(Record):
    """A share of images with its 95% Wilson interval.

    Attributes:
        count: How many images.
        total: Of how many.
        value: ``count / total``.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    count: Count
    total: Number
    value: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_share(self.value, self.count, self.total, self.low, self.high)
        return self


class CertifiedRate(Record):
    """The share of images that are certified at a radius.

    Attributes:
        radius: Pixel units.
        count, total, value, low, high: As in ``Rate``.
    """

    radius: Size
    count: Count
    total: Number
    value: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_share(self.value, self.count, self.total, self.low, self.high)
        return self


class EmpiricalRow(Record):
    """What an attack of another run found on the certified images.

    Attributes:
        run: Folder of the attack's run.
        attack: Registered name of the attack.
        protocol: The protocol whose settings it ran with.
        deviations: Settings that differ from the protocol's own.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        samples: m, the number of draws in each vote.
        votes: T, the number of votes on each image.
        rule: Of the votes and of the certificates.
        images: Images that both looked at.
        empirical: Mean number of them that are right under attack.
        certified: How many of them are certified at ``eps``.
        compared: How many of those keep half of the noise for certain.
        broken: Indices of the compared images that the attack broke in every vote.
        chance: How likely so many are if the certificates are true, at most; None under the mean rule.
        contradicts: Whether that is too unlikely.
    """

    run: str
    attack: str
    protocol: Protocol
    deviations: list[Deviation]
    norm: Norm
    eps: Size
    samples: Number
    votes: Number
    rule: Rule
    images: Number
    empirical: Size
    certified: Count
    compared: Count
    broken: list[Count]
    chance: Share | None
    contradicts: bool


class AttackAgreement(Record):
    """Whether attacks contradict the certificates.

    Attributes:
        agree_with_attacks: Whether none does.
        messages: A sentence for each that does.
    """

    agree_with_attacks: bool
    messages: list[str]


class Seal(Record):
    """How far a log had come.

    Attributes:
        lines: How many lines it had.
        chain: The hash of the last one; empty where there was none.
    """

    lines: Count
    chain: str


class DrawsUsed(Record):
    """Draws that sequential tests took.

    Attributes:
        mean: Over images.
        most: Of one image.
        images: (N,) of each image.
    """

    mean: Size
    most: Count
    images: list[Count]


class CertificationOutcomes(Record):
    """The certificate of every image.

    Attributes:
        images: (N,) indices in the data set's split.
        labels: (N,) true classes.
        predicted: (N,) certified classes; -1: none.
        p_lower: (N,) lower bounds on the probability of the class.
        p_upper: (N,) upper bounds on that of the runner-up.
        radius: (N,) certified radii, pixel units.
    """

    images: list[Count]
    labels: list[Count]
    predicted: list[Choice]
    p_lower: list[Share]
    p_upper: list[Share]
    radius: list[Size]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_same_length(self.images, self.labels, self.predicted, self.p_lower, self.p_upper, self.radius)
        return self


class Certification(StageResults):
    """Results of ``rushkit certify``; docs/certificates.md explains them.

    Attributes:
        recipe: The recipe's name.
        source: Path of the checkpoint, or of the run whose counts these are.
        model: Hash of the checkpoint.
        data: Data set and split.
        noise: The smoothing distribution.
        mode: The procedure: a fixed number of draws, sequential tests, or all splits.
        norm: Norm of the ball.
        rule: What is certified: the majority or the mean.
        bound: How the probability is bounded.
        alpha: Probability, for each image, that its certificate is false.
        samples: Draws that bound the probability, at most.
        selection: Draws that choose the class.
        two_class: Whether the runner-up is bounded too.
        images: Number of images.
        smoothed: Share of images that all draws together classify rightly.
        accuracy: Share whose certified class is right, at any radius.
        abstained: Share without a certificate.
        average_radius: Mean over images, 0 where the class is wrong or withheld.
        average_radius_error: Its standard error; None for a single image.
        certified: Share that is right and certified, by radius.
        reach: The largest radius that so many draws can show.
        limit: The radius that no number of draws exceeds; None: there is none.
        covers: What the certificates cover, in words.
        assumptions: What they rest on, in sentences.
        warnings: Warnings about the model.
        empirical: Attacks on the same images.
        checks: Whether these contradict the certificates.
        draws: All draws.
        seconds: Seconds of work.
        counts: How far the log of the counts had come.
        draws_used: Of sequential tests; None in other modes.
        undecided: Images of which a sequential test is undecided; None in other modes.
        outcomes: The certificate of every image.
    """

    stage: Literal["certify"] = "certify"
    recipe: str
    source: str
    model: str
    data: str
    noise: Noise
    mode: Mode
    norm: Norm
    rule: Rule
    bound: str
    alpha: Share
    samples: Number
    selection: Count
    two_class: bool
    images: Number
    smoothed: Rate
    accuracy: Rate
    abstained: Rate
    average_radius: Size
    average_radius_error: Size | None
    certified: list[CertifiedRate]
    reach: Size
    limit: Size | None
    covers: str
    assumptions: list[str]
    warnings: list[str]
    empirical: list[EmpiricalRow]
    checks: AttackAgreement
    draws: Count
    seconds: Size
    counts: Seal
    draws_used: DrawsUsed | None = None
    undecided: Count | None = None
    outcomes: CertificationOutcomes
