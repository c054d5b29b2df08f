"""Models for use without rushkit: the part of a checkpoint that is exported, and its weights for timm to load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from rushkit.errors import CheckpointError, NumericsError, UsageError, shell_line
from rushkit.exchange.foreign_model import foreign_model
from rushkit.files import write_atomic
from rushkit.models.network import Network
from rushkit.models.normalise import Normalised
from rushkit.paths import exists
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup import components
from rushkit.setup.model import image_size_of, load_classifier, load_encoder, recipe_of
from rushkit.system import Machine, generator

PartName = Literal["encoder", "classifier"]
# The key of the file's metadata.
METADATA = "rushkit-export"
# A difference in outputs beyond this share of the largest one is another function.
TOLERANCE = 1e-4
_BATCH = 4


@dataclass(frozen=True)
class Part:
    """What is exported.

    Attributes:
        name: Which part of the model.
        module: In eval mode on the CPU, float32: (N, 3, S, S) pixels in [0, 1] to features or logits.
        recipe: The one it was trained by.
        classes: Names of the labels; empty for an encoder.
        image_size: S.
        checkpoint: Where it is from.
    """

    name: PartName
    module: nn.Module
    recipe: Recipe
    classes: tuple[str, ...]
    image_size: int
    checkpoint: Checkpoint

    def example(self, images: int = _BATCH) -> Tensor:
        """Seeded images to compare outputs on."""
        shape = (images, components.IN_CHANNELS, self.image_size, self.image_size)
        return torch.rand(shape, generator=generator(0, "export"))

    def facts(self) -> dict[str, Any]:
        """What a user of the file must know of it."""
        backbone = self.recipe.backbone
        return {
            "part": self.name,
            "source": str(self.checkpoint.path),
            "hash": self.checkpoint.hash,
            "image_size": self.image_size,
            "mean": backbone.mean,
            "std": backbone.std,
            "noise": self.recipe.noise.model_dump(),
            "classes": list(self.classes),
        }


def load_part(checkpoint: Checkpoint, name: PartName | None = None) -> Part:
    """The part of a checkpoint that is to be exported; None: the classifier, or the encoder where there is none.

    Raises:
        CheckpointError: the checkpoint has no classifier, or does not fit its own recipe.
    """
    recipe, size = recipe_of(checkpoint), image_size_of(checkpoint)
    if name is None:
        name = "classifier" if checkpoint.meta.get("stage") == "finetune" else "encoder"
    if name == "encoder":
        return Part(name, load_encoder(checkpoint), recipe, (), size, checkpoint)
    found = load_classifier(checkpoint, Machine(torch.device("cpu"), "float32"), fold=False)
    network = found.network.to(memory_format=torch.contiguous_format)
    return Part(name, network, recipe, found.classes, size, checkpoint)


def check_target(path: Path, suffix: str, force: bool) -> None:
    """Raise UsageError for a file of another suffix, or one that is there and not to be replaced."""
    if path.suffix != suffix:
        # Neither / nor . has a name that could end otherwise.
        example = path.with_suffix(suffix) if path.name else Path(f"model{suffix}")
        raise UsageError(
            f"{path} does not end in {suffix}",
            f"for example {shell_line('--to', example)}; --format names another",
        )
    if exists(path) and not force:
        raise UsageError(f"{path} exists already", "add --force to replace it, or choose another name")


def export_timm(part: Part, path: Path) -> dict[str, Any]:
    """Write a safetensors state dict that timm loads, or torchvision for its own models, and load it back.

    The file is the model behind the normalisation: it takes (x − mean) / std where the recipe has these, else x.

    Args:
        part: What is exported.
        path: The file; it is replaced.

    Returns:
        What the command prints: among others ``load``, the lines of Python that build and load the model.

    Raises:
        UsageError: a backbone of a plugin, which only its own code can build.
        NumericsError: the model that these lines make has other outputs.
    """
    foreign = foreign_model(part.recipe.backbone, part.image_size, len(part.classes))
    encoder = part.module.encoder if isinstance(part.module, Network) else part.module
    inner = encoder.model if isinstance(encoder, Normalised) else encoder
    tensors: dict[str, Tensor] = dict(inner.state_dict())
    if isinstance(part.module, Network):
        places = foreign.build().state_dict()
        tensors |= _named_head(part.module.head, {name: places[name] for name in places if name not in tensors})
    facts = part.facts() | {"load": foreign.lines(path)}
    ready = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, [safetensors.torch.save(ready, {METADATA: json.dumps(facts), "format": "pt"})])
    x = part.example()
    with torch.no_grad():
        ours = part.module(x)
        theirs = foreign.build(path).eval()(encoder.normalise(x) if isinstance(encoder, Normalised) else x)
    return facts | compared(ours, theirs, path) | {"format": "timm", "file": str(path), "bytes": path.stat().st_size}


def compared(ours: Tensor, theirs: Tensor, path: Path) -> dict[str, float]:
    """The largest difference of two outputs and the largest output. Removes the file and raises where they differ.

    Raises:
        NumericsError: by more than the rounding of another implementation.
    """
    largest = float(ours.abs().max())
    difference = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
    # Written so that NaN fails too.
    if not difference <= TOLERANCE * largest:
        path.unlink(missing_ok=True)
        raise NumericsError(
            f"what was written to {path} gives other outputs than the model: they differ by {difference:.2g}, the "
            f"largest is {largest:.2g}",
            "nothing was kept; a report of it is welcome",
        )
    return {"difference": difference, "largest": largest}


def _named_head(head: nn.Module, places: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a linear head under the names, and in the shapes, that the foreign model has for its own."""
    named = {}
    for name, place in places.items():
        own = head.state_dict().get(name.rpartition(".")[2])
        if own is None or own.numel() != place.numel() or len(places) > 2:
            raise CheckpointError(
                f"the head does not fit that of the model, which has {', '.join(places)}",
                "export it with --format onnx, or the encoder alone with --part encoder",
            )
        named[name] = own.view_as(place)
    return named
