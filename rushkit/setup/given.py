"""Somebody's classifier as what a stage measures: a checkpoint that holds a module, made by the user's code."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.data import channels_of
from rushkit.errors import CheckpointError, PluginError, RushkitError, UsageError, did_you_mean, first_few, shorten
from rushkit.foreign.file import read_foreign
from rushkit.models.adapted import Adapted
from rushkit.models.modes import in_eval_mode
from rushkit.models.repeats import repeat
from rushkit.models.trial import MISFITS, reason
from rushkit.named_code import Code, called, consented, run_code, source_hash
from rushkit.paths import expand
from rushkit.recipe import toml
from rushkit.recipe.model_section import Model
from rushkit.recipe.schema import Recipe
from rushkit.results.run_file import GivenFacts
from rushkit.run.checkpoint import Checkpoint, Meta
from rushkit.setup.components import build_dataset, image_size
from rushkit.system import generator

# Images of the trial.
_TRIED = 4


@dataclass(frozen=True, kw_only=True)
class GivenModel(Checkpoint):
    """A classifier that rushkit did not build, in the place of a checkpoint of fine-tuning.

    Its hash covers the file of its code, its arguments, its weights and buffers, and how it is read: the same hash, the
    same classifier, but for modules that its code imports.

    Attributes:
        network: (N, C, H, W) images in [0, 1] -> (N, K) logits.
        random: Whether two passes over an image differ.
        facts: What run.json keeps of it.
    """

    network: Adapted
    random: bool
    facts: GivenFacts

    def __repr__(self) -> str:
        return f"GivenModel({str(self.path)!r}, {len(self.meta['classes'])} classes)"


def given_model(recipe: Recipe) -> GivenModel:
    """Run the code that a recipe's section [model] names, if the user named it in this command too, and try the module.

    Args:
        recipe: The sections model, data and system are used.

    Raises:
        UsageError: the user did not name the code; there is no such name in it; the arguments or the weights do not
            fit; the module cannot take images of this size, or returns something that is not one row for each image,
            or another number of classes than the data has.
        PluginError: the code raises an error.
        CheckpointError: the file of weights is missing, damaged, or holds more than tensors.
        DataError: the data set cannot be read.
    """
    section = recipe.model
    assert section is not None
    code = consented(section.code)
    module = _module_of(code, run_code(code), section.arguments)
    weights_hash = _load_weights(module, section.weights) if section.weights else ""
    module.requires_grad_(False)
    facts = GivenFacts(
        code=code.key.removesuffix(":"),
        sha256=source_hash(code),
        weights=Path(section.weights).name,
        weights_sha256=weights_hash,
    )
    return adapt(module, recipe, facts)


def adapt(module: nn.Module, recipe: Recipe, facts: GivenFacts) -> GivenModel:
    """Try a module on images like those of the data, and return it as a classifier of its classes.

    Args:
        module: Takes images of the recipe's data.
        recipe: The sections model and data are used; the noise is that of the recipe.
        facts: Where the module comes from.

    Raises:
        UsageError: as ``given_model``.
    """
    section = recipe.model
    assert section is not None
    dataset = build_dataset(recipe)
    size, channels = image_size(recipe, dataset), channels_of(dataset)
    names = tuple(section.classes) or tuple(dataset.classes)
    if section.mean and len(section.mean) != channels:
        raise UsageError(
            f"images of {channels} channels are normalised by as many means and stds (got {len(section.mean)})",
            "for example --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        )
    network = Adapted(module, section.mean, section.std, section.output, section.answers, len(names))
    logits, random = _try(network, (channels, size, size), facts.code, section.random)
    if logits.shape[1] != len(names):
        named = "--classes names" if section.classes else f"{dataset.name} has"
        raise UsageError(
            f"{facts.code} returns {logits.shape[1]} classes, and {named} {len(names)}",
            "measure it on the data that it was trained for; --classes names its classes in the order of its outputs",
        )
    meta: Meta = {
        "stage": "finetune",
        "recipe": toml.dumps(recipe.resolved()),
        "classes": list(names),
        "image_size": size,
        "channels": channels,
    }
    facts = facts.with_changes(hash=_hash(module, section, facts), random=random)
    return GivenModel(
        tensors={}, meta=meta, path=Path(facts.code), hash=facts.hash, network=network, random=random, facts=facts
    )


def _module_of(code: Code, found: Any, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the module that a name stands for, which is one or makes one."""
    if isinstance(found, nn.Module):
        if arguments:
            raise UsageError(
                f"{code.key} is a module that is made already: it takes no arguments",
                "leave --model-arg out, or name the class or the function that makes it",
            )
        return found
    if not callable(found):
        raise UsageError(
            f"{code.key} is {_kind(found)}, neither a torch module nor a callable that returns one",
            "name a class of torch.nn.Module, an instance of one, or a function that returns one",
        )
    _check_arguments(code, found, arguments)
    try:
        made = found(**arguments)
    except RushkitError:
        raise
    except (Exception, SystemExit) as error:
        raise called(code, error) from error
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"{code.key} returns {_kind(made)}, not a torch module",
            "--model names a class of torch.nn.Module, or a function that returns a module",
        )
    return made


