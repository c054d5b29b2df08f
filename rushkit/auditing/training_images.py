"""The training images that an audit compares with the images that it audits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.distributed import ranks
from rushkit.errors import RushkitError
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup.components import data_name
from rushkit.setup.model import recipe_of
from rushkit.setup.subject import Subject


@dataclass(frozen=True)
class TrainingImages:
    """As many images of the split that a model was fine-tuned on as are audited.

    Attributes:
        images: (N, C, H, W) in [0, 1], on the device; None if there are none at hand.
        labels: (N,) int64.
        why_none: Why there are none, or "".
        fingerprint: The hash that identifies them; "" if there are none.
    """

    images: Tensor | None = None
    labels: Tensor | None = None
    why_none: str = ""
    fingerprint: str = ""

    @property
    def pair(self) -> tuple[Tensor, Tensor] | None:
        """The images and their labels; None if there are none."""
        return None if self.images is None or self.labels is None else (self.images, self.labels)


def training_images(recipe: Recipe, source: Checkpoint, subject: Subject, audited: str) -> TrainingImages:
    """Return as many training images as are audited, chosen by ``limit_indices``, the same on every rank.

    What is missing ends nothing: the reason takes the place of the images.

    Args:
        recipe: Its section finetune names the split that was trained on.
        source: The fine-tuned checkpoint.
        subject: The model, and the audited images.
        audited: The split that these are from.
    """
    name = recipe.finetune.split
    if subject.classifier.given:
        return TrainingImages(why_none="which images the model was trained on is not known")
    if name == audited:
        return TrainingImages(why_none="the audited images are training images themselves")
    # Rank 0 alone reads them, so that it can go on with the others if it cannot.
    mine = _read(recipe, source, subject, name) if ranks.rank() == 0 else TrainingImages()
    shape = None if mine.images is None else list(mine.images.shape)
    why_none, fingerprint, shape = ranks.broadcast([mine.why_none, mine.fingerprint, shape])
    if shape is None:
        return TrainingImages(why_none=why_none)
    device = subject.machine.device
    images = torch.zeros(shape, device=device) if mine.images is None else mine.images
    labels = torch.zeros(shape[0], dtype=torch.int64, device=device) if mine.labels is None else mine.labels
    return TrainingImages(ranks.total(images), ranks.total(labels), "", fingerprint)


def _read(recipe: Recipe, source: Checkpoint, subject: Subject, name: str) -> TrainingImages:
    """Read the images on this rank alone."""
    count, limit = len(subject), recipe.data.limit
    # The first of a permutation: with or without the recipe's own limit, these are images that were trained on.
    data = recipe.data.model_copy(update={"limit": min(limit, count) if limit else count})
    few = recipe.model_copy(update={"data": data})
    try:
        trained_on = recipe_of(source)
        if _place(trained_on) != _place(recipe):
            trained, audited = data_name(trained_on), data_name(recipe)
            return TrainingImages(why_none=f"the model was trained on {trained}, and {audited} is audited")
        with ranks.alone():
            training = Subject.of(few, subject.classifier, subject.machine, split=name)
        if not len(training):
            return TrainingImages(why_none=f"the split {name} is empty")
        return TrainingImages(*training.batch(slice(None)), "", training.fingerprint())
    except RushkitError as error:
        return TrainingImages(why_none=error.message)


def _place(recipe: Recipe) -> tuple[str, object]:
    """Return what tells two data sets apart, whatever is read of them: the registered name, and where files lie."""
    return recipe.data.name, recipe.data.options.get("path")
