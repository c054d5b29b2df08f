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
    Precision,
    Record,
    Share,
    Size,
    StageResults,
    check_same_length,
    check_share,
)
from rushkit.results.together import Together, together_at
from rushkit.rounding import counted

# A fixed number of draws, a sequential test for each radius, or a count over all splits.
Mode = Literal["fixed", "sequential", "splits"]


class Rate(Record):
    """A share of images with its 95% Wilson interval.

    Attributes:
        count: Number of images in the share.
        total: Number of images in all.
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
    """The share of images that are right and certified at a radius.

    Attributes:
        radius: Pixel units.
        count, total, value, low, high: As in ``Rate``; each image is certified with its own alpha.
        strict: Number of images that are right and certified at the radius with ``Together.strict_alpha``.
        proved: Number of images that are right and robust at the radius, at least: of all these images together, and
            at all radii at once, but for one chance of alpha.
        proved_value: ``proved / total``.
    """

    radius: Size
    count: Count
    total: Number
    value: Share
    low: Share
    high: Share
    strict: Count
    proved: Count
    proved_value: Share

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_share(self.value, self.count, self.total, self.low, self.high)
        check_share(self.proved_value, self.proved, self.total, 0.0, self.value)
        return self


class EmpiricalRow(Record):
    """The result of an attack from another run on the certified images.

    Attributes:
        run: Folder of the attack's run.
        attack: Registered name of the attack.
        protocol: The protocol whose settings it ran with.
        version: Version of the protocol.
        effort: How much of the protocol's budget was spent: 1, 2 or 4 times.
        deviations: Settings that differ from the protocol's own.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        samples: m, the number of draws in each vote.
        votes: T, the number of votes on each image.
        rule: The voting rule of both the attack and the certificates.
        images: Number of images that were both attacked and certified.
        empirical: Mean number of them that are classified correctly under attack.
        certified: Number of them that are certified at ``eps``.
        compared: Number of those whose class is certified to keep at least half of the noise.
        broken: Indices of the compared images that lost every vote under the attack.
        chance: Upper bound on the probability of so many losses if the certificates are true; None under the mean rule.
        contradicts: Whether that is too unlikely.
    """

    run: str
    attack: str
    protocol: Protocol
    version: Number = 1
    effort: Number = 1
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
        agree_with_attacks: Whether no attack contradicts them.
        messages: A sentence for each attack that does.
    """

    agree_with_attacks: bool
    messages: list[str]


class Seal(Record):
    """The state of a log: its length and its last hash.

    Attributes:
        lines: Number of lines.
        chain: Hash of the last line; empty if there is none.
    """

    lines: Count
    chain: str


class DrawsUsed(Record):
    """The number of draws that the sequential tests took.

    Attributes:
        mean: Mean over images.
        most: Maximum over images.
        images: (N,) number for each image.
    """

    mean: Size
    most: Count
    images: list[Count]


class CertificationOutcomes(Record):
    """The certificate of every image.

    Attributes:
        images: (N,) indices in the data set's split.
        labels: (N,) true classes.
        predicted: (N,) certified classes; -1 for an abstention.
        p_lower: (N,) lower bounds on the probability of the class.
        p_upper: (N,) upper bounds on the probability of the runner-up.
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
        precision: Precision of the network's passes.
        mode: The procedure: a fixed number of draws, sequential tests, or all splits.
        norm: Norm of the ball.
        rule: The certified rule: majority vote or mean softmax.
        bound: How the probability is bounded.
        theorem: The theorem that turns the bound into a radius, in a phrase.
        alpha: Probability, for each image, that its certificate is false.
        samples: Largest number of draws that bound the probability.
        selection: Number of draws that choose the class.
        two_class: Whether the runner-up is bounded too.
        images: Number of images.
        smoothed: Share of images that all draws together classify correctly.
        accuracy: Share whose certified class is right, at any radius.
        abstained: Share without a certificate.
        average_radius: Mean radius over all images, counted as 0 if the class is wrong or the procedure abstains.
        average_radius_error: Its standard error; None for a single image.
        certified: Share that is right and certified, by radius.
        together: What the certificates of all images say together.
        reach: The largest radius that so many draws can certify.
        limit: The radius that no number of draws can exceed; None if there is no such limit.
        covers: A description of what the certificates cover.
        assumptions: The assumptions behind them, in sentences.
        warnings: Warnings about the model.
        empirical: Results of attacks on the same images.
        checks: Whether these contradict the certificates.
        draws: Total number of draws.
        seconds: Seconds of work.
        counts: The state of the log of counts.
        draws_used: Draws of the sequential tests; None in other modes.
        undecided: Number of images with an undecided sequential test; None in other modes.
        outcomes: The certificate of every image.
    """

    stage: Literal["certify"] = "certify"
    recipe: str
    source: str
    model: str
    data: str
    noise: Noise
    precision: Precision = "float32"
    mode: Mode
    norm: Norm
    rule: Rule
    bound: str
    theorem: str
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
    together: Together
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

    @property
    def method(self) -> str:
        """How it was certified, in words: the probability of a false certificate, bound, draws and theorem."""
        bound = "two classes by " * self.two_class + self.bound + " of the mean rule" * (self.rule == "mean")
        drawn = counted(self.samples, "draw")
        draws = {
            "fixed": f"alpha {self.alpha:g} for each image, {bound}, {drawn}",
            "sequential": f"alpha {self.alpha:g} for each image, {bound}, tests of at most {drawn}",
            "splits": f"exact, all {self.samples} splits",
        }[self.mode]
        return f"{draws}; theorem: {self.theorem}"

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        outcomes = self.outcomes
        if not len(outcomes.images) == self.images == self.accuracy.total:
            raise ValueError(f"there are outcomes of {len(outcomes.images)} images, and not {self.images}")
        if self.together != together_at(self.alpha, self.images):
            raise ValueError("its figures for all images together are not those of its alpha")
        rows = zip(outcomes.predicted, outcomes.labels, outcomes.radius, strict=True)
        right = [radius for predicted, label, radius in rows if predicted == label]
        for row in self.certified:
            if (row.count, row.total) != (sum(radius >= row.radius for radius in right), self.images):
                raise ValueError(f"not {row.count} of {row.total} images are right and certified at {row.radius}")
            if row.proved != self.together.proved(row.count, row.strict):
                raise ValueError(f"not {row.proved} of {row.total} images are proved together at {row.radius}")
        return self
