"""Fresh draws of some certified images by the verifier's own seed, and the evidence that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rushkit import data
from rushkit.certification.draws import Counts, Sampler
from rushkit.certification.tasks import Task
from rushkit.data.memory import Split
from rushkit.errors import CheckpointError, DataError, UsageError
from rushkit.noises import FiniteNoise
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.overrides import Changes
from rushkit.recipe.schema import Recipe
from rushkit.results.certification import Mode
from rushkit.results.logs import CountsSubject
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup.components import build_dataset, build_noise, load_split
from rushkit.setup.model import check_one_function, load_classifier
from rushkit.setup.start import machine_of
from rushkit.setup.subject import Subject, check_classes, check_images, labels_of
from rushkit.system import generator


@dataclass(frozen=True)
class Effort:
    """How much is drawn afresh.

    Attributes:
        images: How many images, chosen by the verifier's seed.
        draws: Draws of each of them.
    """

    images: int = 32
    draws: int = 500


@dataclass(frozen=True)
class Redrawn:
    """The answers to fresh draws.

    Attributes:
        rows: (R,) positions among the certified images.
        draws: Draws of each of them; of a count over all splits their number.
        counts: The answers, with a row for each of them.
    """

    rows: list[int]
    draws: int
    counts: Counts


def images_here(recipe: Recipe, logged: CountsSubject, changes: Changes = ()) -> Split:
    """Read the images that a certification names, in the order of their indices. Nothing is downloaded.

    Args:
        recipe: The recipe of the certification.
        logged: The subject of its counts.
        changes: Changes to ``system``.

    Raises:
        DataError, UsageError: the data set is not here, or has no such split.
    """
    here = derive_recipe(recipe, changes)
    about = data.describe(here.data.name, here.system.data_dir, **here.data.options)
    if not about.ready:
        raise DataError(
            f"the data set {here.data.name} is not here: {about.problem or 'its files are missing'}",
            "--set system.data_dir=FOLDER says where it lies",
        )
    dataset = build_dataset(here)
    split = load_split(here, dataset, logged.split, limit=logged.limit, skip=logged.skip)
    check_classes(split.name, dataset.classes, logged.classes)
    places = torch.arange(len(split)) if split.places is None else split.places
    order = places.argsort()
    whole = split.of or len(split)
    taken = split.take(order)
    return Split(taken.images, taken.labels, split.name, places=places[order], of=whole)


def subject_of(recipe: Recipe, model: Checkpoint, images: Split, precision: str, changes: Changes = ()) -> Subject:
    """Return the model and images to draw for, in the precision of the certification.

    Raises:
        CheckpointError: the checkpoint holds no classifier.
        UsageError: the images or classes do not fit the model.
    """
    check_one_function(model)
    here = derive_recipe(recipe, [*changes, f"system.precision={precision}"])
    machine = machine_of(here)
    classifier = load_classifier(model, machine)
    check_images(images, (classifier.channels, classifier.image_size))
    assert images.places is not None
    return Subject(
        machine=machine,
        classifier=classifier,
        noise=build_noise(here),
        split=images,
        indices=images.places,
        labels=labels_of(images, len(classifier.classes)),
        chunk=classifier.chunk(here.system.chunk),
        chosen_from=images.of,
    )


def redraw(subject: Subject, mode: Mode, effort: Effort, seed: int) -> Redrawn:
    """Draw some images afresh, with draws and images that follow from the verifier's seed.

    Args:
        subject: The model under its noise, and all certified images.
        mode: The procedure of the certification: all splits of an image are counted again.
        effort: How many images, and draws of each.
        seed: The verifier's seed, which the author of the counts must not have known.
    """
    order = torch.randperm(len(subject), generator=generator(seed, "verify images"))
    rows = order[: effort.images].sort().values
    taken = subject.take(rows)
    sampler = Sampler(
        model=taken.model,
        noise=taken.noise,
        split=taken.split,
        indices=taken.indices,
        seed=seed,
        classes=len(taken.classifier.classes),
        batch=taken.chunk,
        device=taken.machine.device,
        verb="verify",
    )
    if mode == "splits":
        assert isinstance(taken.noise, FiniteNoise)
        return Redrawn(rows.tolist(), taken.noise.num_splits, sampler.count_splits(taken.noise, range(len(rows))))
    task = Task("estimation", range(len(rows)), 0, effort.draws)
    return Redrawn(rows.tolist(), effort.draws, sampler.count_task(task))


def why_not(error: DataError | UsageError | CheckpointError) -> str:
    """Return why a piece of evidence is not at hand, in one line."""
    return error.message.splitlines()[0]


def class_counts(counts: Counts, classes: Sequence[int]) -> list[int]:
    """Return the votes of each row for its class."""
    return [int(row[label]) for row, label in zip(counts.votes, classes, strict=True)]
