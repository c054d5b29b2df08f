"""Somebody's classifier as what a stage measures: a checkpoint that holds a module, made by the user's code."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rushkit.errors import PluginError, UsageError
from rushkit.foreign.onnx_model import OnnxModel
from rushkit.image_size import ImageSize, sides, size_to_json
from rushkit.models.adapted import Adapted, Features, Reading
from rushkit.models.answers import answer_kind
from rushkit.models.behaviour import Behaviour, behaviour, trial_images
from rushkit.models.draws import global_draws
from rushkit.models.fronts import Front, Fronted, find_gradient
from rushkit.models.lazy import initialise, lazy_layer
from rushkit.models.repeats import RANDOM_FROM
from rushkit.models.trial import reason
from rushkit.named_code import FRONT, Code, consented, source_hash
from rushkit.recipe import toml
from rushkit.recipe.load import derive_recipe, read_recipe
from rushkit.recipe.model_section import Model
from rushkit.recipe.schema import MAX_IMAGE_SIZE, Recipe, System
from rushkit.results.run_file import GivenFacts, RegisteredBy
from rushkit.rounding import percent
from rushkit.run.checkpoint import Checkpoint, Meta
from rushkit.setup.components import build_dataset, image_shape
from rushkit.setup.named_module import load_weights, make_front, make_module
from rushkit.system import generator

# Data sets whose images lie in files of any sizes.
_OF_OWN_SIZES = ("folder", "parquet")


@dataclass(frozen=True)
class Images:
    """The images that a classifier is tried on, and its classes.

    Attributes:
        channels: C.
        size: Their size, in pixels.
        classes: Names of the classes; empty: as many as the classifier has, by number.
        named_by: What names the classes, for messages.
    """

    channels: int
    size: ImageSize
    classes: tuple[str, ...]
    named_by: str


@dataclass(frozen=True, kw_only=True)
class GivenModel(Checkpoint):
    """A classifier that rushkit did not build, in the place of a checkpoint of fine-tuning.

    Its hash covers the file of its code, its arguments, its weights and buffers, and how it is read: the same hash, the
    same classifier, but for modules that its code imports.

    Attributes:
        network: (N, C, H, W) images in [0, 1] -> (N, K) logits.
        random: Whether two passes over an image differ.
        facts: What run.json keeps of it.
        notes: What the trial showed that a reader of its figures should know, a sentence each.
        behind: The checkpoint of a run whose classifier stands behind fronts; None for a module of the user's.
        own_size: The side of the images that the module names for itself, where the recipe says none; else 0.
    """

    network: nn.Module
    random: bool
    facts: GivenFacts
    notes: tuple[str, ...] = ()
    behind: Checkpoint | None = None
    own_size: int = 0

    @property
    def recipe(self) -> Recipe:
        """The recipe that it is measured by; that of its training for a run behind fronts."""
        return read_recipe(str(self.meta["recipe"]), str(self.path))

    def recipe_with(self, *changes: str) -> Recipe:
        """Return that recipe with changes as ``--set`` takes them. Raises UsageError for a key that does not exist.

        >>> model.recipe_with("evaluate.limit=100", "attack.0.eps=4/255")
        """
        return derive_recipe(self.recipe, changes)

    def __repr__(self) -> str:
        return f"GivenModel({str(self.path)!r}, {len(self.meta['classes'])} classes)"


# What a classifier is asked for: the classes of a data set, those of single image files, or features.
Purpose = Literal["data", "files", "features"]


def given_model(recipe: Recipe, purpose: Purpose = "data") -> GivenModel:
    """Run the code that a recipe's section [model] names, if the user named it in this command too, and try the module.

    Args:
        recipe: The sections model, data and system are used.
        purpose: For ``files`` the keys of [model] and the recipe's image size say what its data set says else; for
            ``features`` the module's outputs need not be those of a classifier.

    Raises:
        UsageError: the user did not name the code; there is no such name in it; the arguments do not fit; the module
            returns something that is not one row for each image, or another number of classes than the data has.
        PluginError: the code raises an error, or the module on images of this size.
        CheckpointError: the file of weights is missing, damaged, holds more than tensors, or does not fit.
        DataError: the data set cannot be read.
    """
    section = recipe.model
    assert section is not None
    if not section.code:
        raise UsageError(
            "the model was a module in memory, which no command can name",
            "measure it again in Python: rushkit.classifier(module, ...); or name its code: --model FILE.py:NAME",
        )
    code, fronts = consented(section.code), consented_fronts(section)
    # Weights that are drawn here are the same at every start.
    with global_draws(recipe.system.seed, "making a given model"):
        module = make_module(code, section)
        own_size = size_of_its_own(recipe, module)
        recipe = of_size(recipe, own_size) if own_size else recipe
        if lazy_layer(module):
            seen = images_of_files(recipe) if purpose == "files" else images_of(recipe)
            initialise(module, seen.channels, seen.size, code.key)
        weights_hash = load_weights(module, section.weights) if section.weights else ""
        if isinstance(module, OnnxModel):
            weights_hash = module.weights_sha256
        made = [make_front(front) for front in fronts]
    module.eval().requires_grad_(False)
    facts = GivenFacts(
        code=code.key.removesuffix(":"),
        sha256=source_hash(code),
        weights=Path(section.weights).name,
        weights_sha256=weights_hash,
        fronts=front_facts(fronts),
    )
    images = images_of_files(recipe) if purpose == "files" else images_of(recipe)
    if purpose != "features":
        return replace(adapt(module, recipe, facts, made, images), own_size=own_size)
    images = replace(images, classes=())
    model = tried(Features(adapted_to(module, section, facts, images)), recipe, facts, made, images)
    if answer_kind(model.network) != "logits" or section.answers != "logits":
        raise UsageError(
            f"{facts.code} has no gradient, and the second image of a pair is found by one",
            "`rushkit evaluate` and `rushkit attack --type square` need none",
        )
    return replace(model, own_size=own_size)


def size_of_its_own(recipe: Recipe, module: nn.Module) -> int:
    """Return the side of the images that a module of timm names for itself; 0 where it need not be asked or has none.

    It is asked where the recipe says no size and the images lie in files of sizes of their own.
    """
    if recipe.data.image_size or recipe.data.name not in _OF_OWN_SIZES:
        return 0
    config = getattr(module, "pretrained_cfg", None)
    shape = config.get("input_size") if isinstance(config, dict) else None
    side = shape[-1] if isinstance(shape, tuple | list) and len(shape) == 3 and shape[1] == shape[2] else 0
    return side if isinstance(side, int) and 0 < side <= MAX_IMAGE_SIZE else 0


def of_size(recipe: Recipe, side: int) -> Recipe:
    """Return a recipe that brings its images to a size."""
    return derive_recipe(recipe, {"data.image_size": side}, {}, system=tuple(System.model_fields))


def consented_fronts(section: Model) -> list[Code]:
    """Return the code of a section's fronts. Raises UsageError if the user named one of them not in this command."""
    return [consented(front, FRONT) for front in section.fronts]


