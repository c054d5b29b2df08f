"""What an artifact is checked against: the originals of its data set, and the model that it names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rushkit.claims.artifact import Artifact
from rushkit.claims.chain import weights_hash
from rushkit.claims.problem import ArtifactError
from rushkit.data.memory import Split, chosen_indices
from rushkit.errors import CheckpointError, DataError, UsageError
from rushkit.recipe.load import build_recipe, derive_recipe, read_recipe
from rushkit.recipe.overrides import Changes
from rushkit.recipe.schema import Recipe
from rushkit.recipe.toml import Table
from rushkit.run.checkpoint import Checkpoint, checkpoint_hash, load_checkpoint
from rushkit.run.info import find_runs
from rushkit.run.shipped import shipped_folder
from rushkit.setup.components import build_dataset, load_split
from rushkit.setup.given import GivenModel
from rushkit.setup.model import Classifier, load_classifier
from rushkit.system import Machine


@dataclass(frozen=True)
class Originals:
    """The images of a data set at the indices that an artifact names.

    Attributes:
        images: (N, C, H, W) uint8, as the model takes them.
        labels: (N,) int64.
        classes: Names of the data set's classes.
        whole: How many images the split has.
        name: The split's name here.
        resized: What was done to their size; empty if nothing was.
        has_path: Whether the data set is named by the path where it lies, which differs between machines.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    whole: int
    name: str
    resized: str
    has_path: bool = False


@dataclass(frozen=True)
class NamedModel:
    """The model that an artifact is checked with.

    Attributes:
        classifier: The classifier, built from the artifact's recipe.
        hash: Its hash, computed here.
        found: Where it was found, for messages.
        checkpoint: The checkpoint that it is of; None for the weights in the file.
        same_reading: Whether the checkpoint's own recipe reads images as the artifact's does.
    """

    classifier: Classifier
    hash: str
    found: str
    checkpoint: Checkpoint | None = None
    same_reading: bool = True


@dataclass(frozen=True)
class Missing:
    """A part of the evidence that is not at hand.

    Attributes:
        why: What is missing, and why.
        give: What to give.
        wrong: Whether something is there in its place, which cannot be it.
    """

    why: str
    give: str
    wrong: bool = False


def recipe_here(artifact: Artifact, path: object, changes: Changes = (), data: Table | None = None) -> Recipe:
    """Return the recipe of an artifact on this machine: its folders, its device.

    Args:
        artifact: Its recipe may be anybody's; it names components, and runs no code.
        path: The file, for messages.
        changes: Changes to ``system``.
        data: Keys of the section data that the user gives, such as where a folder of images lies.

    Raises:
        ArtifactError: the text is no recipe.
    """
    try:
        stored = read_recipe(artifact.manifest.recipe, str(path))
    except UsageError as error:
        raise ArtifactError(f"{path}: its recipe cannot be read: {error.message}", "get it again", "RV18") from error
    if data is not None:
        stored = build_recipe(stored.resolved() | {"data": stored.data.model_dump() | data})
    return derive_recipe(stored, changes)


def originals_of(recipe: Recipe, split: str, indices: Tensor) -> Originals:
    """Read the images at some indices of a split.

    Args:
        recipe: Its sections data and system are used.
        split: The name of the split, such as ``"test"``.
        indices: (N,) int64, positions among the images that the recipe's section data leaves.

    Raises:
        DataError, UsageError: the data set is not here, has no labels, or no such images.
    """
    dataset = build_dataset(recipe)
    images = load_split(recipe, dataset, split)
    if images.labels is None:
        raise DataError(f"{images.name} has no labels", "an attack is measured on a labelled split")
    taken = images.take(_rows(images, indices))
    assert taken.labels is not None
    return Originals(
        images=taken.images[:],
        labels=taken.labels,
        classes=tuple(dataset.classes),
        whole=images.of or len(images),
        name=images.name,
        resized=images.resized,
        has_path="path" in recipe.data.options,
    )


