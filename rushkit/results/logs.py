"""The lines of the logs that long evaluations keep: what they are about, and one record for each block of work."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from rushkit.recipe.schema import Data, Noise, Norm, Rule
from rushkit.results.base import Choice, Count, Number, Record, Size
from rushkit.results.certification import Mode
from rushkit.results.notes import Note


class CountsSubject(Record):
    """What the counts of a certification are about.

    Attributes:
        data: The recipe's data section.
        split: Of the data set.
        limit: Images that are certified at most; 0: all.
        skip: Every how many-th image is certified.
        noise: The smoothing distribution.
        seed: Of every draw.
        selection: Draws that choose the class of an image.
        model: Hash of the checkpoint.
        precision: Of the passes.
        images: Hash of the images, their indices and labels.
        of: Images in the split.
        dim: Values of an image.
        classes: Their names.
        samples: Draws that bound the probability, at most.
        mode: How the probability is bounded.
        warnings: What a reader must know of the model.
        size: What a radius means where the images were resized; else empty.
    """

    data: Data
    split: str
    limit: Count
    skip: Number
    noise: Noise
    seed: int
    selection: Count
    model: str
    precision: str
    images: str
    of: Count
    dim: Number
    classes: list[str]
    samples: Number
    mode: Mode
    warnings: list[str]
    size: str


class Selection(Record):
    """Draws that choose the classes of some images.

    Attributes:
        images: (N,) indices in the data set's split.
        labels: (N,) true classes.
        votes: (N, K) how often each class had the largest logit.
        scores: (N, K) summed confidences, in units of 1/2²⁰.
        drawn: Draws of all these images together.
        seconds: Of work.
    """

    part: Literal["selection"] = "selection"
    images: list[Count]
    labels: list[Count]
    votes: list[list[Count]]
    scores: list[list[Count]]
    drawn: Count
    seconds: Size


class Estimation(Record):
    """Draws that bound the probability of the classes that were chosen.

    Attributes:
        images: (N,) indices in the data set's split.
        start: Number of the first draw of each image.
        stop: One after the last.
        votes: (N, K) how often each class had the largest logit.
        scores: (N,) summed confidence in the class that the selection is surest of, in units of 1/2²⁰.
        squares: (N,) sum of its squares, in units of 1/2⁴⁰.
        drawn: Draws of all these images together.
        seconds: Of work.
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
    """A round of sequential tests: draws for images that are not decided yet.

    Attributes:
        images: (N,) indices in the data set's split.
        right: For each image and unit of draws, how many voted for the chosen class.
        sizes: For each image and unit, how many draws there were.
        drawn: Draws of all these images together.
        seconds: Of work.
    """

    part: Literal["round"] = "round"
    images: list[Count]
    right: list[list[Count]]
    sizes: list[list[Number]]
    drawn: Count
    seconds: Size


CountsLine = Annotated[Selection | Estimation | Splits | Round, Field(discriminator="part")]


class AttackSubject(Record):
    """What the outcomes of an attack are about.

    Attributes:
        model: Hash of the checkpoint.
        precision: Of the passes.
        data: Data set and split.
        images: Images that are attacked.
        content: Hash of the images and labels.
        noise: The smoothing distribution.
        plan: Names and options of the candidates.
        norm: Of the ball.
        eps: Its radius, pixel units.
        samples: m, draws a vote.
        gradient_samples: Draws in each gradient.
        votes: T, votes on each image.
        worst_by: The rules by which the worst version of an image is kept.
        block: Images of a block.
        seed: Of every draw.
    """

    model: str
    precision: str
    data: str
    images: Number
    content: str
    noise: Noise
    plan: list[list[JsonValue]]
    norm: Norm
    eps: Size
    samples: Number
    gradient_samples: Number = Field(alias="gradient samples")
    votes: Number
    worst_by: list[Rule] = Field(alias="worst by")
    block: Number
    seed: int


class AttackBlock(Record):
    """Outcomes of an attack on a block of images.

    Attributes:
        images: (N,) places in the limited split.
        labels: (N,) true classes.
        chosen: (N,) which candidate's image was kept; -1: the original.
        right: Rule -> (N,) how many votes on the adversarial image are right.
        clean_right: Rule -> (N,) how many votes on the original are right.
        contributions: Attack -> how many images it was the first to break.
        notes: What a reader of the figures must know.
        image_forwards: Images that went forward through the model.
        image_backwards: Images that went backward.
        seconds: Of work.
    """

    images: list[Count]
    labels: list[Count]
    chosen: list[Choice]
    right: dict[Rule, list[Count]]
    clean_right: dict[Rule, list[Count]]
    contributions: dict[str, Count]
    notes: list[Note]
    image_forwards: Count
    image_backwards: Count
    seconds: Size


class TransferSubject(Record):
    """What the answers of another model are about.

    Attributes:
        model: Hash of its checkpoint.
        noise: Its smoothing distribution.
        samples: m, draws a vote.
        votes: T, votes on each image.
        seed: Of every draw.
        block: Images of a block.
    """

    model: str
    noise: Noise
    samples: Number
    votes: Number
    seed: int
    block: Number


class TransferBlock(Record):
    """What another model says of a block of adversarial images.

    Attributes:
        images: (N,) places in the limited split.
        right: Rule -> (N,) how many votes on the adversarial image are right.
        clean_right: Rule -> (N,) how many votes on the original are right.
    """

    images: list[Count]
    right: dict[Rule, list[Count]]
    clean_right: dict[Rule, list[Count]]
