"""Export a model for use without rushkit: the Python interface of ``rushkit export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rushkit.exchange.export_onnx import export_onnx, packages
from rushkit.exchange.export_timm import export_timm
from rushkit.exchange.exported import Exported, PartName
from rushkit.exchange.part import check_target, load_part
from rushkit.run.checkpoint import Checkpoint

FileFormat = Literal["timm", "onnx"]
SUFFIXES: dict[FileFormat, str] = {"timm": ".safetensors", "onnx": ".onnx"}


def export(
    checkpoint: Checkpoint,
    to: str | Path,
    part: PartName | None = None,
    file_format: FileFormat | None = None,
    force: bool = False,
) -> Exported:
    """Write a model for use without rushkit, and check that it computes the same. Noise and vote are not in it.

    Example::

        rushkit.export(rushkit.open_checkpoint("cifar10", "finetune"), "model.onnx")

    Args:
        checkpoint: See ``open_checkpoint``.
        to: The file: ``NAME.onnx``, or ``NAME.safetensors``, which timm or torchvision load.
        part: ``"classifier"`` or ``"encoder"``; None: the classifier, where there is one.
        file_format: ``"onnx"`` or ``"timm"``; None: by the ending of the file.
        force: Replace the file.

    Raises:
        UsageError: the file is there already or has another ending, a package is missing, or a plugin's backbone.
        CheckpointError: the checkpoint has no such part.
        NumericsError: what was written has other outputs.
    """
    path = Path(to)
    chosen = ready_format(path, file_format, force)
    loaded = load_part(checkpoint, part)
    return export_onnx(loaded, path) if chosen == "onnx" else export_timm(loaded, path)


def ready_format(path: Path, file_format: FileFormat | None = None, force: bool = False) -> FileFormat:
    """Return the format of a file that can be written, before a model is loaded in vain; see ``export``.

    Raises:
        UsageError: the file is there already or has another ending, or a package is missing.
    """
    chosen: FileFormat = file_format or ("onnx" if path.suffix == SUFFIXES["onnx"] else "timm")
    check_target(path, SUFFIXES[chosen], force)
    if chosen == "onnx":
        packages()
    return chosen
