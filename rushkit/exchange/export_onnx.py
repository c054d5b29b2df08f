"""Export a model as an ONNX graph, and check onnxruntime's outputs against torch's."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch

from rushkit.errors import RushkitError, UsageError
from rushkit.exchange.exported import METADATA, Exported
from rushkit.exchange.part import Part, compared
from rushkit.files import write_atomic

# The format's own limit on one file.
_MOST_BYTES = 2**31 - 1
INPUT = "images"
OUTPUTS = {"classifier": "logits", "encoder": "features"}


def packages() -> tuple[Any, Any]:
    """Return onnx and onnxruntime. Raises UsageError if a package that the export needs is missing."""
    try:
        # torch's exporter imports this one itself, once it is well under way.
        importlib.import_module("onnxscript")
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UsageError(f"exporting to ONNX needs more packages: {error}", "pip install 'rushkit[onnx]'") from error


def export_onnx(part: Part, path: Path) -> Exported:
    """Write an ONNX graph from float32 pixels in [0, 1], any number of images, to logits or features.

    The normalisation, where the recipe has one, is inside; the noise and the vote are not: they are the caller's.

    Args:
        part: What is exported.
        path: The file; it is replaced.

    Raises:
        UsageError: a package is missing.
        RushkitError: torch cannot export the model, or it is too large for one file.
        NumericsError: onnxruntime has other outputs than torch.
    """
    onnx, onnxruntime = packages()
    output = OUTPUTS[part.name]
    try:
        program = torch.onnx.export(
            part.module,
            (part.example(),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    # The exporter traces the model's own Python: whatever that does, it may stumble over.
    except Exception as error:
        raise RushkitError(
            f"torch cannot export {part.recipe.backbone.name} to ONNX: {str(error).strip().splitlines()[0]}",
            "--debug shows where; --format timm writes the weights alone",
        ) from error
    assert program is not None
    model = program.model_proto
    if model.ByteSize() > _MOST_BYTES:
        raise RushkitError("the model is too large for one ONNX file: 2 GiB", "--format timm has no such limit")
    facts = part.facts()
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(facts.to_table())
    onnx.checker.check_model(model)
    write_atomic(path, [model.SerializeToString()])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differences = []
    # Another number of images than it was traced with.
    for images in (1, len(part.example()) + 1):
        x = part.example(images)
        with torch.no_grad():
            ours = part.module(x)
        theirs = torch.from_numpy(session.run([output], {INPUT: x.numpy()})[0])
        differences.append(compared(ours, theirs, path))
    worst = max(differences, key=lambda outputs: outputs.difference)
    return Exported.of(facts, worst, "onnx", path)