def _check_arguments(code: Code, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise UsageError for arguments that a callable does not have, or does not get."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return
    by_name = [
        name
        for name, each in parameters.items()
        if each.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    takes_any = any(each.kind == Parameter.VAR_KEYWORD for each in parameters.values())
    if unknown := [name for name in arguments if name not in by_name and not takes_any]:
        takes = f"it takes {first_few(by_name, 8)}" if by_name else "it takes none"
        raise UsageError(
            f"{code.key} has no argument {shorten(unknown[0])}", did_you_mean(unknown[0], by_name) or takes
        )
    missing = [
        name
        for name, each in parameters.items()
        if each.default is Parameter.empty
        and each.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        and name not in arguments
    ]
    if missing:
        raise UsageError(
            f"{code.key} needs the argument{'s' * (len(missing) > 1)} {', '.join(missing)}",
            "say " + " ".join(f"--model-arg {name}=..." for name in missing),
        )


def _try(network: Adapted, shape: Sequence[int], name: str, random: str) -> tuple[Tensor, bool]:
    """Return the logits of a few images, and whether a second pass changes them."""
    x = torch.rand(_TRIED, *shape, generator=generator(0, "trial of a given model"))

    def run(rows: Tensor) -> Tensor:
        with torch.no_grad(), in_eval_mode(network):
            logits: Tensor = network(rows)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != len(rows):
            what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(f"{name} returns {what} for {len(rows)} images", "it returns logits of (N, classes)")
        return logits

    try:
        logits = run(x)
        twice = random == "yes" or (random == "auto" and repeat(run, x).random)
    except RushkitError:
        raise
    except MISFITS as error:
        size = "x".join(map(str, shape))
        raise UsageError(
            f"{name} cannot take {size} images: {type(error).__name__}: {reason(error)}",
            "--input-size N resizes the images to N x N",
        ) from error
    return logits, twice


def _load_weights(module: nn.Module, path: str) -> str:
    """Load a file of weights into a module whose names they have, and return the file's SHA-256."""
    foreign = read_foreign(expand(path))
    tensors, own = foreign.tensors, module.state_dict()
    # DataParallel's.
    if all(name.startswith("module.") for name in tensors) and not any(name.startswith("module.") for name in own):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    misshapen = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing or unexpected:
        lacking, other = first_few(missing or ["nothing"]), first_few(unexpected or ["nothing"])
        near = did_you_mean(missing[0], unexpected) if missing and unexpected else ""
        raise CheckpointError(
            f"{shorten(path)} does not fit the module: the file lacks {lacking}, and the module has no {other}",
            near or None,
        )
    if misshapen:
        name = misshapen[0]
        raise CheckpointError(
            f"{shorten(path)} does not fit the module: {name} is {tuple(tensors[name].shape)} in the file and "
            f"{tuple(own[name].shape)} in the module",
            "--model-arg may say the width or the number of classes",
        )
    module.load_state_dict(tensors)
    return foreign.origin.sha256


def _hash(module: nn.Module, section: Model, facts: GivenFacts) -> str:
    """Return a hash of everything that rushkit can see of a classifier."""
    about = section.model_dump(exclude={"code", "weights", "random"})
    digest = hashlib.blake2b(json.dumps([facts.code, facts.sha256, about], sort_keys=True).encode(), digest_size=32)
    for name, tensor in sorted(_state(module).items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        plain = tensor.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()


def _state(module: nn.Module) -> dict[str, Tensor]:
    try:
        return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    except Exception as error:
        raise PluginError(f"the weights of {type(module).__name__} cannot be listed: {reason(error)}") from error


def _kind(found: object) -> str:
    return f"{type(found).__name__} {shorten(repr(found), 60)}"
