"""Other people's models as runs of rushkit's own."""

from __future__ import annotations

<<<<<<< HEAD
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torchvision
from torch import Tensor

=======
>>>>>>> 9b8d731 (exchange: part, plan, pretrained and export records; models' options have a type)
from rushkit import data
from rushkit.data.memory import limit
from rushkit.errors import first_few
from rushkit.exchange.plan import Plan
from rushkit.noises.none import NoNoise
from rushkit.results.imported import CleanCheck, Imported
from rushkit.results.intervals import accuracy_row
from rushkit.rounding import percent
from rushkit.run.folder import Run
from rushkit.setup import components
from rushkit.setup.model import load_classifier
from rushkit.setup.outcomes import count_outcomes
from rushkit.setup.start import machine_of
from rushkit.setup.subject import check_images, labels_of, smoothed


<<<<<<< HEAD
@dataclass(frozen=True)
class Plan:
    """An import that fits.

    Attributes:
        recipe: With the normalisation that the weights want.
        stage: What later stages take the run for: ``"finetune"`` with a classifier, ``"pretrain"`` with an encoder.
        tensors: As a checkpoint holds them.
        meta: Of the checkpoint.
        parameters: How many numbers the model has.
        notes: What was done, in sentences.
    """

    recipe: Recipe
    stage: Literal["finetune", "pretrain"]
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    parameters: int
    notes: tuple[str, ...]


def import_recipe(
    name: str,
    dataset: str,
    backbone: str,
    changes: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Recipe:
    """The recipe of an imported model: without noise, unless the changes name one.

    Args:
        name: Of the run.
        dataset: A data set.
        backbone: A name of the registry of backbones.
        changes: ``KEY=VALUE``, as for ``--set``.
        mean: Of each channel, pixel units.
        std: The same.

    Raises:
        UsageError: a recipe that is not right, or one that asks the backbone for pretrained weights.
    """
    table: dict[str, Any] = {
        "name": name,
        "data": {"name": dataset},
        "backbone": {"name": backbone, "mean": list(mean), "std": list(std)},
        "noise": {"name": "none"},
    }
    if dict(parse_changes(changes)).get("noise.name", "none") == "none":
        # More draws of no noise are more of the same.
        table |= {"evaluate": {"samples": [1]}, "attack": [{"samples": [1]}]}
    recipe = derive_recipe(build_recipe(table), changes)
    if "pretrained" in recipe.backbone.options:
        raise UsageError(
            "backbone.pretrained is for training from the start; an import brings weights",
            "to import those of timm or torchvision: --pretrained",
        )
    check_components(recipe)
    return recipe


def pretrained_weights(recipe: Recipe) -> ForeignWeights:
    """The weights, head included, that timm or torchvision bring for the recipe's backbone, downloaded if need be.

    Raises:
        UsageError: a backbone of neither.
        RushkitError: the weights cannot be had.
    """
    family, _, name = recipe.backbone.name.partition("/")
    size = components.image_size(recipe, components.build_dataset(recipe))
    origin = {"pretrained": recipe.backbone.name}
    if family == "timm":
        model: Any = timm_pretrained(name, size, recipe.backbone.options)
        origin["tag"] = str(model.pretrained_cfg.get("tag"))
        mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
        state = model.state_dict()
    elif family == "torchvision":
        state = pretrained_state(name)
        weights: Any = torchvision.models.get_model_weights(name).DEFAULT
        origin["tag"] = str(weights)
        mean, std = weights.transforms().mean, weights.transforms().std
        if name in OWN_SCALE and not recipe.backbone.options.get("transform_input"):
            mean, std = OWN_SCALE[name]
    else:
        raise UsageError(
            f"{recipe.backbone.name} has no pretrained weights", "--pretrained is for timm/NAME and torchvision/NAME"
        )
    tensors, notes = as_float32(state, recipe.backbone.name)
    return ForeignWeights(tensors, origin, tuple(notes), tuple(mean), tuple(std))


def plan_import(recipe: Recipe, weights: ForeignWeights, rules: Rules, encoder_only: bool = False) -> Plan:
    """Fit weights to the recipe's backbone and data set; nothing is written.

    Args:
        recipe: See ``import_recipe``. Its normalisation comes before that of the weights.
        weights: What is imported.
        rules: What the user says about names.
        encoder_only: Leave the head out.

    Raises:
        CheckpointError: tensors that do not fit.
        UsageError: a head for another number of classes, or a rule that matches nothing.
    """
    dataset = components.build_dataset(recipe)
    size, classes = components.image_size(recipe, dataset), dataset.classes
    if not encoder_only:
        components.check_several_classes(recipe.data.name, len(classes))
    plain = _normalising(recipe, (), ())
    bare = components.build_encoder(plain, size)
    fitted = fit_names(weights.tensors, bare.state_dict(), components.num_features(bare), rules, encoder_only)
    notes = [*weights.notes, *fitted.notes]
    theirs = (fitted.mean, fitted.std) if fitted.mean else (weights.mean, weights.std)
    own = tuple(recipe.backbone.mean), tuple(recipe.backbone.std)
    if not own[0]:
        recipe = _normalising(recipe, *theirs)
    elif theirs[0] and theirs != own:
        notes.append(f"--mean and --std come before the weights' own: {list(theirs[0])}, {list(theirs[1])}")
    _check_scale(recipe.backbone.mean, recipe.backbone.std)
    if not encoder_only and len(fitted.head["weight"]) != len(classes):
        raise UsageError(
            f"the head has {len(fitted.head['weight'])} classes, and {recipe.data.name} has {len(classes)}",
            "name the data that it was trained on with --data, or import the encoder alone with --encoder-only and "
            "fine-tune it",
        )
    network = components.build_network(recipe, components.build_objective(recipe, recipe.finetune), size, len(classes))
    inner = network.encoder.model if isinstance(network.encoder, Normalised) else network.encoder
    inner.load_state_dict(fitted.encoder)
    if encoder_only:
        tensors = {name: tensor for name, tensor in network.tensors().items() if name.startswith("encoder.")}
    else:
        network.head.load_state_dict(fitted.head)
        tensors = network.tensors()
    imported = {**weights.origin, "renamed": dict(rules.rename), "ignored": list(fitted.ignored), "notes": notes}
    stage: Literal["finetune", "pretrain"] = "pretrain" if encoder_only else "finetune"
    meta = {
        "stage": stage,
        "recipe": toml.dumps(recipe.resolved()),
        "image_size": size,
        "classes": list(classes),
        "imported": imported,
    }
    counted = network.encoder if encoder_only else network
    return Plan(recipe, stage, tensors, meta, num_parameters(counted), tuple(notes))


def import_model(plan: Plan, run: Run, check: int = 500) -> dict[str, Any]:
=======
def import_model(plan: Plan, run: Run, check: int = 500) -> Imported:
>>>>>>> 9b8d731 (exchange: part, plan, pretrained and export records; models' options have a type)
    """Write the checkpoint, and see how well the classifier does on clean images.

    Args:
        plan: What is imported.
        run: Takes it.
        check: Images of ``evaluate.split`` that are classified without noise; 0: none.
    """
    recipe, is_classifier = plan.recipe, plan.stage == "finetune"
    run.update(stage=plan.stage, imported=plan.origin.to_table())
    for note in plan.origin.notes:
        run.speaker.say(note)
<<<<<<< HEAD
    if ignored := plan.meta["imported"]["ignored"]:
        run.speaker.warn(f"left out, as asked: {first_few(ignored)}")
    run.save_checkpoint(0, plan.tensors, plan.meta)
    results: dict[str, Any] = {
        "stage": "import",
        "recipe": recipe.name,
        "makes": "classifier" if classifier else "encoder",
        "imported": plan.meta["imported"],
        "backbone": recipe.backbone.model_dump(),
        "noise": recipe.noise.model_dump(),
        "parameters": plan.parameters,
        "image_size": plan.meta["image_size"],
        "classes": len(plan.meta["classes"]) if classifier else None,
        "clean": _check(plan, run, check) if classifier and check else None,
    }
    return run.write_results(results)


def _check_scale(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise UsageError for figures of pixels up to 255: on pixels in [0, 1] they make all images one grey."""
    if any(value > 1 for value in mean):
        divided = (",".join(f"{value / 255:.4g}" for value in values) for values in (mean, std))
        raise UsageError(
            f"the normalisation, mean {list(mean)} and std {list(std)}, is that of pixels up to 255; here they lie in "
            "[0, 1]",
            "divided by 255: --mean {} --std {}".format(*divided),
=======
    if plan.origin.ignored:
        run.speaker.warn(f"left out, as asked: {first_few(plan.origin.ignored)}")
    run.save_checkpoint(0, plan.tensors, plan.meta())
    return run.write_results(
        Imported(
            recipe=recipe.name,
            makes="classifier" if is_classifier else "encoder",
            imported=plan.origin,
            backbone=recipe.backbone,
            noise=recipe.noise,
            parameters=plan.parameters,
            image_size=plan.image_size,
            classes=len(plan.classes) if is_classifier else None,
            clean=_clean_check(plan, run, check) if is_classifier and check else None,
>>>>>>> 9b8d731 (exchange: part, plan, pretrained and export records; models' options have a type)
        )
    )


def _clean_check(plan: Plan, run: Run, images: int) -> CleanCheck | None:
    """Clean accuracy without noise, with a warning where it is that of guessing; None where the data is not here."""
    recipe = plan.recipe
    described = data.describe(recipe.data.name, recipe.system.data_dir, **recipe.data.options)
    if not described.ready or recipe.evaluate.split not in described.splits:
        lacks = "is not complete" if not described.ready else f"has no split {recipe.evaluate.split}"
        run.speaker.warn(f"not checked on images: {recipe.data.name} {lacks} in {recipe.system.data_dir}")
        return None
    checkpoint = run.checkpoints.load_latest()
    assert checkpoint is not None
    machine = machine_of(recipe)
    classifier = load_classifier(checkpoint, machine)
    split = limit(components.load_split(recipe, components.build_dataset(recipe), recipe.evaluate.split), images)
    labels = labels_of(split, len(classifier.classes))
    check_images(split, classifier.image_size)
    g = smoothed(classifier.network, NoNoise(), 1, classifier.chunk(recipe.system.chunk), machine)
    row = accuracy_row(count_outcomes(g, split, 1, recipe.system.seed, machine.device).right("majority"))
    chance = int(labels.bincount().max()) / len(labels)
    if row["low"] <= chance:
        run.speaker.warn(
            f"clean accuracy is {percent(row['accuracy'])} % on {len(split)} images, where always saying the "
            f"commonest class has {percent(chance)} %: is it the normalisation (--mean, --std), the order of the "
            "classes, the image size, the backbone's options?"
        )
    return CleanCheck(data=split.name, chance=chance, **row)
