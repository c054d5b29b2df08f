"""The part of a checkpoint that is exported, and the check that the exported file computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rushkit.errors import NumericsError, UsageError, shell_line
from rushkit.exchange.exported import ModelFacts, Outputs, PartName
from rushkit.image_size import ImageSize, sides, size_to_json
from rushkit.paths import exists
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup.model import load_classifier, load_encoder, recipe_of, shape_of
from rushkit.system import Machine, generator

# A difference in outputs beyond this share of the largest one is another function.
TOLERANCE = 1e-4
_BATCH = 4


@dataclass(frozen=True)
class Part:
    """A model to export.

    Attributes:
        name: Which part of the model.
        module: In eval mode on the CPU, float32: (N, C, H, W) pixels in [0, 1] to features or logits.
        recipe: The one it was trained by.
        classes: Names of the labels; empty for an encoder.
        image_size: H and W.
        channels: C.
        checkpoint: The checkpoint that it comes from.
    """

    name: PartName
    module: nn.Module
    recipe: Recipe
    classes: tuple[str, ...]
    image_size: ImageSize
    channels: int
    checkpoint: Checkpoint

    def example(self, images: int = _BATCH) -> Tensor:
        """Return seeded images to compare outputs on."""
        shape = (images, self.channels, *sides(self.image_size))
        return torch.rand(shape, generator=generator(0, "export"))

    def facts(self, load: Sequence[str] = ()) -> ModelFacts:
        """Return what a user of the file must know; ``load`` holds the lines of Python that load it."""
        backbone = self.recipe.backbone
        return ModelFacts(
            part=self.name,
            source=str(self.checkpoint.path),
            hash=self.checkpoint.hash,
            image_size=size_to_json(self.image_size),
            channels=self.channels,
            mean=backbone.mean,
            std=backbone.std,
            noise=self.recipe.noise,
            classes=list(self.classes),
            load=list(load),
        )


def load_part(checkpoint: Checkpoint, name: PartName | None = None) -> Part:
    """Load the part of a checkpoint to export; None: the classifier, or the encoder where there is none.

    Raises:
        CheckpointError: the checkpoint has no classifier, or does not fit its own recipe.
    """
    recipe, (channels, size) = recipe_of(checkpoint), shape_of(checkpoint)
    if name is None:
        name = "classifier" if checkpoint.meta.get("stage") == "finetune" else "encoder"
    if name == "encoder":
        return Part(name, load_encoder(checkpoint), recipe, (), size, channels, checkpoint)
    classifier = load_classifier(checkpoint, Machine(torch.device("cpu"), "float32"), fold=False)
    network = classifier.network.to(memory_format=torch.contiguous_format)
    return Part(name, network, recipe, classifier.classes, size, channels, checkpoint)


def check_target(path: Path, suffix: str, force: bool) -> None:
    """Raise UsageError for a file with another suffix, or for an existing one without ``force``."""
    if path.suffix != suffix:
        # Neither / nor . has a name that could end otherwise.
        example = path.with_suffix(suffix) if path.name else Path(f"model{suffix}")
        raise UsageError(
            f"{path} does not end in {suffix}",
            f"for example {shell_line('--to', example)}; --format names another",
        )
    if exists(path) and not force:
        raise UsageError(f"{path} exists already", "add --force to replace it, or choose another name")


def compared(ours: Tensor, theirs: Tensor, path: Path) -> Outputs:
    """Compare two outputs. Removes the file and raises where they differ.

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
    return Outputs(difference=difference, largest=largest)
