"""Pack the saved images of a finished attack, with what a reviewer needs to check them, into an artifact."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rushkit import __version__
from rushkit.claims.artifact import Artifact
from rushkit.claims.chain import classifier_tensors, original_hashes, weights_hash
from rushkit.claims.evidence import Originals, chosen_by, originals_of
from rushkit.claims.manifest import KIND, SCHEMA, AttackFacts, DataFacts, Manifest, ModelFacts, Selection
from rushkit.data.memory import Split
from rushkit.errors import DataError, UsageError
from rushkit.recipe import toml
from rushkit.recipe.model_section import short
from rushkit.recipe.schema import Recipe
from rushkit.results.attacks import AttackRow
from rushkit.robustness.saved_images import CONTENT, FOLDER
from rushkit.run.checkpoint import Checkpoint, load_checkpoint
from rushkit.setup.given import GivenModel
from rushkit.setup.subject import fingerprint_of

_NO_CHAIN = ["0" * 64] * 6


def pack(row: AttackRow, recipe: Recipe, model: Checkpoint, run: Path, with_weights: bool = False) -> Artifact:
    """Return the artifact of one row of a finished attack.

    Example::

        artifact = pack(results.attacks[0], recipe, checkpoint, Path(results.run), with_weights=True)
        write_artifact("claim.rushkit", artifact)

    Args:
        row: A row with saved images, and without a target.
        recipe: The recipe that the attack ran with; its sections data and system say where the originals are.
        model: The model that was attacked.
        run: The folder of the run, whose images are read.
        with_weights: Whether the artifact holds the weights.

    Raises:
        UsageError: no images were saved, the attack was towards a class, or the model is code and has no weights to
            pack.
        DataError: the data set is not here, or is not the one that was attacked.
        CheckpointError: the saved images are gone or damaged.
    """
    check_packable(row, model, with_weights)
    # What results.json says is somebody's word: it names a file of this folder, or none.
    file = load_checkpoint(run / FOLDER / Path(row.saved).name)
    saved = file.tensors
    outcomes = row.outcomes
    order = torch.tensor(outcomes.indices).argsort()
    indices, labels, right, clean_right = (
        torch.tensor(column)[order]
        for column in (outcomes.indices, outcomes.labels, outcomes.right["majority"], outcomes.clean_right["majority"])
    )
    images = saved["images"]
    if len(images) != len(indices) or not torch.equal(saved["labels"][order], labels):
        raise DataError(f"{run}: the saved images are not those of its outcomes", "attack again with --save")
    originals = originals_of(recipe, row.split.rpartition("/")[2], indices)
    _check_same(originals, labels, order, file, run)
    manifest = Manifest(
        schema_version=SCHEMA,
        kind=KIND,
        made_by=f"rushkit {__version__}",
        data=DataFacts(
            split=row.split,
            classes=list(originals.classes),
            shape=list(images.shape[1:]),
            images=originals.whole,
            resized=originals.resized,
        ),
        selection=_selection(recipe, row, indices, originals.whole),
        recipe=portable_text(recipe),
        model=_model_facts(model),
        attack=AttackFacts.of(row, recipe.system.seed),
        images=len(images),
        sizes={},
        chain=_NO_CHAIN,
    )
    return Artifact(
        manifest=manifest,
        images=images[order].to(torch.float32),
        indices=indices,
        labels=labels,
        originals=original_hashes(originals.images),
        right=right,
        clean_right=clean_right,
        weights=classifier_tensors(model.tensors) if with_weights else None,
    )


def check_packable(row: AttackRow, model: Checkpoint, with_weights: bool) -> None:
    """Raise UsageError for a row that cannot be packed; see ``pack``."""
    if not row.saved:
        raise UsageError(
            f"{row.words()}: no images were saved, so there is nothing that a stranger could check",
            "attack again with --save: saved images can be packed and verified",
        )
    if row.target is not None:
        raise UsageError(
            "images that lead to one class are no claim on robust accuracy, and are not packed", "leave --target out"
        )
    check_weights(model, with_weights)


def check_weights(model: Checkpoint, with_weights: bool) -> None:
    """Raise UsageError for weights of a model that is code."""
    if with_weights and isinstance(model, GivenModel):
        raise UsageError(
            f"{model.facts.code} is code, which an artifact never holds",
            "leave --with-weights out: a reviewer names the code with --model",
        )


def portable_text(recipe: Recipe) -> str:
    """Return a recipe as TOML without what belongs to one machine: only the last parts of paths and code."""
    data, extra = dict(recipe.data.model_dump()), recipe.finetune.extra
    if isinstance(path := data.get("path"), str):
        data["path"] = Path(path).name or "."
    finetune = recipe.finetune.model_dump() | {"extra": extra.model_dump() | {"path": Path(extra.path).name}}
    attacks: list[toml.Toml] = [
        section.model_dump() | {"surrogate": short(section.surrogate), "also": [short(code) for code in section.also]}
        for section in recipe.attack
    ]
    portable: toml.Table = {
        "data": data,
        "finetune": finetune,
        "attack": attacks,
        "system": {"seed": recipe.system.seed},
    }
    table = recipe.resolved() | portable
    if (model := recipe.model) is not None:
        plain = {"code": short(model.code), "weights": Path(model.weights).name}
        table["model"] = model.model_dump() | plain | {"fronts": [short(front) for front in model.fronts]}
    return toml.dumps(table)


def _model_facts(model: Checkpoint) -> ModelFacts:
    if isinstance(model, GivenModel):
        return ModelFacts(hash=model.hash, given=model.facts)
    return ModelFacts(hash=weights_hash(model.tensors), checkpoint=model.hash)


def _selection(recipe: Recipe, row: AttackRow, indices: Tensor, whole: int) -> Selection:
    """Return the rule that chose the images: all of them, or the limit and skip of a section of the recipe."""
    if len(indices) == whole:
        return Selection(rule="all")
    for section in (*recipe.attack, *recipe.published):
        chosen = chosen_by(section.limit, section.skip, whole)
        if section.type == row.attack and torch.equal(chosen, indices):
            return Selection(rule="limit", limit=section.limit, skip=section.skip)
    return Selection(rule="chosen")


def _check_same(originals: Originals, labels: Tensor, order: Tensor, file: Checkpoint, run: Path) -> None:
    """Raise DataError unless the originals are those that were attacked, by the hash that was saved with the images."""
    back = order.argsort()
    same = originals.images.shape == file.tensors["images"].shape and torch.equal(originals.labels, labels)
    attacked = Split(originals.images[back], labels[back], originals.name)
    if not same or fingerprint_of(attacked) != file.meta.get(CONTENT):
        raise DataError(
            f"{originals.name} is another data set than {run} attacked: other images or labels",
            "RUSHKIT_DATA or --set system.data_dir says where the data set lies",
        )
