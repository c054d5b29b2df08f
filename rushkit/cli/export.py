"""``rushkit export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.options import Changes, From, Output
from rushkit.cli.panels import OUTPUT
from rushkit.cli.source import open_source
from rushkit.cli.verb import verb

if TYPE_CHECKING:
    from rushkit.exchange.export import FileFormat

NAME = "export"
EXAMPLE = "Example: rushkit export --from cifar10 --to model.onnx"


class Format(StrEnum):
    """What is written."""

    TIMM = "timm"
    ONNX = "onnx"

    @property
    def name_in_python(self) -> FileFormat:
        """The name that ``rushkit.export`` takes."""
        return "onnx" if self is Format.ONNX else "timm"


class PartChoice(StrEnum):
    """Which part of the model."""

    ENCODER = "encoder"
    CLASSIFIER = "classifier"


@verb
def command(
    *,
    target: Annotated[
        str,
        typer.Option("--to", metavar="FILE", rich_help_panel=OUTPUT, help="The file: NAME.onnx or NAME.safetensors."),
    ],
    source: From = None,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format",
            case_sensitive=False,
            help="onnx, or timm: weights that timm or torchvision load; default: by the ending of FILE.",
        ),
    ] = None,
    part: Annotated[
        PartChoice | None,
        typer.Option("--part", case_sensitive=False, help="What to write; default: the classifier, if there is one."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    changes: Changes = None,
    output: Output,
) -> None:
    """Write a model for use without rushkit, and check that it computes the same. Noise and vote are not in it."""
    from rushkit.exchange.export import export, ready_format
    from rushkit.report.terminal.tables import record_table

    path, named = Path(target), kind.name_in_python if kind else None
    # Before a checkpoint is loaded in vain.
    ready_format(path, named, force)
    checkpoint = open_source(source, changes, ("finetune", "pretrain"), output.speaker())
    results = export(checkpoint, path, part.value if part else None, named, force)
    output.result(results.to_table(), record_table(results))
