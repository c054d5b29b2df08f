"""Every classification model of torchvision, as an encoder: the model without its last linear layer."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch
import torchvision
from torch import nn

from rushkit.errors import RushkitError, UsageError, did_you_mean
from rushkit.models.pretrained import OWN_SCALE, hub_access
from rushkit.models.trial import MISFITS, output_features, reason, unfit
from rushkit.recipe.toml import Given

# Options that rushkit sets itself, or that would bring in weights past its own checks.
_RESERVED = ("image_size", "input_size", "num_classes", "progress", "weights")
# What a family of models calls the size that it is built for; the others take any.
_SIZE_OPTIONS = {"vit_": "image_size", "maxvit_": "input_size"}
# Heads for training alone would make the output a tuple; without init_weights these two warn of a coming change.
_FIXED_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def torchvision_backbone(
    name: str, in_channels: int, image_size: int, pretrained: bool = False, **options: Any
) -> nn.Module:
    """Build any classification model of torchvision as an encoder: ``"torchvision/resnet50"``.

    Its last linear layer is left out, and that layer's inputs are the features. Where the classifier has layers before
    the last one, as VGG's, they stay in the encoder. Tensors keep torchvision's names.

    Args:
        name: torchvision's name of the model.
        in_channels: Channels of the images: 3.
        image_size: Side of the images; a vision transformer is built for this one.
        pretrained: Whether to start from torchvision's default weights, which torchvision downloads.
        options: Further options of the model, such as ``dropout``.

    Raises:
        UsageError: no such model or option, or a model that cannot take such images or does not end in a linear layer.
        RushkitError: the pretrained weights cannot be had.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name.lower() in known:
        name = name.lower()
    if name not in known:
        raise UsageError(
            f"torchvision has no classification model {name!r}",
            did_you_mean(name, known, prefix="torchvision/") or "see torchvision.models.list_models()",
        )
    refused = sorted(set(options).intersection(_RESERVED))
    if refused or in_channels != 3:
        what = f"{', '.join(refused)} cannot be set" if refused else f"it takes 3 channels, not {in_channels}"
        raise UsageError(f"backbone 'torchvision/{name}': {what}", "rushkit sets sizes and weights itself")
    try:
        made = creation_options(name, image_size, pretrained) | options
        model: nn.Module = torchvision.models.get_model(name, weights=None, **made)
        head = last_linear(model)
        if pretrained:
            weights = pretrained_state(name)
            # Not those of auxiliary heads.
            model.load_state_dict({key: weights[key] for key in model.state_dict()})
        model.set_submodule(head, nn.Identity())
        model.num_features = output_features(model, in_channels, image_size)  # type: ignore[assignment]
    except MISFITS as error:
        raise unfit(f"torchvision/{name}", in_channels, image_size, error) from error
    return model


def creation_options(name: str, image_size: int, pretrained: bool = False) -> dict[str, Given]:
    """Return the options that ``torchvision.models.get_model`` needs for this image size, without auxiliary heads.

    With ``pretrained`` the model takes ImageNet's normalisation, as torchvision's own with its weights does.
    """
    sizes: dict[str, Given] = {option: image_size for start, option in _SIZE_OPTIONS.items() if name.startswith(start)}
    if "input_size" in sizes:
        return {"input_size": (image_size, image_size)}
    rescaled = {"transform_input": True} if pretrained and name in OWN_SCALE else {}
    return sizes | _FIXED_OPTIONS.get(name, {}) | rescaled


def last_linear(model: nn.Module) -> str:
    """Return the name of a model's last linear layer. Raises ValueError if it ends with another layer."""
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    name, layer = leaves[-1]
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"it ends with {type(layer).__name__}, not with a linear layer")
    return str(name)


def pretrained_state(name: str) -> dict[str, torch.Tensor]:
    """Return torchvision's default weights, downloaded or cached. Raises RushkitError if they cannot be had."""
    try:
        weights: Any = torchvision.models.get_model_weights(name).DEFAULT
        # It tells of its download on stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr), hub_access(weights.url):
            state: dict[str, torch.Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except Exception as error:
        raise RushkitError(
            f"the pretrained weights of torchvision/{name} cannot be had: {reason(error)}",
            "go online once so that torchvision can store them, or import a file that you bring yourself",
        ) from error
    return state
