"""Results of evaluations on clean images: accuracies of a classifier, and the smoothness of an encoder."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rushkit.recipe.schema import Noise, Norm, Rule
from rushkit.results.base import (
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
from rushkit.results.threats import Corruptions, Shifts


class Accuracy(Record):
    """The share of images that are classified correctly, with its Wilson interval.

    Attributes:
        correct: Number of correctly classified images.
        images: Number of images.
        accuracy: ``correct / images``.
        low: Lower end of the interval.
        high: Upper end of the interval.
        confidence: Confidence level of the interval.
    """

    correct: Count
    images: Number
    accuracy: Share
    low: Share
    high: Share
    confidence: Share

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_share(self.accuracy, self.correct, self.images, self.low, self.high)
        return self


class AccuracyRow(Record):
    """The accuracy under one number of draws and one rule.

    Attributes:
        samples: m, the number of draws for each prediction.
        rule: The rule that turns draws into a prediction.
        correct, images, accuracy, low, high, confidence: As in ``Accuracy``.
        per_class: Class name -> accuracy on its images; None for a class without images.
    """

    samples: Number
    rule: Rule
    correct: Count
    images: Number
    accuracy: Share
    low: Share
    high: Share
    confidence: Share
    per_class: dict[str, Share | None]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_share(self.accuracy, self.correct, self.images, self.low, self.high)
        return self


class EvaluationOutcomes(Record):
    """The outcome of every image.

    Attributes:
        indices: (N,) the images' indices in the split, before ``evaluate.limit``; empty for all of them in order.
        labels: (N,) true classes.
        predicted: m (as text) -> rule -> (N,) predicted classes.
    """

    indices: list[Count] = Field(default_factory=list)
    labels: list[Count]
    predicted: dict[str, dict[Rule, list[Count]]]

    @property
    def images(self) -> list[int]:
        """The index of each image in the split."""
        return self.indices or list(range(len(self.labels)))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        predicted = (classes for rules in self.predicted.values() for classes in rules.values())
        check_same_length(self.indices, self.labels, *predicted)
        return self


class Evaluation(StageResults):
    """Results of ``rushkit evaluate``.

    Attributes:
        recipe: The recipe's name.
        source: Path of the checkpoint.
        data: Data set and split.
        noise: The smoothing distribution.
        precision: Precision of the network's passes.
        accuracy: A row for each number of draws and rule.
        outcomes: The outcome of every image.
        corruptions: Accuracy under common corruptions; None if it was not measured.
        shifts: Accuracy under rotations and translations; None if it was not measured.
    """

    stage: Literal["evaluate"] = "evaluate"
    recipe: str
    source: str
    data: str
    noise: Noise
    precision: Precision = "float32"
    accuracy: list[AccuracyRow]
    outcomes: EvaluationOutcomes
    corruptions: Corruptions | None = None
    shifts: Shifts | None = None


class RatioRow(Record):
    """The distance that an encoder moves the features, divided by the distance that the image moved.

    Attributes:
        encoder: Which encoder: ``"pre-trained"``, ``"random"``, ``"supervised"``, or ``"given"``: the user's.
        points: How the second image of each pair is found: ``"random"`` or ``"ascent"``.
        images: Number of images.
        mean: Mean ratio over images.
        low: Lower end of its 95% bootstrap interval.
        high: Upper end of the interval.
        quantiles: Level (as text) -> quantile of the ratio.
        largest: The largest ratio.
    """

    encoder: str
    points: Literal["random", "ascent"]
    images: Number
    mean: Size
    low: Size
    high: Size
    quantiles: dict[str, Size]
    largest: Size


class Probe(StageResults):
    """Results of ``rushkit probe``.

    Attributes:
        recipe: The recipe's name.
        source: Path of the checkpoint whose encoder is probed.
        supervised: Path of the checkpoint of the supervised encoder; None if there is none.
        data: Data set and split.
        images: Number of images.
        size: A sentence on what a radius means, if the images were resized; otherwise empty.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        steps: Gradient ascent steps.
        rows: A row for each encoder and way to find the second image.
        outcomes: Encoder and way -> (N,) ratios.
    """

    stage: Literal["probe"] = "probe"
    recipe: str
    source: str
    supervised: str | None
    data: str
    images: Number
    size: str
    norm: Norm
    eps: Size
    steps: Number
    rows: list[RatioRow]
    outcomes: dict[str, list[Size]]
