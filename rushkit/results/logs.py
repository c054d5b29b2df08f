"""The lines of the logs that long evaluations keep: a record of the subject, and one for each block of work."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from rushkit.recipe.schema import Corruption, Data, Noise, Norm, Rule
from rushkit.results.base import Choice, Climb, Count, Number, Precision, Record, Share, Size
from rushkit.results.certification import Mode
from rushkit.results.notes import Note
from rushkit.results.taken import TakenByRule
from rushkit.results.threats import ByRule, Strength

Uniform = Annotated[float, Field(gt=0, le=1)]

# More than any split has: the indices of a split are listed in memory, and a log may come from anybody.
MOST_IMAGES = 10**8


class CountsSubject(Record):
    """Everything that the counts of a certification depend on.

    Attributes:
        data: The recipe's data section.
        split: Name of the data set's split.
        limit: Largest number of images to certify; 0 means all.
        skip: Every ``skip``-th image is certified.
        noise: The smoothing distribution.
        seed: Seed of all draws.
        selection: Number of draws that choose the class of an image.
        model: Hash of the checkpoint.
        precision: Precision of the forward passes.
        images: Hash of the images, their indices and labels.
        of: Number of images in the split.
        dim: Number of values in an image, C * H * W.
        classes: Names of the classes.
        samples: Largest number of draws that bound the probability.
        mode: The procedure: a fixed number of draws, sequential tests, or all splits.
        looks: The numbers of draws of an image after which its sequential tests are evaluated; empty in other modes.
        warnings: Warnings about the model.
        size: A sentence on what a radius means, if the images were resized; otherwise empty.
        unreadable: The indices of images that were to be certified and could not be read.
    """

    data: Data
    split: str
    limit: Count
    skip: Number
    noise: Noise
    seed: int
    selection: Count
    model: str
    precision: Precision
    images: str
    of: Annotated[int, Field(ge=0, le=MOST_IMAGES)]
    dim: Number
    classes: list[str]
    samples: Number
    mode: Mode
    looks: list[Number] = Field(default_factory=list)
    warnings: list[str]
    size: str
    unreadable: list[Count] = Field(default_factory=list)


class Selection(Record):
    """Draws that choose the classes of some images.

    Attributes:
        images: (N,) indices in the data set's split.
        labels: (N,) true classes.
        uniforms: (N,) the uniform draw that the randomized bound of each image uses.
        votes: (N, K) how often each class had the largest logit.
        scores: (N, K) sums of the confidences, in units of 1/2²⁰.
        drawn: Total number of draws for these images.
        seconds: Seconds of work.
    """

    part: Literal["selection"] = "selection"
    images: list[Count]
    labels: list[Count]
    uniforms: list[Uniform]
    votes: list[list[Count]]
    scores: list[list[Count]]
    drawn: Count
    seconds: Size


class Estimation(Record):
    """Draws that bound the probability of the classes that were chosen.

    Attributes:
        images: (N,) indices in the data set's split.
        start: Number of the first draw of each image.
        stop: One past the last draw.
        votes: (N, K) how often each class had the largest logit.
        scores: (N,) summed confidence in the class with the largest mean softmax in the selection draws, in units of
            1/2²⁰.
        squares: (N,) sum of its squares, in units of 1/2⁴⁰.
        drawn: Total number of draws for these images.
        seconds: Seconds of work.
    """

    part: Literal["estimation"] = "estimation"
    images: list[Count]
    start: Count
    stop: Number
    votes: list[list[Count]]
    scores: list[Count]
    squares: list[Count]
    drawn: Count
    seconds: Size


class Splits(Record):
    """Votes over all splits of some images.

    Attributes:
        images, labels, votes, scores, drawn, seconds: As in ``Selection``.
    """

    part: Literal["splits"] = "splits"
    images: list[Count]
    labels: list[Count]
    votes: list[list[Count]]
    scores: list[list[Count]]
    drawn: Count
    seconds: Size


class Round(Record):
    """A round of sequential tests: draws for images that are still undecided, none of them past its next look.

    Attributes:
        images: (N,) indices in the data set's split.
        right: For each image and unit of draws, the number of votes for the chosen class.
        sizes: For each image and unit, the number of draws.
        drawn: Total number of draws for these images.
        seconds: Seconds of work.
    """

    part: Literal["round"] = "round"
    images: list[Count]
    right: list[list[Count]]
    sizes: list[list[Number]]
    drawn: Count
    seconds: Size


CountsLine = Annotated[Selection | Estimation | Splits | Round, Field(discriminator="part")]


class FurtherVotes(Record):
    """Votes of another number of draws on the images of a block, which were attacked for the m of its attack.

    Attributes:
        samples: Number of draws in each vote.
        right: Rule -> (N,) number of correct votes on the adversarial image.
        clean_right: Rule -> (N,) number of correct votes on the clean image.
        taken_for, clean_taken_for: As in ``VoteOutcomes``, of these images.
    """

    samples: Number
    right: dict[Rule, list[Count]]
    clean_right: dict[Rule, list[Count]]
    taken_for: TakenByRule = Field(default_factory=dict)
    clean_taken_for: TakenByRule = Field(default_factory=dict)


class AttackSubject(Record):
    """Everything that the outcomes of an attack depend on.

    Attributes:
        model: Hash of the checkpoint.
        data: Data set and split.
        images: Number of attacked images.
        content: Hash of the images and labels.
        noise: The smoothing distribution.
        plan: Names and options of the candidates.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        target: Index of the class that the images are to be taken for; None: any but their own.
        eight_bit: Whether versions have 8-bit pixels.
        smaller: Name of the job in a smaller ball whose versions are tried first; empty if there is none.
        version: Version of the protocol.
        effort: How much of the protocol's budget is spent: 1, 2 or 4 times.
        search_precision: Precision of the passes that search.
        surrogate: Name of the stand-in whose slopes are followed, and the hash of its file; empty: the model's own are.
        samples: m, the number of draws in each vote.
        score_samples: The numbers of draws of further votes on the same images.
        gradient_samples: Draws in each gradient.
        votes: T, the number of votes on each image.
        worst_by: The rules by which the worst version of an image is kept.
        block: Number of images in a block.
        seed: Seed of all draws.
    """

    model: str
    data: str
    images: Number
    content: str
    noise: Noise
    plan: list[list[JsonValue]]
    norm: Norm
    eps: Size
    target: Count | None = None
    eight_bit: bool = False
    smaller: str = ""
    version: Number
    effort: Number
    search_precision: Precision
    surrogate: list[str] = Field(default_factory=list)
    samples: Number
    score_samples: list[Number] = Field(default_factory=list, alias="score samples")
    gradient_samples: Number = Field(alias="gradient samples")
    votes: Number
    worst_by: list[Rule] = Field(alias="worst by")
    block: Number
    seed: int


class AttackBlock(Record):
    """Outcomes of an attack on a block of images.

    Attributes:
        images: (N,) positions in the limited split.
        labels: (N,) true classes.
        chosen: (N,) number of the candidate whose image was kept; -1 for the clean image.
        right: Rule -> (N,) number of correct votes on the adversarial image.
        clean_right: Rule -> (N,) number of correct votes on the clean image.
        taken_for, clean_taken_for: As in ``AttackOutcomes``, of these images.
        rescored: Votes of other numbers of draws on the same images.
        contributions: Attack -> number of images that it was the first to break.
        first_broken, last_fall: As in ``AttackOutcomes``, of these images.
        queries: As in ``AttackOutcomes``, of these images.
        notes: Notes that qualify the figures.
        image_forwards: Forward passes of single images through the model.
        image_backwards: Backward passes of single images.
        seconds: Seconds of work.
    """

    images: list[Count]
    labels: list[Count]
    chosen: list[Choice]
    right: dict[Rule, list[Count]]
    clean_right: dict[Rule, list[Count]]
    taken_for: TakenByRule = Field(default_factory=dict)
    clean_taken_for: TakenByRule = Field(default_factory=dict)
    rescored: list[FurtherVotes] = Field(default_factory=list)
    contributions: dict[str, Count]
    first_broken: dict[Rule, list[Climb]] = Field(default_factory=dict)
    last_fall: dict[Rule, list[Share]] = Field(default_factory=dict)
    queries: list[Choice] = Field(default_factory=list)
    notes: list[Note]
    image_forwards: Count
    image_backwards: Count
    seconds: Size


class TransferSubject(Record):
    """Everything that the votes of another model depend on.

    Attributes:
        model: Hash of its checkpoint.
        noise: Its smoothing distribution.
        samples: m, the number of draws in each vote.
        votes: T, the number of votes on each image.
        seed: Seed of all draws.
        block: Number of images in a block.
    """

    model: str
    noise: Noise
    samples: Number
    votes: Number
    seed: int
    block: Number


class TransferBlock(Record):
    """The votes of another model on a block of adversarial images.

    Attributes:
        images: (N,) positions in the limited split.
        right: Rule -> (N,) number of correct votes on the adversarial image.
        clean_right: Rule -> (N,) number of correct votes on the clean image.
        taken_for, clean_taken_for: As in ``VoteOutcomes``, of these images.
    """

    images: list[Count]
    right: dict[Rule, list[Count]]
    clean_right: dict[Rule, list[Count]]
    taken_for: TakenByRule = Field(default_factory=dict)
    clean_taken_for: TakenByRule = Field(default_factory=dict)


class ThreatSubject(Record):
    """Everything that the outcomes under corruptions or shifts depend on.

    Attributes:
        model: Hash of the checkpoint.
        data: Data set and split.
        content: Hash of the images and labels.
        indices: The images' indices in the split.
        noise: The smoothing distribution.
        precision: Precision of the passes.
        samples: The numbers of draws of a prediction.
        rules: The rules of a prediction.
        seed: Seed of all draws.
        block: Number of images in a block.
        kinds, strengths: The corruptions; empty for shifts.
        rotation, translation, grid: The grid of shifts; empty for corruptions.
    """

    model: str
    data: str
    content: str
    indices: list[Count]
    noise: Noise
    precision: Precision
    samples: list[Number]
    rules: list[Rule]
    seed: int
    block: Number
    kinds: list[Corruption] = Field(default_factory=list)
    strengths: list[Strength] = Field(default_factory=list)
    rotation: Size | None = None
    translation: Size | None = None
    grid: list[Number] = Field(default_factory=list)


class CorruptionBlock(Record):
    """The outcomes of a block of images under one kind of corruption at one strength.

    Attributes:
        kind: The kind.
        strength: Its strength.
        images: (N,) positions in the limited split.
        right: m (as text) -> rule -> (N,) 1 where the prediction is right, else 0.
    """

    kind: Corruption
    strength: Strength
    images: list[Count]
    right: ByRule


class ShiftBlock(Record):
    """The outcomes of a block of images under every point of a grid of shifts.

    Attributes:
        images: (N,) positions in the limited split.
        points: As in ``Shifts``, of these images.
        worst, held, right: As in ``ShiftOutcomes``, of these images.
    """

    images: list[Count]
    points: ByRule
    worst: ByRule
    held: ByRule
    right: ByRule
