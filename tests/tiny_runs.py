"""What a tiny recipe changes, a toy backbone, and runs in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch
from torch import nn

from rushkit.errors import CheckpointError
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run
from rushkit.training.finetune import finetune
from rushkit.training.loop import watching_steps
from rushkit.training.pretrain import pretrain

QUIET = Speaker(-1, rank=0)
TINY = (
    "data.limit=48",
    "data.image_size=8",
    "backbone.name=toy",
    "projector.hidden=16",
    "projector.out=8",
    "pretrain.epochs=2",
    "pretrain.batch_size=16",
    "pretrain.knn.every=1",
    "pretrain.knn.k=5",
    "finetune.epochs=2",
    "finetune.batch_size=20",
    "evaluate.samples=[1, 4]",
    "system.device=cpu",
)


def toy(in_channels: int = 3, image_size: int = 32, width: int = 8, dropout: float = 0.0) -> nn.Module:
    """Two convolutions with BatchNorm between them, and dropout in the end."""
    model = nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride=2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
    )
    model.num_features = width
    return model


def checkpoint_of(run: Run) -> Checkpoint:
    found = run.checkpoints.load_latest()
    if found is None:
        raise CheckpointError(f"{run.path} has no checkpoint")
    return found


def pretrained(recipe: Recipe) -> Run:
    with start_run("pretrain", recipe, QUIET) as run:
        pretrain(recipe, run)
    return run


def finetuned(recipe: Recipe, source: Checkpoint | None) -> Run:
    with start_run("finetune", recipe, QUIET, parent=str(source.path) if source else None) as run:
        finetune(recipe, source, run)
    return run


def die() -> None:
    """What a test has a training do at some step."""
    raise RuntimeError("the machine went away")


@contextmanager
def calling_after_step(number: int, action: Callable[[], None]) -> Iterator[None]:
    """Inside the block, call ``action`` once, after the n-th training step from now."""
    steps = count(1)
    with watching_steps(lambda step: action() if next(steps) == number else None):
        yield


def folder_of_images(root: Path, classes: int = 3, images: int = 8, size: int = 8) -> Path:
    """A folder data set of random images, whose classes differ in colour."""
    from PIL import Image

    chance = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        for label in range(classes):
            place = root / split / f"class{label}"
            place.mkdir(parents=True)
            for index in range(images):
                pixels = torch.randint(0, 128, (size, size, 3), generator=chance, dtype=torch.uint8)
                pixels[..., label % 3] += 100
                Image.fromarray(pixels.numpy()).save(place / f"{index}.png")
    return root
