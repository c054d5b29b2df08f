"""From the sections of a recipe to data, noise, views, networks and objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor

from rushkit import registries
from rushkit.data import Dataset
from rushkit.data.memory import Choice, Split, hold_out_indices, limit_indices, resize
from rushkit.distributed import ranks
from rushkit.errors import DataError, UsageError
from rushkit.noises import Noise
from rushkit.objectives import Objective
from rushkit.recipe.schema import Recipe, Training
from rushkit.views import CropFlip, Views

IN_CHANNELS = 3


def build_dataset(recipe: Recipe) -> Dataset:
    """The data set of the recipe; it is asked for the recipe's image size where its factory takes one."""
    section, factory = recipe.data, registries.datasets.get(recipe.data.name)
    options = section.options
    if section.image_size and "image_size" in signature(factory).parameters:
        options["image_size"] = section.image_size
    return registries.datasets.create(section.name, root=recipe.system.data_dir, **options)


def load_split(recipe: Recipe, dataset: Dataset, name: str) -> Split:
    """A split under the recipe's image size, ``limit`` and ``validation``; the held-out part is named "validation".

    Several ranks ask together: one of each machine decodes what has to be decoded, the others take it from the cache.

    Raises:
        UsageError: no such split, or nothing is held out for validation.
        DataError: a label that is none of the data set's classes.
    """
    # Whoever decodes shows how far it is, and only rank 0 speaks.
    with ranks.first_on_node():
        split, classes = _noting_size(_select(recipe, dataset, name), dataset), len(dataset.classes)
    if split.labels is not None and len(split):
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"{split.name} has label {low if low < 0 else high}, outside 0..{classes - 1}",
                f"the data set {dataset.name} names {classes} classes: its labels or its classes are wrong",
            )
    return split


def describe_split(split: Split) -> str:
    """How many images of what, and how many were left out because they could not be read."""
    left_out = f" ({split.skipped} left out: unreadable)" if split.skipped else ""
    return f"{len(split)} images of {split.name}{left_out}"


def check_several_classes(name: str, classes: int) -> None:
    """Raise DataError for a classifier of a single class: it would be right, and certified, whatever it sees."""
    if classes < 2:
        raise DataError(
            f"{name}: a classifier of {classes} class{'es' * (classes != 1)} is right whatever it sees",
            "it takes images of two classes or more: class folders train/NAME/, or another data set",
        )


def size_note(split: Split) -> str:
    """What a radius means where images were resized; empty where they were not."""
    if not split.resized:
        return ""
    return (
        f"The images were resized {split.resized}: eps and radii are in pixel units of the resized images, and say "
        "nothing of the same perturbation at another size."
    )


def _noting_size(split: Split, dataset: Dataset) -> Split:
    """The split with what the data set itself did to the size of its images."""
    side = split.images.shape[3]
    stored = getattr(dataset, "stored_size", side)
    if split.resized or stored == side:
        return split
    return replace(split, resized=f"from {f'{stored}x{stored}' if stored else 'their own sizes'} to {side}x{side}")


def _select(recipe: Recipe, dataset: Dataset, name: str) -> Split:
    section = recipe.data
    if name == "validation" and name not in dataset.splits:
        if not section.validation:
            raise UsageError(
                "there is no validation split: nothing is held out", "for example --set data.validation=5000"
            )
        return _read(recipe, dataset, "train", lambda images, labels: _hold_out(recipe, images, labels)[1])
    if name not in dataset.splits:
        raise UsageError(f"{section.name} has no split {name!r}", f"it has: {', '.join(dataset.splits)}")
    if name == "train" and section.validation:
        return _read(recipe, dataset, name, lambda images, labels: _hold_out(recipe, images, labels)[0])
    return _read(recipe, dataset, name, lambda images, _: limit_indices(images, section.limit))


def _hold_out(recipe: Recipe, images: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Indices of the training images, under the limit, and of those that are held out."""
    section = recipe.data
    # Held out before the limit, so that the validation images are the same under every limit. The seed is fixed: runs
    # with other seeds must never train on the images that they are compared on.
    training, validation = hold_out_indices(images, labels, section.validation, 0, f"{section.name}/train")
    few = limit_indices(len(training), section.limit)
    return training if few is None else training[few], validation


def _read(recipe: Recipe, dataset: Dataset, name: str, choose: Choice) -> Split:
    """The chosen images of a split at the recipe's size; no others are decoded or resized."""
    size = recipe.data.image_size
    if "choose" in signature(dataset.split).parameters:
        split = cast(Any, dataset).split(name, choose)
    else:
        split = dataset.split(name)
        chosen = choose(len(split), split.labels)
        split = split if chosen is None else split.take(chosen)
    height, width = split.images.shape[2:]
    if not size or (height, width) == (size, size):
        return split
    return replace(split, images=resize(split.images, size), resized=f"from {width}x{height} to {size}x{size}")


def image_size(recipe: Recipe, dataset: Dataset) -> int:
    """Side of the images that the network sees."""
    return recipe.data.image_size or dataset.image_size


def build_noise(recipe: Recipe) -> Noise:
    """The smoothing distribution of the recipe."""
    return registries.noises.create(recipe.noise.name, **recipe.noise.options)


def build_objective(recipe: Recipe, settings: Training) -> Objective:
    """The objective of a training stage; it gets the projector's settings if it takes them."""
    factory = registries.objectives.get(settings.objective)
    known = signature(factory).parameters
    projector = {key: value for key, value in recipe.projector.model_dump().items() if key in known}
    return registries.objectives.create(settings.objective, **projector, **settings.options)


def contrastive_views(recipe: Recipe, size: int) -> Views:
    """T of the recipe (appendix A), for images of a size."""
    return Views(size, recipe.pretrain.views)


def training_views(augment: str) -> Callable[[Tensor, torch.Generator], Tensor]:
    """What fine-tuning does to uint8 images before the noise: nothing but scaling (Algorithm 1), or crop and flip."""
    return CropFlip() if augment == "crop-flip" else lambda images, _: to_float(images)


def to_float(images: Tensor) -> Tensor:
    """uint8 images -> float32 in [0, 1], contiguous however the data set's lie in memory."""
    return images.to(torch.float32, memory_format=torch.contiguous_format) / 255
