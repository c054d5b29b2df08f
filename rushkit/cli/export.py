"""``rushkit export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.options import Changes, From, Output
from rushkit.cli.panels import OUTPUT
from rushkit.cli.source import open_source
from rushkit.cli.verb import verb

NAME = "export"
EXAMPLE = "Example: rushkit export --from cifar10 --to model.onnx"


class Format(StrEnum):
    """What is written."""

    TIMM = "timm"
    ONNX = "onnx"


class PartChoice(StrEnum):
    """Which part of the model."""

    ENCODER = "encoder"
    CLASSIFIER = "classifier"


SUFFIXES = {Format.TIMM: ".safetensors", Format.ONNX: ".onnx"}


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
    from rushkit.exchange.export_onnx import export_onnx, packages
    from rushkit.exchange.export_timm import export_timm
    from rushkit.exchange.part import check_target, load_part
    from rushkit.report.terminal.tables import record_table

    path = Path(target)
    file_format = kind or (Format.ONNX if path.suffix == SUFFIXES[Format.ONNX] else Format.TIMM)
    check_target(path, SUFFIXES[file_format], force)
    if file_format == Format.ONNX:
        # Before a model is loaded in vain.
        packages()
    checkpoint = open_source(source, changes, ("finetune", "pretrain"), output.speaker())
    exported = load_part(checkpoint, part.value if part else None)
    results = export_onnx(exported, path) if file_format == Format.ONNX else export_timm(exported, path)
    output.result(results.to_table(), record_table(results))
