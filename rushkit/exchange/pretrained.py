"""Fetch the pretrained weights of timm and torchvision, with head and normalisation."""

from __future__ import annotations

from typing import Any

import torchvision

from rushkit.errors import UsageError
from rushkit.foreign.file import ForeignWeights, as_float32
from rushkit.image_size import sides
from rushkit.models.backbones import timm_pretrained
from rushkit.models.pretrained import OWN_SCALE
from rushkit.models.torchvision_backbones import pretrained_state
from rushkit.recipe.schema import Recipe
from rushkit.results.imported import Origin
from rushkit.setup import components


def pretrained_weights(recipe: Recipe) -> ForeignWeights:
    """Return the weights, head included, that timm or torchvision have for the recipe's backbone; downloaded if needed.

    Raises:
        UsageError: a backbone of neither.
        RushkitError: the weights cannot be had.
    """
    backbone = recipe.backbone
    family, _, name = backbone.name.partition("/")
    if family == "timm":
        size = max(sides(components.image_size(recipe, components.build_dataset(recipe))))
        model: Any = timm_pretrained(name, size, backbone.options)
        state, tag = model.state_dict(), str(model.pretrained_cfg.get("tag"))
        mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    elif family == "torchvision":
        state = pretrained_state(name)
        weights: Any = torchvision.models.get_model_weights(name).DEFAULT
        tag, mean, std = str(weights), weights.transforms().mean, weights.transforms().std
        if name in OWN_SCALE and not backbone.options.get("transform_input"):
            mean, std = OWN_SCALE[name]
    else:
        raise UsageError(
            f"{backbone.name} has no pretrained weights", "--pretrained is for timm/NAME and torchvision/NAME"
        )
    tensors, notes = as_float32(state, backbone.name)
    origin = Origin(pretrained=backbone.name, tag=tag, renamed={}, ignored=[], notes=notes)
    return ForeignWeights(tensors, origin, tuple(mean), tuple(std))
