"""Check that foreign weights fit a recipe, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue
from torch import Tensor

from rushkit.errors import CheckpointError, UsageError
from rushkit.exchange.foreign_names import Fitted, fit_names
from rushkit.exchange.known_names import options_shown
from rushkit.exchange.misfit import MisfitError
from rushkit.exchange.nearest import flags_that_fit
from rushkit.exchange.published import Branch, written_by
from rushkit.exchange.rules import Rules
from rushkit.foreign.file import ForeignWeights
from rushkit.image_size import ImageSize, sides, size_to_json
from rushkit.models.network import Network, num_parameters
from rushkit.models.normalise import Normalised
from rushkit.recipe import toml
from rushkit.recipe.components import check_components
from rushkit.recipe.load import build_recipe, derive_recipe
from rushkit.recipe.overrides import parse_changes
from rushkit.recipe.registered import REGISTERED, registered_files
from rushkit.recipe.schema import Recipe
from rushkit.recipe.toml import Given, Table
from rushkit.registry import BUILTIN_OWNER
from rushkit.results.imported import Origin
from rushkit.setup import components, networks

_STEM_HINT = (
    "a 3x3 stem of solo-learn, and of code made from it, has padding 2: --set backbone.stem=padded "
    "(another 3x3 stem: --set backbone.stem=small)"
)
# solo-learn:solo/data/pretrain_dataloader.py; its loader normalises, and the network does not.
_FIGURES_HINT = (
    "solo-learn's own for CIFAR-10: --mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616\n"
    "for CIFAR-100: --mean 0.5071,0.4865,0.4409 --std 0.2673,0.2564,0.2762; none at all: --mean 0,0,0 --std 1,1,1"
)


@dataclass(frozen=True)
class Plan:
    """An import whose weights fit.

    Attributes:
        recipe: With the normalisation that the weights want.
        stage: What later stages take the run for: ``"finetune"`` with a classifier, ``"pretrain"`` with an encoder.
        tensors: As a checkpoint holds them.
        image_size: Height and width of the images, pixels.
        channels: Their number of channels.
        classes: Names of the classes.
        origin: Where the weights are from, and what was done to them.
        parameters: How many numbers the model has.
    """

    recipe: Recipe
    stage: Literal["finetune", "pretrain"]
    tensors: Mapping[str, Tensor]
    image_size: ImageSize
    channels: int
    classes: tuple[str, ...]
    origin: Origin
    parameters: int

    def meta(self) -> dict[str, JsonValue]:
        """Return the checkpoint's metadata."""
        return {
            "stage": self.stage,
            "recipe": toml.dumps(self.recipe.resolved()),
            "image_size": size_to_json(self.image_size),
            "channels": self.channels,
            "classes": list(self.classes),
            **({REGISTERED: files} if (files := registered_files(self.recipe)) else {}),
            "imported": self.origin.to_table(),
        }


