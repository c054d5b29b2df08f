"""Results of an import."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, Self

from pydantic import model_validator

from rushkit.recipe.schema import Backbone, Noise
from rushkit.results.base import Count, Number, Record, Share, StageResults, check_share

_SHOWN_DIGITS = 12


class Claim(Record):
    """The accuracy that a foreign file states for itself.

    Attributes:
        key: What the file calls it, such as ``"best_prec1"``.
        accuracy: The share.
    """

    key: str
    accuracy: Share


class Origin(Record):
    """The origin of imported weights: a file and its hash, or the name of pretrained weights.

    Attributes:
        file: Path of the file; empty for pretrained weights.
        sha256: Its hash.
        pretrained: Name of the backbone; empty for a file.
        tag: The tag of the pretrained weights.
        branch: Whose BatchNorm set was taken from a file with several: adversarial, clean or labels; else empty.
        renamed: The user's renaming rules: pattern -> replacement.
        ignored: Tensors that were left out at the user's request.
        notes: Sentences on how the weights were converted.
        claim: The accuracy that the file states; None where it states none.
    """

    file: str = ""
    sha256: str = ""
    pretrained: str = ""
    tag: str = ""
    branch: str = ""
    renamed: dict[str, str]
    ignored: list[str]
    notes: list[str]
    claim: Claim | None = None

    def in_words(self) -> str:
        """Return the origin in words, such as ``"resnet.pt (sha256 0123456789ab)"``."""
        if self.file:
            return f"{PurePath(self.file).name} (sha256 {self.sha256[:_SHOWN_DIGITS]})"
        return f"pretrained {self.pretrained} {self.tag}".strip()


class CleanCheck(Record):
    """Accuracy of an imported classifier on a few clean images, without noise.

    Attributes:
        data: Data set and split.
        images: Number of images.
        chance: Accuracy of always predicting the most common class.
        correct, accuracy, low, high, confidence: As in ``evaluation.Accuracy``.
        claim_chance: Probability of at most so many right answers if the file's claim held; None without a claim.
    """

    data: str
    images: Number
    chance: Share
    correct: Count
    accuracy: Share
    low: Share
    high: Share
    confidence: Share
    claim_chance: Share | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_share(self.accuracy, self.correct, self.images, self.low, self.high)
        return self


class Imported(StageResults):
    """Results of ``rushkit import``.

    Attributes:
        recipe: Name of the run's recipe.
        makes: Whether the model is a classifier or only an encoder.
        imported: The origin of the weights.
        backbone: The recipe's backbone.
        noise: The recipe's noise.
        parameters: Number of parameters of the model.
        image_size: Side of its input images, in pixels, or height and width.
        channels: Number of their channels.
        classes: Number of classes; None for an encoder.
        clean: Its accuracy on a few clean images; None if it was not checked.
    """

    stage: Literal["import"] = "import"
    recipe: str
    makes: Literal["classifier", "encoder"]
    imported: Origin
    backbone: Backbone
    noise: Noise
    parameters: Count
    image_size: Number | list[Number]
    channels: Number
    classes: Number | None
    clean: CleanCheck | None
