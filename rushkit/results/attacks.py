"""Results of attacks: robust accuracy by attack, protocol and number of draws, and the outcome of every image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self
from typing import Protocol as Abstract

from pydantic import Field, JsonValue, model_validator

from rushkit.errors import shorten
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Noise, Norm, Rule
from rushkit.results.adaptive import OwnAttackUsed, SurrogateUsed
from rushkit.results.base import (
    SLACK,
    Choice,
    Climb,
    Count,
    Number,
    Precision,
    Record,
    Share,
    Size,
    StageResults,
    check_same_length,
)
from rushkit.results.distances import SmallestRow
from rushkit.results.notes import Note
from rushkit.results.rounds import AttackRound, Change
from rushkit.results.taken import TakenByRule, TakenFor, check_known, check_votes
from rushkit.results.unions import UnionRow, unfailing, union_shares
from rushkit.results.words import accuracy_words

# What a run can be asked for, and how a row is labelled: ``weaker`` is an attack that ran under strict with settings
# that make it weaker.
ProtocolName = Literal["paper", "strict", "published"]
Protocol = Literal["paper", "strict", "weaker", "published"]
# The versions of the protocols that this package runs. Rows of version 1 of strict do not name their version.
VERSIONS: Mapping[str, int] = {"paper": 1, "strict": 2, "weaker": 2, "published": 1}


class Variant(Abstract):
    """The protocol of a row, with its version and effort."""

    @property
    def protocol(self) -> str:
        """The name of the protocol, or ``weaker``."""
        ...

    @property
    def version(self) -> int:
        """The protocol's version."""
        ...

    @property
    def effort(self) -> int:
        """How much of the protocol's budget was spent: 1, 2 or 4 times."""
        ...


def variant_words(row: Variant) -> str:
    """Return ``"strict"``, or ``"strict version 1 effort 2"`` where these are not the ones that run by default.

    Rows with different words are different measurements, which no table puts into one row.
    """
    version = f" version {row.version}" if row.version != VERSIONS.get(row.protocol, row.version) else ""
    return f"{row.protocol}{version}{f' effort {row.effort}' if row.effort != 1 else ''}"


class RuleFigures(Record):
    """Robust accuracy under one rule of voting.

    Attributes:
        accuracy: Mean over images and votes.
        low: Lower end of its 95% Wilson interval.
        high: Upper end of the interval.
        clean_accuracy: The same mean for the clean images.
        any_failure_accuracy: Share of images that are right in all votes.
        flip_rate: Share of votes that differ from the image's most frequent outcome.
    """

    accuracy: Share
    low: Share
    high: Share
    clean_accuracy: Share
    any_failure_accuracy: Share
    flip_rate: Share

    @model_validator(mode="after")
    def _lies_within(self) -> Self:
        if not self.low - SLACK <= self.accuracy <= self.high + SLACK:
            raise ValueError("the share lies outside its interval")
        return self


class VoteOutcomes(Record):
    """The votes on every image of an attack: those of another model, or of another number of draws.

    Attributes:
        images: (N,) positions in the limited split.
        right: Rule -> (N,) number of correct votes on the adversarial image.
        clean_right: Rule -> (N,) number of correct votes on the clean image.
        taken_for: Rule -> what the same votes take the adversarial images for. Empty in records that did not keep it.
        clean_taken_for: Rule -> what they take the clean images for; likewise.
    """

    images: list[Count]
    right: dict[Rule, list[Count]]
    clean_right: dict[Rule, list[Count]]
    taken_for: TakenByRule = Field(default_factory=dict)
    clean_taken_for: TakenByRule = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_same_length(self.images, *self.right.values(), *self.clean_right.values())
        return self