def front_facts(fronts: Sequence[Code]) -> list[RegisteredBy]:
    """Return what run.json keeps of fronts."""
    return [RegisteredBy(file=front.key, sha256=source_hash(front)) for front in fronts]


def images_of(recipe: Recipe) -> Images:
    """Return what the recipe's data set says of images and classes. Raises DataError if it cannot be read."""
    assert recipe.model is not None
    dataset = build_dataset(recipe)
    channels, size = image_shape(recipe, dataset)
    if recipe.model.classes:
        return Images(channels, size, tuple(recipe.model.classes), "--classes names")
    return Images(channels, size, tuple(dataset.classes), f"{dataset.name} has")


def images_of_files(recipe: Recipe) -> Images:
    """Return what the keys of [model] and the image size say of images that are no data set's.

    Raises:
        UsageError: nothing says the size.
    """
    assert recipe.model is not None
    if not recipe.data.image_size:
        raise UsageError(
            "without --data nothing says how large the model's images are",
            "--input-size N resizes the images to N x N; --classes names the classes",
        )
    channels = len(recipe.model.mean) or 3
    return Images(channels, recipe.data.size, tuple(recipe.model.classes), "--classes names")


def adapt(
    module: nn.Module, recipe: Recipe, facts: GivenFacts, fronts: Sequence[Front] = (), images: Images | None = None
) -> GivenModel:
    """Try a module on images like those of the data, and return it as a classifier of its classes.

    Args:
        module: Takes images of the recipe's data.
        recipe: The sections model and data are used; the noise is that of the recipe.
        facts: Where the module comes from.
        fronts: What changes the images before the module sees them.
        images: The images, and the classes; None for those of the recipe's data.

    Raises:
        UsageError: as ``given_model``.
        PluginError: the module raises an error on images of this size.
    """
    section, images = recipe.model, images or images_of(recipe)
    assert section is not None
    return tried(adapted_to(module, section, facts, images), recipe, facts, fronts, images)


