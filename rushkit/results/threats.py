"""Results under common corruptions, and under rotations and translations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rushkit.recipe.schema import Corruption, Rule
from rushkit.results.base import SLACK, Count, Number, Record, Share, Size, check_same_length, check_share

Strength = Annotated[int, Field(ge=1, le=5)]
# m (as text) -> rule -> one number for each image or point.
ByRule = dict[str, dict[Rule, list[Count]]]
# The same for each kind of corruption.
ByKind = dict[str, dict[Rule, dict[Corruption, list[Count]]]]


class CorruptionRow(Record):
    """The accuracy under one kind of corruption at one strength, one number of draws and one rule.

    Attributes:
        kind: The kind of corruption.
        strength: Its strength.
        samples: m, the number of draws for each prediction.
        rule: The rule that turns draws into a prediction.
        correct, images, accuracy, low, high, confidence: As in ``evaluation.Accuracy``.
    """

    kind: Corruption
    strength: Strength
    samples: Number
    rule: Rule
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


class CorruptionError(Record):
    """A mean corruption error.

    Attributes:
        value: The mean over kinds of the error as a share of the baseline's, which itself has 1.
        low: Lower end of its 95% interval over the images, which both models were measured on; None of one image.
        high: Upper end of the interval.
    """

    value: Size
    low: Size | None = None
    high: Size | None = None

    @model_validator(mode="after")
    def _lies_within(self) -> Self:
        low, high = (self.value if end is None else end for end in (self.low, self.high))
        if not low - SLACK <= self.value <= high + SLACK:
            raise ValueError("the mean corruption error lies outside its interval")
        return self


class CorruptionMean(Record):
    """The mean over all kinds and strengths, for one number of draws and one rule.

    Attributes:
        samples: m, the number of draws for each prediction.
        rule: The rule that turns draws into a prediction.
        accuracy: Mean accuracy over kinds and strengths.
        low: Lower end of its 95% Wilson interval over the images.
        high: Upper end of the interval.
        clean: Accuracy on the images as they are.
        mce: Mean corruption error; None without a baseline.
    """

    samples: Number
    rule: Rule
    accuracy: Share
    low: Share
    high: Share
    clean: Share
    mce: CorruptionError | None = None

    @model_validator(mode="after")
    def _lies_within(self) -> Self:
        if not self.low - SLACK <= self.accuracy <= self.high + SLACK:
            raise ValueError("the share lies outside its interval")
        return self


class CorruptionBaseline(Record):
    """The model whose errors a mean corruption error is a share of.

    Attributes:
        run: Name of the run that measured it.
        samples: m of its predictions.
        rule: The rule of its predictions.
        errors: Kind -> its mean error over the strengths.
    """

    run: str
    samples: Number
    rule: Rule
    errors: dict[Corruption, Share]


class CorruptionOutcomes(Record):
    """The outcomes of every image under every kind.

    Attributes:
        indices: (N,) the images' indices in the split.
        right: m (as text) -> rule -> kind -> (N,) at how many strengths the image is right.
    """

    indices: list[Count]
    right: ByKind

    @model_validator(mode="after")
    def _fits(self) -> Self:
        columns = (column for rules in self.right.values() for kinds in rules.values() for column in kinds.values())
        check_same_length(self.indices, *columns)
        return self


class Corruptions(Record):
    """Accuracy under common corruptions.

    Attributes:
        parameters: Whose parameters the strengths have, by the size of the images.
        seed: Seed of the corruptions.
        kinds: The kinds of corruption.
        strengths: The strengths.
        rows: A row for each kind, strength, number of draws and rule.
        means: The mean over kinds and strengths for each number of draws and rule.
        baseline: What the mean corruption errors are shares of; None if there is none.
        outcomes: The outcomes of every image.
    """

    parameters: Literal["cifar10-c", "imagenet-c"]
    seed: int
    kinds: list[Corruption] = Field(min_length=1)
    strengths: list[Strength] = Field(min_length=1)
    rows: list[CorruptionRow]
    means: list[CorruptionMean]
    baseline: CorruptionBaseline | None = None
    outcomes: CorruptionOutcomes

    def rows_of(self, samples: int, rule: Rule) -> dict[tuple[Corruption, int], CorruptionRow]:
        """Return (kind, strength) -> row for one number of draws and rule."""
        return {(row.kind, row.strength): row for row in self.rows if (row.samples, row.rule) == (samples, rule)}

    def errors_of(self, samples: int, rule: Rule) -> dict[Corruption, float]:
        """Return kind -> mean error over the strengths for one number of draws and rule."""
        rows, strengths = self.rows_of(samples, rule), self.strengths
        return {
            kind: sum(1 - rows[kind, strength].accuracy for strength in strengths) / len(strengths)
            for kind in self.kinds
        }

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        cells, images = len(self.kinds) * len(self.strengths), len(self.outcomes.indices)
        if len(self.rows) != cells * len(self.means):
            raise ValueError("a kind or a strength of the corruptions is missing")
        for mean in self.means:
            rows = self.rows_of(mean.samples, mean.rule)
            if set(rows) != {(kind, strength) for kind in self.kinds for strength in self.strengths}:
                raise ValueError("a kind or a strength of the corruptions is missing")
            right = self.outcomes.right[str(mean.samples)][mean.rule]
            for kind in self.kinds:
                correct = sum(rows[kind, strength].correct for strength in self.strengths)
                if sum(right[kind]) != correct or max(right[kind]) > len(self.strengths):
                    raise ValueError("the accuracies under corruptions are not those of the images")
            if any(row.images != images for row in rows.values()):
                raise ValueError("a row of the corruptions is of other images")
            if abs(sum(row.correct for row in rows.values()) / cells / images - mean.accuracy) > SLACK:
                raise ValueError("the mean accuracy under corruptions is not that of the rows")
            self._check_mce(mean)
        return self

    def _check_mce(self, mean: CorruptionMean) -> None:
        expected = None
        if self.baseline is not None:
            expected = mean_corruption_error(self.errors_of(mean.samples, mean.rule), self.baseline.errors)
        stated = None if mean.mce is None else mean.mce.value
        if (stated is None) != (expected is None) or abs((stated or 0) - (expected or 0)) > SLACK:
            raise ValueError("a mean corruption error is not that of the errors and the baseline's")


def mean_corruption_error(errors: Mapping[Corruption, float], baseline: Mapping[Corruption, float]) -> float:
    """Return the mean over kinds of a model's error as a share of the baseline's (Hendrycks & Dietterich 2019).

    Args:
        errors: Kind -> error, averaged over the strengths.
        baseline: The same of the baseline, above 0 for each of these kinds.
    """
    return sum(error / baseline[kind] for kind, error in errors.items()) / len(errors)


class ShiftRow(Record):
    """The accuracy under the worst rotation and translation of a grid, for one number of draws and one rule.

    Attributes:
        samples: m, the number of draws for each prediction.
        rule: The rule that turns draws into a prediction.
        images: Number of images.
        natural: Accuracy on the images as they are.
        held: Share of the images that are right at every point of the grid, by the votes of the search. Of a model with
            noise that is too low: the least of many noisy votes is low by chance.
        accuracy: Share of the images that are right at their worst point, by a fresh vote.
        low: Lower end of the 95% Wilson interval of ``accuracy``.
        high: Upper end of the interval.
    """

    samples: Number
    rule: Rule
    images: Number
    natural: Share
    held: Share
    accuracy: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _lies_within(self) -> Self:
        if not self.low - SLACK <= self.accuracy <= self.high + SLACK:
            raise ValueError("the share lies outside its interval")
        return self


class ShiftOutcomes(Record):
    """The outcomes of every image under the points of a grid.

    Attributes:
        indices: (N,) the images' indices in the split.
        worst: m (as text) -> rule -> (N,) place of the image's worst point in the grid.
        held: m (as text) -> rule -> (N,) 1 where the image is right at every point by the votes of the search, else 0.
        right: m (as text) -> rule -> (N,) 1 where a fresh vote at the worst point is right, else 0.
    """

    indices: list[Count]
    worst: ByRule
    held: ByRule
    right: ByRule

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_same_length(self.indices, *_columns(self.worst), *_columns(self.held), *_columns(self.right))
        return self


class Shifts(Record):
    """Accuracy under rotations and translations.

    Attributes:
        rotation: The largest rotation, degrees, in either direction.
        translation: The largest translation along each axis, pixels, in either direction.
        grid: How many rotations, translations to the right, and translations down.
        rows: A row for each number of draws and rule.
        points: m (as text) -> rule -> how many images are right at each point: rotations outermost, then translations
            to the right, then down, each from the lowest to the highest.
        outcomes: The outcomes of every image.
    """

    rotation: Size
    translation: Size
    grid: list[Number] = Field(min_length=3, max_length=3)
    rows: list[ShiftRow]
    points: ByRule
    outcomes: ShiftOutcomes

    @property
    def size(self) -> int:
        """The number of points of the grid."""
        rotations, right, down = self.grid
        return rotations * right * down

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        images, size = len(self.outcomes.indices), self.size
        for row in self.rows:
            m, rule, found = str(row.samples), row.rule, self.outcomes
            points = self.points[m][rule]
            if len(points) != size or max(points) > images or max(found.worst[m][rule]) >= size:
                raise ValueError("the points of the grid of shifts do not fit it")
            for share, right in ((row.accuracy, found.right[m][rule]), (row.held, found.held[m][rule])):
                if row.images != images or max(right) > 1 or abs(sum(right) / images - share) > SLACK:
                    raise ValueError("an accuracy under shifts is not that of the images")
        return self


def _columns(by_rule: ByRule) -> Iterable[list[int]]:
    return (column for rules in by_rule.values() for column in rules.values())
