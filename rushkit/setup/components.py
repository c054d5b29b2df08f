"""Build data, noise, views and objectives from the sections of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from rushkit import registries
from rushkit.data import Dataset, channels_of
from rushkit.data.decoding import WORKERS, OnDemand
from rushkit.data.memory import MEMORY_BYTES, Choice, Split, chosen_indices, hold_out_indices, limit_indices, resize
from rushkit.data.npz import read_npz
from rushkit.data.picture import MODES, Fit, Form
from rushkit.distributed import ranks
from rushkit.errors import DataError, RushkitError, UsageError
from rushkit.image_size import ImageSize, as_size, sides, size_to_json, size_words, square
from rushkit.noises import Noise
from rushkit.objectives import Objective
from rushkit.paths import expand
from rushkit.recipe.schema import Recipe, Training
from rushkit.registry import factory_parameters, takes_value
from rushkit.system import memory_bytes
from rushkit.views import CropFlip, Views

# The data sets whose option `fit` says how an image that is not square becomes so.
_WITH_FIT = ("folder", "npz", "parquet")


def build_dataset(recipe: Recipe) -> Dataset:
    """Return the data set of the recipe, at the recipe's image size if its factory takes one."""
    section, factory = recipe.data, registries.datasets.get(recipe.data.name)
    options = section.options
    if section.image_size and "image_size" in factory_parameters(factory):
        if isinstance(section.size, tuple) and not takes_value(factory, "image_size", section.image_size):
            raise UsageError(
                f"data set {section.name!r} makes squares, and data.image_size asks for {size_words(section.size)}",
                f"--set data.image_size={min(sides(section.size))}; a folder of images makes rectangles, too",
            )
        options["image_size"] = size_to_json(section.size)
    dataset: Dataset = registries.datasets.create(section.name, root=recipe.system.data_dir, **options)
    return dataset


def load_split(
    recipe: Recipe, dataset: Dataset, name: str, *, limit: int = 0, skip: int = 1, memory: int = MEMORY_BYTES
) -> Split:
    """Return a split at the recipe's image size, after ``limit`` and ``validation``; "validation" is the held-out part.

    All ranks must call it: one rank per machine decodes the images, the others read them from the cache.

    Args:
        recipe: Its sections data and system are used.
        dataset: The data set of the recipe.
        name: The split.
        limit: The most images that are read, drawn once and for all of those that the recipe's section data leaves; 0:
            all.
        skip: Only every ``skip``-th of these is read.
        memory: The images of a folder that take more bytes stay in their files, and are decoded on demand.

    Raises:
        UsageError: there is no such split, or nothing is held out for validation.
        DataError: a label is none of the data set's classes, or the images have other channels than it says.
    """
    # The decoding rank shows the progress, and only rank 0 prints.
    with ranks.first_on_node():
        select = _Reader(recipe, dataset, limit, skip, memory)
        split, classes = _noting_size(_select(select, name), dataset), len(dataset.classes)
    split = replace(split, name=split_name(dataset, name))
    _check_channels(split, dataset)
    if split.labels is not None and len(split):
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"{split.name} has label {low if low < 0 else high}, outside 0..{classes - 1}",
                f"the data set {dataset.name} names {classes} classes: its labels or its classes are wrong",
            )
    return split