class AttackOutcomes(Record):
    """The outcome of every image under an attack.

    Attributes:
        images: (N,) positions in the limited split.
        right: Rule -> (N,) number of correct votes on the adversarial image.
        clean_right: Rule -> (N,) number of correct votes on the clean image.
        labels: (N,) true classes.
        chosen: (N,) number of the candidate whose image was kept; -1 for the clean image.
        indices: (N,) the images' indices in the data set's split, before any limit.
        first_broken: Rule -> (N,) number of the climb, counted from 1, that was the first to break the image under it;
            0 if the clean image is wrong, -1 if no climb broke it, -2 if a version from a smaller ball did. The user's
            own attacks count on from the last climb. Empty for an attack without rounds.
        last_fall: Rule -> (N,) by how much the last doubling of the search made a right vote of m draws less probable,
            as read from the draws of the selection panel; 0 if it found no worse version. Empty for an attack with
            fewer than two doublings.
        queries: (N,) after how many queries of the model the attack found an image broken, as it saw it; 0: it was
            wrong before; -1: it was not broken. Empty for an attack that does not count queries.
        taken_for: Rule -> what the same votes take the adversarial images for. Empty in records that did not keep it.
        clean_taken_for: Rule -> what they take the clean images for; likewise.
    """

    images: list[Count]
    right: dict[Rule, list[Count]]
    clean_right: dict[Rule, list[Count]]
    labels: list[Count]
    chosen: list[Choice]
    indices: list[Count]
    first_broken: dict[Rule, list[Climb]] = Field(default_factory=dict)
    last_fall: dict[Rule, list[Share]] = Field(default_factory=dict)
    queries: list[Choice] = Field(default_factory=list)
    taken_for: TakenByRule = Field(default_factory=dict)
    clean_taken_for: TakenByRule = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        votes = *self.right.values(), *self.clean_right.values()
        check_same_length(self.images, self.labels, self.chosen, self.indices, *votes, *self.first_broken.values())
        check_same_length(self.images, *self.last_fall.values(), self.queries)
        return self

    def unbroken_after(self, queries: int) -> float:
        """Return the share of images that are not broken after so many queries of the model."""
        broken = sum(0 <= number <= queries for number in self.queries)
        return 1 - broken / len(self.queries)


class Transfer(Record):
    """How another model, under its own noise, classifies the images of an attack.

    Attributes:
        model: Path of its checkpoint.
        hash: Hash of its checkpoint.
        noise: Its smoothing distribution.
        samples: m, the number of draws in each vote.
        votes: T, the number of votes on each image.
        images: Number of images.
        rules: Rule -> robust accuracy under it.
        outcomes: Its votes on every image.
    """

    model: str
    hash: str
    noise: Noise
    samples: Number
    votes: Number
    images: Number
    rules: dict[Rule, RuleFigures]
    outcomes: VoteOutcomes

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        _check_figures(self.images, self.votes, self.rules, self.outcomes.right)
        return self


class Rescored(Record):
    """How votes of another number of draws classify the images that were attacked for the m of the row.

    Attributes:
        samples: Number of draws in each of these votes; the row says how many votes there are.
        rules: Rule -> robust accuracy under it.
        outcomes: The votes on every image.
    """

    samples: Number
    rules: dict[Rule, RuleFigures]
    outcomes: VoteOutcomes


class TargetClass(Record):
    """The class that images were to be taken for.

    Attributes:
        index: Its index.
        name: Its name.
    """

    index: Count
    name: str


class Candidate(Record):
    """One attack of a protocol.

    Attributes:
        label: The name that reports use, such as ``"pgd nll"``.
        options: Its options other than norm and eps.
    """

    label: str
    options: dict[str, JsonValue]


class Deviation(Record):
    """A setting that differs from the protocol's own.

    Attributes:
        name: Name of the option; ``eot`` for the draws per gradient, ``type`` for an attack outside the protocol.
        value: Its value.
        own: The protocol's own value; None where it has none.
        weaker: Whether it may make the attack weaker than the protocol's.
    """

    name: str
    value: JsonValue
    own: JsonValue
    weaker: bool


