"""What ``rushkit predict`` says of image files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rushkit.recipe.schema import Noise, Norm, Rule
from rushkit.results.base import Count, Number, Record, Share, Size


class PredictedImage(Record):
    """The class of one image, or an abstention.

    Attributes:
        predicted: Name of the class, ``class`` in the file; None: it abstains.
        index: Of the class; None: it abstains.
        abstained: Whether it abstains.
        top: The class that the first draws chose, and that the bounds are of.
        p_lower: Lower bound on its probability.
        p_upper: Upper bound.
        radius: Certified radius, pixel units.
        image: Path of the file.
        notes: What was done to the image.
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
        problem: Why not.
    """

    image: str
    problem: str


class Prediction(Record):
    """Results of ``rushkit predict``.

    Attributes:
        source: Path of the checkpoint.
        noise: The smoothing distribution.
        norm: Norm of the ball.
        samples: Draws that bound the probability.
        selection: Draws that choose the class.
        alpha: Probability, for each image, that it is wrong.
        rule: The majority or the mean.
        bound: How the probability is bounded.
        warnings: Warnings about the model.
        explanation: What the columns mean.
        predictions: One for each image.
        unreadable: The images that cannot be read.
    """

    stage: Literal["predict"] = "predict"
    source: str
    noise: Noise
    norm: Norm
    samples: Number
    selection: Count
    alpha: Share
    rule: Rule
    bound: str
    warnings: list[str]
    explanation: str
    predictions: list[PredictedImage]
    unreadable: list[UnreadableImage]
