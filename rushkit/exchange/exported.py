"""Records of an export: what is printed for the user and stored in the file's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from rushkit.recipe.schema import Noise
from rushkit.results.base import Number, Record, Size
from rushkit.results.rows import Row, Tabular, no_images, rows_of

PartName = Literal["encoder", "classifier"]
# The key of the file's metadata.
METADATA = "rushkit-export"


class ModelFacts(Record):
    """The facts that a user of an exported file needs.

    Attributes:
        part: Which part of the model it is.
        source: Path of the checkpoint.
        hash: The checkpoint's hash.
        image_size: Height and width of the images, pixels; one number for squares.
        channels: Their number of channels.
        mean: Mean of each channel, where the model takes (x - mean) / std; else empty.
        std: Standard deviation of each channel; see ``mean``.
        noise: The noise that the model was trained with.
        classes: Names of the labels; empty for an encoder.
        load: Lines of Python that build and load the model; empty if the file is a whole graph.
    """

    part: PartName
    source: str
    hash: str
    image_size: Number | list[Number]
    channels: Number
    mean: list[float]
    std: list[float]
    noise: Noise
    classes: list[str]
    load: list[str] = Field(default_factory=list)


class Exported(Tabular, ModelFacts):
    """An export whose outputs were checked.

    Attributes:
        difference: The largest difference of its outputs from the model's.
        largest: The largest output.
        format: Format of the file.
        file: Path of the file.
        bytes: Size of the file.
    """

    difference: Size
    largest: Size
    format: Literal["timm", "onnx"]
    file: str
    bytes: Number

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.part}, {self.format}, {self.file!r}, {self.bytes} bytes)"

    def __str__(self) -> str:
        return repr(self)

    @classmethod
    def of(cls, facts: ModelFacts, outputs: Outputs, kind: Literal["timm", "onnx"], path: Path) -> Self:
        """Return the record of an exported file."""
        return cls(
            **{name: getattr(facts, name) for name in ModelFacts.model_fields},
            difference=outputs.difference,
            largest=outputs.largest,
            format=kind,
            file=str(path),
            bytes=path.stat().st_size,
        )


class Outputs(Record):
    """How far apart the outputs of two models are.

    Attributes:
        difference: The largest difference.
        largest: The largest output.
    """

    difference: Size
    largest: Size


@rows_of.register
def _(record: Exported, per_image: bool) -> list[Row]:
    if per_image:
        raise no_images(record)
    about: Row = {"file": record.file, "format": record.format, "part": record.part, "bytes": record.bytes}
    figures = {"difference": record.difference, "largest_output": record.largest}
    return [{**about, "figure": name, "value": value, "low": None, "high": None} for name, value in figures.items()]