def _rows(split: Split, indices: Tensor) -> Tensor:
    """Return where the images of some indices lie in a split that may have left unreadable ones out."""
    places = torch.arange(len(split)) if split.places is None else split.places
    order = places.argsort()
    if not len(places):
        raise DataError(f"{split.name} has no images", "see `rushkit data check`")
    rows = order[torch.searchsorted(places[order], indices).clamp(max=len(places) - 1)]
    if not torch.equal(places[rows], indices):
        index = int(indices[places[rows] != indices][0])
        raise DataError(
            f"{split.name} has no image {index}", "it is another data set, or some of its files are missing"
        )
    return rows


def chosen_by(limit: int, skip: int, whole: int) -> Tensor:
    """Return the indices that ``--limit`` and ``--skip`` choose of so many images, in rising order: (N,) int64."""
    chosen = chosen_indices(whole, limit, skip)
    return torch.arange(whole) if chosen is None else chosen.sort().values


def model_of(artifact: Artifact, named: Checkpoint | None, root: str | Path, machine: Machine) -> NamedModel | Missing:
    """Return the model that an artifact is checked with, built from the artifact's recipe.

    Args:
        artifact: The artifact.
        named: The model that the user names; None: that in the file, or else the one of the same hash among the runs.
        root: The folder of runs.
        machine: The device.

    Raises:
        UsageError: the recipe names a component that is not here.
    """
    facts = artifact.manifest.model
    if isinstance(named, GivenModel):
        return NamedModel(load_classifier(named, machine), named.hash, f"{named.path} that you name", named)
    if facts.given is not None:
        return Missing(
            f"the model is code of its author, {facts.given.in_words()}, which nothing but your word runs",
            "--model FILE.py:NAME names it, with the options that the recipe shows",
        )
    if named is not None:
        return _built(artifact, machine, named.tensors, str(named.path), named)
    if artifact.weights is not None:
        return _built(artifact, machine, artifact.weights, "the file")
    if (checkpoint := checkpoint_of_hash(facts.checkpoint, (root,))) is not None:
        return _built(artifact, machine, checkpoint.tensors, str(checkpoint.path), checkpoint)
    return Missing(
        f"the file holds no weights, and no run in {root} has those of hash {facts.hash[:12]}",
        "--from RUN or CHECKPOINT names the model",
    )


def _built(
    artifact: Artifact,
    machine: Machine,
    tensors: dict[str, Tensor],
    found: str,
    checkpoint: Checkpoint | None = None,
) -> NamedModel | Missing:
    manifest = artifact.manifest
    channels, height, _ = manifest.data.shape
    meta = {
        "stage": "finetune",
        "recipe": manifest.recipe,
        "classes": manifest.data.classes,
        "image_size": height,
        "channels": channels,
    }
    made = Checkpoint(tensors, meta, Path(found), manifest.model.checkpoint)
    try:
        classifier = load_classifier(made, machine)
    except CheckpointError as error:
        give = "--from RUN or CHECKPOINT names the model that was attacked"
        return Missing(f"the weights of {found} do not fit the recipe of the claim: {error.message}", give, wrong=True)
    return NamedModel(classifier, weights_hash(tensors), found, checkpoint, _reads_alike(manifest.recipe, checkpoint))


def _reads_alike(text: str, checkpoint: Checkpoint | None) -> bool:
    if checkpoint is None or not isinstance(own := checkpoint.meta.get("recipe"), str):
        return True
    theirs, ours = read_recipe(text, "the artifact"), read_recipe(own, str(checkpoint.path))
    return theirs.backbone == ours.backbone


def checkpoint_of_hash(wanted: str, roots: Sequence[str | Path], path: str | None = None) -> Checkpoint | None:
    """Return the checkpoint of a hash; None if it is not here.

    Args:
        wanted: The hash.
        roots: Folders of runs, whose fine-tuned models are looked at, and those that come with rushkit.
        path: Where it may lie, looked at first.
    """
    if not wanted:
        return None
    for candidate in _candidates(roots, path):
        if checkpoint_hash(candidate) == wanted:
            with contextlib.suppress(CheckpointError):
                return load_checkpoint(candidate)
    return None


def _candidates(roots: Sequence[str | Path], path: str | None) -> Iterator[Path]:
    if path is not None:
        yield Path(path)
    for root in (*roots, shipped_folder()):
        for run in find_runs(root):
            if run.stage == "finetune":
                yield from run.store().paths()