def import_recipe(
    name: str,
    dataset: str,
    backbone: str,
    changes: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Recipe:
    """Return the recipe of an imported model, without noise unless the changes name one.

    Args:
        name: Name of the run.
        dataset: A data set.
        backbone: A name of the registry of backbones.
        changes: ``KEY=VALUE``, as for ``--set``.
        mean: Mean of each channel, pixel units.
        std: Standard deviation of each channel; see ``mean``.

    Raises:
        UsageError: a recipe that is not right, or one that asks the backbone for pretrained weights.
    """
    table: Table = {
        "name": name,
        "data": {"name": dataset},
        "backbone": {"name": backbone, "mean": list(mean), "std": list(std)},
        "noise": {"name": "none"},
    }
    if dict(parse_changes(changes)).get("noise.name", "none") == "none":
        # More draws of no noise are more of the same.
        table |= {"evaluate": {"samples": [1]}, "attack": [{"samples": [1]}]}
    # The name is that of this model, with all that is changed.
    named = dict(parse_changes(changes)).get("name", name)
    recipe = derive_recipe(build_recipe(table), changes, flags=[("name", named, "--name")])
    if "pretrained" in recipe.backbone.options:
        raise UsageError(
            "backbone.pretrained is for training from the start; an import brings weights",
            "to import those of timm or torchvision: --pretrained",
        )
    check_components(recipe)
    return recipe


def plan_import(
    recipe: Recipe, weights: ForeignWeights, rules: Rules, encoder_only: bool = False, branch: Branch | None = None
) -> Plan:
    """Fit weights to the recipe's backbone and data set; nothing is written.

    Args:
        recipe: See ``import_recipe``. Its normalisation comes before that of the weights.
        weights: What is imported.
        rules: What the user says about names.
        encoder_only: Leave the head out.
        branch: Whose BatchNorm set to take from a file with several; None: the adversarial one.

    Raises:
        CheckpointError: tensors that do not fit.
        UsageError: a head for another number of classes, a rule that matches nothing, a branch that is not there, or a
            network of which the file does not say all.
    """
    dataset = components.build_dataset(recipe)
    shape, classes = components.image_shape(recipe, dataset), dataset.classes
    if not encoder_only:
        components.check_several_classes(dataset.name, len(classes))
    recipe, shown = _with_shown_options(recipe, weights)
    bare = networks.build_encoder(_with_normalisation(recipe, (), ()), shape)
    places, features = bare.state_dict(), networks.num_features(bare)
    try:
        fitted = fit_names(weights.tensors, places, features, rules, encoder_only, branch)
    except MisfitError as error:
        if flags := flags_that_fit(weights.tensors, rules, (shape[0], max(sides(shape[1]))), encoder_only):
            raise CheckpointError(error.message, f"they fit another backbone: {flags}") from error
        raise
    recipe, said = _normalised(recipe, weights, fitted)
    recipe, told = _as_written(recipe, weights)
    if not encoder_only and len(fitted.head["weight"]) != len(classes):
        raise UsageError(
            f"the head has {len(fitted.head['weight'])} classes, and {dataset.name} has {len(classes)}",
            "name the data that it was trained on with --data, or import the encoder alone with --encoder-only and "
            "fine-tune it",
        )
    objective = components.build_objective(recipe, recipe.finetune)
    network = networks.build_network(recipe, objective, shape, len(classes))
    origin = weights.origin.with_changes(
        branch=fitted.branch,
        renamed=dict(rules.rename),
        ignored=list(fitted.ignored),
        notes=[*weights.origin.notes, *shown, *fitted.notes, *said, *told],
    )
    return Plan(
        recipe=recipe,
        stage="pretrain" if encoder_only else "finetune",
        tensors=_loaded(network, fitted, encoder_only),
        image_size=shape[1],
        channels=shape[0],
        classes=tuple(classes),
        origin=origin,
        parameters=num_parameters(network.encoder if encoder_only else network),
    )


def _loaded(network: Network, fitted: Fitted, encoder_only: bool) -> dict[str, Tensor]:
    """Load the fitted tensors into the network, and return its tensors as a checkpoint holds them."""
    encoder = network.encoder.model if isinstance(network.encoder, Normalised) else network.encoder
    encoder.load_state_dict(fitted.encoder)
    if encoder_only:
        return {name: tensor for name, tensor in network.tensors().items() if name.startswith("encoder.")}
    network.head.load_state_dict(fitted.head)
    return network.tensors()


def _normalised(recipe: Recipe, weights: ForeignWeights, fitted: Fitted) -> tuple[Recipe, list[str]]:
    """Return the recipe with its own normalisation, else with that of the weights, and a note where the two disagree.

    Raises:
        UsageError: a normalisation of pixels up to 255, which makes all images in [0, 1] one grey.
    """
    theirs = (fitted.mean, fitted.std) if fitted.mean else (weights.mean, weights.std)
    ours = tuple(recipe.backbone.mean), tuple(recipe.backbone.std)
    notes = []
    if not ours[0]:
        recipe = _with_normalisation(recipe, *theirs)
    elif theirs[0] and theirs != ours:
        notes.append(f"--mean and --std come before the weights' own: {list(theirs[0])}, {list(theirs[1])}")
    mean, std = recipe.backbone.mean, recipe.backbone.std
    if any(value > 1 for value in mean):
        divided = (",".join(f"{value / 255:.4g}" for value in values) for values in (mean, std))
        raise UsageError(
            f"the normalisation, mean {mean} and std {std}, is that of pixels up to 255; here they lie in [0, 1]",
            "divided by 255: --mean {} --std {}".format(*divided),
        )
    return recipe, notes


def _as_written(recipe: Recipe, weights: ForeignWeights) -> tuple[Recipe, list[str]]:
    """Return the recipe with what published code builds and its weights do not show, and notes on it.

    Raises:
        UsageError: the code can only be guessed, and the user has not said what it builds.
    """
    writer = written_by(weights.tensors, weights.beside)
    as_they_are = not recipe.backbone.mean
    if writer in ("AdvCL", "RoCL"):
        note = f"the file is like those of {writer}'s code, whose network takes pixels in [0, 1] as they are"
        return recipe, [note] if as_they_are else []
    if not writer:
        return recipe, []
    name = recipe.backbone.name.removeprefix(f"{BUILTIN_OWNER}/")
    open_stem = name == "resnet18" and "stem" not in recipe.backbone.options
    if writer == "DeACL":
        note = "DeACL's 3x3 stem has padding 2: backbone.stem is padded"
        return (_with_backbone(recipe, {"stem": "padded"}), [note]) if open_stem else (recipe, [])
    asked = ["the padding of the stem"] * open_stem + ["the normalisation"] * as_they_are
    if asked:
        hints = [_STEM_HINT] * open_stem + [_FIGURES_HINT] * as_they_are
        raise UsageError(
            f"the names are those of solo-learn's code, and the weights do not show {' and '.join(asked)}",
            "\n".join(hints),
        )
    return recipe, []


def _with_shown_options(recipe: Recipe, weights: ForeignWeights) -> tuple[Recipe, list[str]]:
    """Return the recipe with the options of its backbone that the names in the file show, and sentences on them."""
    name = recipe.backbone.name.removeprefix(f"{BUILTIN_OWNER}/")
    changes, notes = options_shown(name, recipe.backbone.options, weights.tensors)
    return (_with_backbone(recipe, changes) if changes else recipe), notes


def _with_normalisation(recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> Recipe:
    return _with_backbone(recipe, {"mean": list(mean), "std": list(std)})


def _with_backbone(recipe: Recipe, changes: Mapping[str, Given]) -> Recipe:
    backbone = recipe.backbone.model_dump() | dict(changes)
    return build_recipe(recipe.resolved() | {"backbone": backbone}, recipe.origins)