def adapted_to(module: nn.Module, section: Model, facts: GivenFacts, images: Images) -> Adapted:
    """Return a module that reads images as a section [model] says. Raises UsageError for a mean of other channels."""
    if section.mean and len(section.mean) != images.channels:
        raise UsageError(
            f"images of {images.channels} channels are normalised by as many means and stds (got {len(section.mean)})",
            "for example --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        )
    reading = Reading(section.mean, section.std, section.output, section.answers, len(images.classes), facts.code)
    adapted = Adapted(module, reading)
    adapted.mean, adapted.std = adapted.mean.to(_device(module)), adapted.std.to(_device(module))
    return adapted


def tried(
    network: nn.Module,
    recipe: Recipe,
    facts: GivenFacts,
    fronts: Sequence[Front],
    images: Images,
    behind: Checkpoint | None = None,
) -> GivenModel:
    """Try a network, behind fronts if there are any, and return it as what a stage measures; see ``adapt``.

    Args:
        network: A module of the user's, adapted, or the network of a run.
        recipe: The sections model and data are used.
        facts: Where the network and the fronts come from.
        fronts: What changes the images.
        images: The images, and the classes.
        behind: The checkpoint that the network was loaded from; None for a module of the user's.
    """
    section = recipe.model
    assert section is not None
    x = trial_images(images.channels, *sides(images.size), generator(0, "trial of a given model"))
    x, notes = x.to(_device(network)), []
    composed = network
    with global_draws(0, "trial of a given model", device=x.device):
        if fronts:
            composed = Fronted(fronts, network)
            notes += _find_gradients(composed, x)
        behaved = behaviour(composed, x)
    if isinstance(composed, Adapted | Features | Fronted):
        composed.differentiable = composed.differentiable and behaved.differentiable
    classes = images.classes or tuple(str(number) for number in range(behaved.classes))
    if behaved.classes != len(classes):
        raise UsageError(
            f"{facts.code} returns {behaved.classes} classes, and {images.named_by} {len(classes)}",
            "measure it on the data that it was trained for; --classes names its classes in the order of its outputs",
        )
    random = _random(behaved, section, facts.code)
    minds_batch = behaved.minds_batch and not random
    notes += _notes(composed, behaved, minds_batch)
    facts = facts.with_changes(hash=_hash(network, section, facts, behind), random=random, minds_batch=minds_batch)
    known: Meta = {
        "stage": "finetune",
        "recipe": toml.dumps(recipe.resolved()),
        "classes": list(classes),
        "image_size": size_to_json(images.size),
        "channels": images.channels,
    }
    # What is known of a run and its training stays known.
    meta = behind.meta if behind else known
    return GivenModel(
        tensors={},
        meta=meta,
        path=behind.path if behind else Path(facts.code),
        hash=facts.hash,
        network=composed,
        random=random,
        facts=facts,
        notes=tuple(notes),
        behind=behind,
    )


def on_device(network: nn.Module, device: torch.device, name: str) -> nn.Module:
    """Return a network on a device: itself, or a copy if it lies elsewhere.

    Raises:
        UsageError: it cannot be copied.
    """
    places = {tensor.device.type for tensor in (*network.parameters(), *network.buffers())}
    if places <= {device.type}:
        return network
    try:
        copied = copy.deepcopy(network)
    except Exception as error:
        where = " and ".join(sorted(places))
        raise UsageError(
            f"{name} lies on {where}, and a copy for {device} cannot be made: {reason(error)}",
            "move it there first, or choose its own device for the recipe",
        ) from error
    return copied.to(device)


def _device(module: nn.Module) -> torch.device:
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _find_gradients(fronted: Fronted, x: Tensor) -> list[str]:
    """Pass gradients straight through the fronts that have none, and return a sentence on each of them."""
    notes = []
    for front in fronted.fronts:
        assert isinstance(front, Front)
        passes = find_gradient(front, x)
        if front.straight_through:
            notes.append(
                f"{front.name} has no gradient, or one of zeros: attacks pass the model's gradient straight through it "
                "(BPDA with the identity, Athalye et al. 2018)"
            )
        elif not passes:
            fronted.differentiable = False
            notes.append(f"{front.name} has no gradient and changes the size of the images: attacks see no gradient")
        with torch.no_grad():
            x = front(x)
    return notes


def _random(behaved: Behaviour, section: Model, name: str) -> bool:
    """Return whether a classifier is measured as one that is random by itself."""
    if section.random == "no" and behaved.change > RANDOM_FROM:
        raise UsageError(
            f"model.random is no, and a second pass of {name} changes its logits by {percent(behaved.change)} % of the "
            "largest",
            "leave it out: what is random is measured through many draws",
        )
    return section.random == "yes" or (section.random == "auto" and behaved.random)


def _notes(network: nn.Module, behaved: Behaviour, minds_batch: bool) -> list[str]:
    notes = []
    if behaved.draws and behaved.change <= RANDOM_FROM:
        notes.append(
            "it draws random numbers, and no pass of the trial changed its logits: it is taken for random; "
            "--set model.random=no, if the draws change nothing"
        )
    if minds_batch:
        notes.append(
            "its answer for an image depends on the images beside it, as in BatchNorm that never leaves the train "
            "mode: no figure of it holds for a single image"
        )
    if answer_kind(network) == "logits" and behaved.flat:
        notes.append("its gradient was zero on all images of the trial: attacks by gradient may find nothing")
    if answer_kind(network) == "probabilities":
        notes.append("it has no gradient: only attacks by queries, such as square, can search")
    return notes


def _hash(network: nn.Module, section: Model, facts: GivenFacts, behind: Checkpoint | None) -> str:
    """Return a hash of everything that rushkit can see of a classifier."""
    about = section.model_dump(exclude={"code", "weights", "random", "fronts"})
    fronts = [front.model_dump() for front in facts.fronts]
    seen = [facts.code, facts.sha256, about, fronts, behind.hash if behind else ""]
    digest = hashlib.blake2b(json.dumps(seen, sort_keys=True, default=str).encode(), digest_size=32)
    for name, tensor in sorted(_state(network).items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        plain = tensor.detach().cpu()
        plain = (plain if plain.layout is torch.strided and not plain.is_quantized else plain.to_dense()).contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()


def _state(module: nn.Module) -> dict[str, Tensor]:
    try:
        return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    except Exception as error:
        raise PluginError(f"the weights of {type(module).__name__} cannot be listed: {reason(error)}") from error