class AttackRow(Record):
    """One attack under one protocol and one number of draws.

    Attributes:
        split: Data set and split, such as ``"cifar10/test"``.
        attack: Registered name of the attack.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        target: The class that the images, none of them of it, were to be taken for; a vote is right here if it does
            not give that class. None: an attack succeeds by any other class than the label.
        eight_bit: Whether every version that was compared has 8-bit pixels.
        smaller: Radius of the ball whose versions were tried first, pixel units; None: there was none.
        protocol: The protocol whose settings it ran with.
        version: Version of the protocol.
        effort: How much of the protocol's budget was spent: 1, 2 or 4 times.
        samples: m, the number of draws in each vote; the attack knows it.
        deviations: Settings that differ from the protocol's own; of a published attack, all that its recipe writes.
        votes: T, the number of votes of fresh noise on each image.
        gradient_samples: Draws in each gradient.
        candidates: The attacks that ran; each image keeps the version that fools the model most. The last of them are
            the smaller ball, if there was one, and the user's own.
        own: The user's own attacks, which are the last of the candidates.
        rounds: The climbs of a cascade, in order, with every number that defines them; empty for other attacks.
        selection: The sizes of the panels on which a cascade compares two versions of an image, in order; empty for
            other attacks.
        thresholds: What decides within a cascade: ``agreement``, the cosine between the gradients of two half panels
            below which the draws are doubled; ``clearly``, the standard errors that end a race early; ``settled``, the
            standard deviations by which a vote is lost when the image leaves. Empty for other attacks.
        search_precision: Precision of the passes that search. Those that select and score are always float32.
        surrogate: The stand-in whose slopes were followed; None: the model's own were.
        convergence: Rule -> how far the last doubling of the passes brought the accuracy down, as the estimate for the
            next; empty where that is not known.
        images: Number of images.
        rules: Rule -> robust accuracy under it.
        outcomes: The outcome of every image.
        seconds: Seconds of work.
        image_forwards: Forward passes of single images through the model.
        image_backwards: Backward passes of single images.
        contributions: Attack -> number of images that it was the first to break.
        notes: Notes that qualify the figures.
        saved: Path of the adversarial images, relative to the run's folder; empty if they were not kept.
        transfer: How another model classifies the images; None if no other model was queried.
        rescored: How votes of other numbers of draws classify the same images.
    """

    split: str
    attack: str
    norm: Norm
    eps: Size
    target: TargetClass | None = None
    eight_bit: bool = False
    smaller: Size | None = None
    protocol: Protocol
    version: Number = 1
    effort: Number = 1
    samples: Number
    deviations: list[Deviation]
    votes: Number
    gradient_samples: Number
    candidates: list[Candidate]
    own: list[OwnAttackUsed] = Field(default_factory=list)
    rounds: list[AttackRound] = Field(default_factory=list)
    selection: list[Number] = Field(default_factory=list)
    thresholds: dict[str, Size] = Field(default_factory=dict)
    search_precision: Precision = "float32"
    surrogate: SurrogateUsed | None = None
    convergence: dict[Rule, Change] = Field(default_factory=dict)
    images: Number
    rules: dict[Rule, RuleFigures]
    outcomes: AttackOutcomes
    seconds: Size
    image_forwards: Count
    image_backwards: Count
    contributions: dict[str, Count]
    notes: list[Note]
    saved: str = ""
    transfer: Transfer | None = None
    rescored: list[Rescored] = Field(default_factory=list)

    def words(self) -> str:
        """Return ``"pgd l-inf 8/255 strict, m = 64"``, with the class that a targeted attack leads to."""
        return f"{self.in_ball()}{self.target_words()} {variant_words(self)}, m = {self.samples}"

    def in_ball(self) -> str:
        """Return ``"pgd l-inf 8/255"``."""
        return f"{self.attack} {ball_words(self.norm, self.eps)}"

    def target_words(self) -> str:
        """Return ``" to class 'cat'"``; empty without a target."""
        return "" if self.target is None else f" to class {shorten(self.target.name)!r}"

    def every_taken_for(self) -> Iterator[TakenFor]:
        """Yield what all its votes take the images for: its own, those of other numbers of draws and of models."""
        voted: list[AttackOutcomes | VoteOutcomes] = [self.outcomes]
        voted += [further.outcomes for further in self.rescored]
        voted += [self.transfer.outcomes] if self.transfer is not None else []
        for outcomes in voted:
            yield from outcomes.taken_for.values()
            yield from outcomes.clean_taken_for.values()

    def rescored_words(self) -> list[str]:
        """Return a sentence for each further number of draws that voted on the images."""
        return [
            f"{self.words()}: votes of m = {further.samples} on the same images leave "
            f"{accuracy_words(further.rules['majority'])} %"
            for further in self.rescored
        ]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        labels = self.outcomes.labels
        target = None if self.target is None else self.target.index
        _check_figures(self.images, self.votes, self.rules, self.outcomes.right)
        check_votes(self.outcomes, labels, self.votes, target)
        for further in self.rescored:
            _check_figures(self.images, self.votes, further.rules, further.outcomes.right)
            check_votes(further.outcomes, labels, self.votes, target)
        if self.transfer is not None:
            # Another model is always asked for the label.
            check_votes(self.transfer.outcomes, labels, self.transfer.votes)
        if self.protocol == "strict" and any(deviation.weaker for deviation in self.deviations):
            raise ValueError("an attack that is weaker than strict is called strict")
        last = self.candidates[len(self.candidates) - len(self.own) :]
        if [used.code for used in self.own] != [candidate.label for candidate in last]:
            raise ValueError("the attacks of one's own are not the last candidates")
        rounds = [number for numbers in self.outcomes.first_broken.values() for number in numbers]
        if max(rounds, default=-1) > len(self.rounds) + len(self.own):
            raise ValueError("an image was broken in a round that the row does not have")
        if self.outcomes.last_fall and max((part.doubling for part in self.rounds), default=0) < 2:
            raise ValueError("a last doubling is recorded, and the row has no two of them")
        return self