def load_training_split(recipe: Recipe, dataset: Dataset, name: str) -> Split:
    """Return a split to train on, as ``load_split``: in memory if it takes less than half of the machine's."""
    return load_split(recipe, dataset, name, memory=max(MEMORY_BYTES, memory_bytes() // 2))


def describe_source(split: Split) -> list[str]:
    """Say where the images of each batch come from, and what was done to their size: a sentence each."""
    images = split.images
    where = "images: in memory"
    if isinstance(images, OnDemand):
        where = f"images: decoded anew for each batch, by {WORKERS} threads; {images.why}"
    return [where, *([f"note: the images are resized {split.resized}"] if split.resized else [])]


def count_images(recipe: Recipe, dataset: Dataset, name: str) -> int:
    """Return how many images ``load_split`` would return, unreadable ones included; a folder's are not decoded."""
    return _select(_Reader(recipe, dataset, 0, 1, MEMORY_BYTES, reads=False), name).of


def _check_channels(split: Split, dataset: Dataset) -> None:
    there, said = split.images.shape[1], channels_of(dataset)
    if there != said:
        raise DataError(
            f"{split.name} has images of {there} channel{'s' * (there != 1)}, and says that they have {said}",
            f"the data set {dataset.name} must say it: `channels = {there}` beside `image_size` (docs/plugins.md)",
        )


def data_name(recipe: Recipe) -> str:
    """Return the name of the recipe's data set in results; the registered one if it cannot be made on this machine."""
    try:
        return build_dataset(recipe).name
    except RushkitError:
        return recipe.data.name


def split_name(dataset: Dataset, split: str) -> str:
    """Return the one name of a split in results and messages, such as ``"cifar10/test"`` or ``"pets/validation"``."""
    return f"{dataset.name}/{split}"


def load_extra(recipe: Recipe, dataset: Dataset) -> Split | None:
    """Return the extra training images of ``finetune.extra``; None if the recipe names no file.

    All ranks must call it, as ``load_split``.

    Raises:
        DataError: the file is missing, damaged, or does not fit the data set.
    """
    section = recipe.finetune.extra
    if not section.path:
        return None
    path = expand(recipe.system.data_dir) / expand(section.path)
    with ranks.first_on_node():
        return read_npz(
            path, square(image_size(recipe, dataset), "finetune.extra"), len(dataset.classes), section.limit
        )


def describe_split(split: Split) -> str:
    """Say how many images a split has, and how many were left out because they could not be read."""
    left_out = f" ({split.skipped} left out: unreadable)" if split.skipped else ""
    return f"{len(split)} images of {split.name}{left_out}"


def check_several_classes(name: str, classes: int) -> None:
    """Raise DataError for a single class: a classifier would then be right, and certified, on every image."""
    if classes < 2:
        raise DataError(
            f"{name}: a classifier of {classes} class{'es' * (classes != 1)} is right whatever it sees",
            "it takes images of two classes or more: class folders train/NAME/, or another data set",
        )


def size_note(split: Split) -> str:
    """Return a sentence on what a radius means if the images were resized; empty if they were not."""
    if not split.resized:
        return ""
    return (
        f"The images were resized {split.resized}: eps and radii are in pixel units of the resized images, and say "
        "nothing of the same perturbation at another size."
    )


def _noting_size(split: Split, dataset: Dataset) -> Split:
    """Return the split, with a note if the data set itself resized its images."""
    size = as_size(*split.images.shape[2:])
    stored = getattr(dataset, "stored_size", size)
    if split.resized or stored == size:
        return split
    return replace(split, resized=f"from {size_words(stored) if stored else 'their own sizes'} to {size_words(size)}")


@dataclass(frozen=True)
class _Reader:
    """Reads the images of a split that a recipe, and then a stage, choose; see ``load_split``."""

    recipe: Recipe
    dataset: Dataset
    limit: int
    skip: int
    memory: int
    reads: bool = True

    def read(self, name: str, choose: Choice) -> Split:
        """Return the images that ``choose`` selects, and of these the stage; no others are decoded or resized."""
        chosen_from, further = 0, None

        def both(images: int, labels: Tensor | None) -> Tensor | None:
            nonlocal chosen_from, further
            first = choose(images, labels)
            chosen_from = images if first is None else len(first)
            further = chosen_indices(chosen_from, self.limit, self.skip) if self.reads else torch.arange(0)
            return further if first is None else first if further is None else first[further]

        split = self._read(name, both)
        places = split.places
        if further is not None:
            places = further if places is None else further[places]
        return replace(split, places=places, of=chosen_from)

    def _read(self, name: str, choose: Choice) -> Split:
        size, parameters = self.recipe.data.size, factory_parameters(self.dataset.split)
        if "choose" in parameters:
            options = {"memory": self.memory} if "memory" in parameters else {}
            split: Split = cast(Any, self.dataset).split(name, choose, **options)
        else:
            split = self.dataset.split(name)
            indices = choose(len(split), split.labels)
            split = split if indices is None else split.take(indices)
        height, width = split.images.shape[2:]
        if not size or (height, width) == sides(size) or isinstance(split.images, OnDemand):
            return split
        before = f"{width}x{height}" if isinstance(size, int) else f"{height}x{width}"
        return replace(split, images=resize(split.images, size), resized=f"from {before} to {size_words(size)}")


def _select(reader: _Reader, name: str) -> Split:
    recipe, dataset, section = reader.recipe, reader.dataset, reader.recipe.data
    if name == "validation" and name not in dataset.splits:
        if not section.validation:
            raise UsageError(
                "there is no validation split: nothing is held out", "for example --set data.validation=5000"
            )
        return reader.read("train", lambda images, labels: _hold_out(recipe, dataset, images, labels)[1])
    if name not in dataset.splits:
        raise UsageError(
            f"{dataset.name} has no split {name!r}", f"it has: {', '.join(dataset.splits)}; --split chooses one"
        )
    if name == "train" and section.validation:
        return reader.read(name, lambda images, labels: _hold_out(recipe, dataset, images, labels)[0])
    return reader.read(name, lambda images, _: limit_indices(images, section.limit))


def _hold_out(recipe: Recipe, dataset: Dataset, images: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the indices of the training images, after the limit, and of the held-out images."""
    section = recipe.data
    # Validation images are held out before the limit, so they are the same under every limit. The seed is fixed, so
    # that runs with other seeds never train on the images that they are compared on.
    training, validation = hold_out_indices(images, labels, section.validation, 0, split_name(dataset, "train"))
    few = limit_indices(len(training), section.limit)
    return training if few is None else training[few], validation


def image_size(recipe: Recipe, dataset: Dataset) -> ImageSize:
    """Return the size of the images that the network sees."""
    return recipe.data.size or dataset.image_size


def image_shape(recipe: Recipe, dataset: Dataset) -> tuple[int, ImageSize]:
    """Return the channels and the size of the images that the network sees."""
    return channels_of(dataset), image_size(recipe, dataset)


def image_form(recipe: Recipe, shape: tuple[int, ImageSize]) -> Form:
    """Return the form in which a model takes single image files: that of its data set's images.

    Args:
        recipe: The section data is used.
        shape: Channels and size of the model's images.

    Raises:
        UsageError: images of other channels than 1 (grey), 3 (RGB) or 4 (RGB and opacity).
    """
    channels, size = shape
    if channels not in MODES:
        raise UsageError(
            f"the model takes images of {channels} channels, and image files have 1, 3 or 4",
            "rushkit.load(...) takes them as tensors",
        )
    options = recipe.data.options if recipe.data.name in _WITH_FIT else {}
    return Form(size, channels, cast(Fit, options.get("fit", "crop")))


def build_noise(recipe: Recipe) -> Noise:
    """Return the smoothing distribution of the recipe."""
    noise: Noise = registries.noises.create(recipe.noise.name, **recipe.noise.options)
    return noise


def build_objective(recipe: Recipe, settings: Training) -> Objective:
    """Return the objective of a training stage, made with the projector's settings if it takes them."""
    known = factory_parameters(registries.objectives.get(settings.objective))
    projector = {key: value for key, value in recipe.projector.model_dump().items() if key in known}
    objective: Objective = registries.objectives.create(settings.objective, **projector, **settings.options)
    return objective


def contrastive_views(recipe: Recipe, size: ImageSize) -> Views:
    """Return the recipe's random transformation T (appendix A) for images of a size."""
    return Views(size, recipe.pretrain.views)


def training_views(augment: str) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Return the transformation of uint8 images in fine-tuning: only scaling (Algorithm 1), or crop and flip."""
    return CropFlip() if augment == "crop-flip" else lambda images, _: to_float(images)


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 images into float32 in [0, 1], contiguous whatever the layout of the data set in memory."""
    return images.to(torch.float32, memory_format=torch.contiguous_format) / 255
