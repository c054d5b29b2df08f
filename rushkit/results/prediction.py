"""Results of ``rushkit predict``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rushkit.recipe.schema import Noise, Norm, Rule
from rushkit.results.base import Count, Number, Precision, Record, Share, Size
from rushkit.results.rows import Tabular


class PredictedImage(Record):
    """The class of one image, or an abstention.

    Attributes:
        predicted: Name of the class (the key ``class`` in the file); None for an abstention.
        index: Index of the class; None for an abstention.
        abstained: Whether the procedure abstained.
        top: The class that the selection draws chose; the bounds are for this class.
        p_lower: Lower bound on its probability.
        p_upper: Upper bound.
        radius: Certified radius, pixel units.
        image: Path of the file.
        notes: Sentences on how the image was converted.
    """

    predicted: str | None = Field(alias="class")
    index: Count | None
    abstained: bool
    top: str
    p_lower: Share
    p_upper: Share
    radius: Size
    image: str
    notes: list[str]


class UnreadableImage(Record):
    """An image that cannot be read.

    Attributes:
        image: Path of the file.
        problem: The reason.
    """

    image: str
    problem: str


class Prediction(Tabular, Record):
    """Results of ``rushkit predict``.

    Attributes:
        source: Path of the checkpoint.
        noise: The smoothing distribution.
        precision: Precision of the network's passes.
        norm: Norm of the ball.
        samples: Number of draws that bound the probability.
        selection: Number of draws that choose the class.
        alpha: Probability, for each image, that its certificate is false.
        rule: Majority vote or mean softmax.
        bound: How the probability is bounded.
        theorem: The theorem that turns the bound into a radius, in a phrase.
        warnings: Warnings about the model.
        explanation: An explanation of the columns.
        predictions: The prediction for each image.
        unreadable: The images that cannot be read.
    """

    stage: Literal["predict"] = "predict"
    source: str
    noise: Noise
    precision: Precision = "float32"
    norm: Norm
    samples: Number
    selection: Count
    alpha: Share
    rule: Rule
    bound: str
    theorem: str
    warnings: list[str]
    explanation: str
    predictions: list[PredictedImage]
    unreadable: list[UnreadableImage]

    def __repr__(self) -> str:
        abstained = sum(row.abstained for row in self.predictions)
        unreadable = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"{type(self).__name__}({len(self.predictions)} images, {abstained} abstain{unreadable})"

    def __str__(self) -> str:
        return repr(self)
