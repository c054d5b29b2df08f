"""Export the weights of a model to a file that timm loads, or torchvision for its own models."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from rushkit.errors import CheckpointError
from rushkit.exchange.exported import METADATA, Exported
from rushkit.exchange.foreign_model import foreign_model
from rushkit.exchange.part import Part, compared
from rushkit.files import write_atomic
from rushkit.image_size import square
from rushkit.models.network import Network
from rushkit.models.normalise import Normalised


def export_timm(part: Part, path: Path) -> Exported:
    """Write a safetensors state dict that timm loads, or torchvision for its own models, and load it back.

    The file is the model behind the normalisation: it takes (x − mean) / std where the recipe has these, else x.

    Args:
        part: What is exported.
        path: The file; it is replaced.

    Raises:
        UsageError: a backbone of a plugin, which only its own code can build.
        NumericsError: the model that these lines make has other outputs.
    """
    foreign = foreign_model(
        part.recipe.backbone,
        (part.channels, square(part.image_size, "--format timm", "--format onnx takes rectangles")),
        len(part.classes),
    )
    encoder = part.module.encoder if isinstance(part.module, Network) else part.module
    inner = encoder.model if isinstance(encoder, Normalised) else encoder
    tensors: dict[str, Tensor] = dict(inner.state_dict())
    if isinstance(part.module, Network):
        places = foreign.build().state_dict()
        tensors |= _named_head(part.module.head, {name: places[name] for name in places if name not in tensors})
    facts = part.facts(foreign.lines(path))
    ready = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, [safetensors.torch.save(ready, {METADATA: json.dumps(facts.to_table()), "format": "pt"})])
    x = part.example()
    with torch.no_grad():
        ours = part.module(x)
        theirs = foreign.build(path).eval()(encoder.normalise(x) if isinstance(encoder, Normalised) else x)
    return Exported.of(facts, compared(ours, theirs, path), "timm", path)


def _named_head(head: nn.Module, places: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a linear head under the names and in the shapes of the foreign model's head."""
    named = {}
    for name, place in places.items():
        tensor = head.state_dict().get(name.rpartition(".")[2])
        if tensor is None or tensor.numel() != place.numel() or len(places) > 2:
            raise CheckpointError(
                f"the head does not fit that of the model, which has {', '.join(places)}",
                "export it with --format onnx, or the encoder alone with --part encoder",
            )
        named[name] = tensor.view_as(place)
    return named