class FailedAttack(Record):
    """An attack that raised an error.

    Attributes:
        attack: Registered name of the attack.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        protocol: The protocol whose settings it ran with.
        samples: m, the number of draws in each vote.
        message: The message of the error.
        hint: The hint of the error, if it has one.
    """

    attack: str
    norm: Norm
    eps: Size
    protocol: Protocol
    samples: Number
    message: str
    hint: str | None

    def words(self) -> str:
        """Return ``"apgdt l-inf 8/255 strict, m = 1 failed: ..."``."""
        return f"{self.in_ball()} {self.protocol}, m = {self.samples} failed: {self.message}"

    def in_ball(self) -> str:
        """Return ``"apgdt l-inf 8/255"``."""
        return f"{self.attack} {ball_words(self.norm, self.eps)}"


class Attacks(StageResults):
    """Results of ``rushkit attack``.

    Attributes:
        recipe: The recipe's name.
        source: Path of the attacked checkpoint.
        data: The data set.
        noise: The smoothing distribution.
        attacks: A row for each attack, protocol and number of draws.
        classes: Names of the model's classes; empty in records that did not keep what images are taken for.
        targeted: The rows of attacks towards a class, whose figures are no robust accuracy.
        smallest: The smallest distances that break each image, of attacks that searched these.
        failed: The attacks that raised an error, and so have no row.
        unions: What attacks in balls of different norms leave together.
    """

    stage: Literal["attack"] = "attack"
    recipe: str
    source: str
    data: str
    noise: Noise
    classes: list[str] = Field(default_factory=list)
    attacks: list[AttackRow]
    targeted: list[AttackRow] = Field(default_factory=list)
    smallest: list[SmallestRow] = Field(default_factory=list)
    failed: list[FailedAttack]
    unions: list[UnionRow] = Field(default_factory=list)

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        if any(row.target is not None for row in self.attacks) or any(row.target is None for row in self.targeted):
            raise ValueError("rows with a target and rows without one are kept apart")
        for union in self.unions:
            _check_union(union, self.attacks)
        for row in (*self.attacks, *self.targeted):
            for taken in row.every_taken_for():
                check_known([*taken.classes, *row.outcomes.labels], len(self.classes))
        return self


def _check_union(union: UnionRow, attacks: list[AttackRow]) -> None:
    """Raise ValueError if the figures of a union do not follow from its rows."""
    if max(union.rows) >= len(attacks):
        raise ValueError("a union names a row that is not there")
    rows = [attacks[place] for place in union.rows]
    alike = {
        (row.split, row.protocol, row.version, row.effort, row.samples, row.votes, *row.outcomes.indices)
        for row in rows
    }
    named = (union.split, union.protocol, union.version, union.effort, union.samples, union.votes)
    if alike != {(*named, *rows[0].outcomes.indices)} or union.images != rows[0].images:
        raise ValueError("the rows of a union differ in more than the attack and the ball")
    for rule, figures in union.rules.items():
        right = [row.outcomes.right.get(rule, []) for row in rows]
        if {len(counts) for counts in right} != {union.images}:
            raise ValueError(f"a row of a union has no outcomes under {rule}")
        share = sum(union_shares(right, union.votes)) / union.images
        if abs(share - figures.accuracy) > SLACK or unfailing(right, union.votes) != figures.any_failure_accuracy:
            raise ValueError(f"the accuracy of a union under {rule} is not that of its images")


def _check_figures(
    images: int, votes: int, rules: dict[Rule, RuleFigures], right_by_rule: dict[Rule, list[int]]
) -> None:
    """Raise ValueError if an accuracy does not follow from the votes on the images."""
    for rule, right in right_by_rule.items():
        if len(right) != images:
            raise ValueError(f"there are outcomes of {len(right)} images, not of {images}")
        if rule not in rules or max(right) > votes or abs(sum(right) / votes / images - rules[rule].accuracy) > SLACK:
            raise ValueError(f"the accuracy under {rule} is not that of the images")
