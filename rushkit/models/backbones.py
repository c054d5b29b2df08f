"""ResNets for small images: the paper's ResNet-18 and one for CPUs; and every model of timm."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Literal, cast

import timm
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from rushkit.errors import RushkitError, UsageError, did_you_mean
from rushkit.image_size import ImageSize, as_size, size_to_json
from rushkit.models.pretrained import hub_access
from rushkit.models.trial import MISFITS, output_features, reason, unfit
from rushkit.recipe.toml import Given, Options, Table

# Options of timm.create_model that rushkit sets itself, or that would bring in weights past its own checks.
_RESERVED = (
    "cache_dir",
    "checkpoint_path",
    "features_only",
    "img_size",
    "in_chans",
    "num_classes",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
)


def resnet18(
    in_channels: int = 3, image_size: int = 32, stem: Literal["small", "padded", "standard"] = "small"
) -> nn.Module:
    """ResNet-18 with 512 features (He et al. 2016); with the small stem as in SimCLR's CIFAR experiments and RUSH.

    The small stem is a 3x3 convolution with stride 1 and no max-pool: 11.17 M parameters, 555.4 MMAC at 3x32x32.
    Initialised as in He et al. (timm's own default would switch every residual branch off at the start, and a random
    encoder whose weights are frozen would stay a stack of four shortcuts).

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        stem: ``"small"``, ``"standard"`` for the 7x7 stride-2 convolution and max-pool made for 224x224 images, or
            ``"padded"`` for the small one with padding 2, of solo-learn and DeACL: maps of 34x34 for images of 32x32.
    """
    model: ResNet = timm.create_model("resnet18", in_chans=in_channels, num_classes=0, zero_init_last=False)
    return model if stem == "standard" else _with_small_stem(model, in_channels, 2 if stem == "padded" else 1)


def resnet10_small(in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """A ResNet-10 for CPUs: one basic block a stage, 16-32-64-128 channels, small stem, 128 features.

    0.31 M parameters and 16.2 MMAC at 3x32x32, a thirty-fourth of ResNet-18's.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
    """
    return thin_resnet((1, 1, 1, 1), (16, 32, 64, 128), in_channels)


def thin_resnet(layers: tuple[int, ...], channels: tuple[int, ...], in_channels: int) -> nn.Module:
    """Build a timm ResNet of basic blocks behind a small stem of 16 channels."""
    # Only timm's deep stem lets its width be chosen (stem_width * 2); the small stem takes its place at once.
    model = ResNet(
        BasicBlock,
        layers=layers,
        channels=channels,
        stem_type="deep",
        stem_width=8,
        in_chans=in_channels,
        num_classes=0,
        zero_init_last=False,
    )
    return _with_small_stem(model, in_channels)


def _with_small_stem(model: ResNet, in_channels: int, padding: int = 1) -> nn.Module:
    """Give a timm ResNet a 3x3 stride-1 convolution in place of its stem convolution and max-pool."""
    convolution = nn.Conv2d(in_channels, model.bn1.num_features, kernel_size=3, stride=1, padding=padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = convolution
    model.maxpool = nn.Identity()
    return cast(nn.Module, model)


def timm_backbone(
    name: str, in_channels: int, image_size: int | list[int], pretrained: bool = False, **options: Any
) -> nn.Module:
    """Build any model of timm as an encoder: ``"timm/vit_tiny_patch16_224"``.

    Args:
        name: timm's name of the model, with or without the tag of its weights.
        in_channels: Channels of the images.
        image_size: Side of the images, or height and width; a model of a fixed size (a vision transformer) is built for
            this one.
        pretrained: Whether to start from timm's weights, which timm downloads.
        options: Further options of the model, such as ``drop_path_rate``.

    Raises:
        UsageError: no such model or option, or a model that cannot take images of this size.
        RushkitError: the pretrained weights cannot be had.
    """
    if timm.is_model(name.lower()):
        name = name.lower()
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models(), prefix="timm/") or "see timm.list_models()"
        raise UsageError(f"timm has no model {name!r}", hint)
    refused = sorted(set(options).intersection(_RESERVED))
    if refused:
        raise UsageError(
            f"backbone 'timm/{name}': {', '.join(refused)} cannot be set",
            "take it out: rushkit sets sizes and weights itself",
        )
    size = image_size if isinstance(image_size, int) else as_size(*image_size)
    model: Any = _create_timm(name, in_channels, size, pretrained, options)
    try:
        # Not timm's own num_features, which is another number in some models.
        model.num_features = output_features(model, in_channels, size)
    except MISFITS as error:
        raise unfit(f"timm/{name}", in_channels, size, error) from error
    return cast(nn.Module, model)


def timm_pretrained(name: str, image_size: int, options: Table) -> nn.Module:
    """Build a model of timm with its pretrained weights and head, for images of this size.

    Raises:
        UsageError: as for ``timm_backbone``.
        RushkitError: the weights cannot be had.
    """
    timm_backbone(name, 3, image_size, pretrained=False, **options)
    return _create_timm(name, 3, image_size, True, options, {})


def timm_normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel that timm's pretrained weights of a model want.

    Raises:
        UsageError: no such model, or one without pretrained weights.
    """
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models(), prefix="timm/") or "see timm.list_models()"
        raise UsageError(f"timm has no model {name!r}", hint)
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UsageError(f"timm has no pretrained weights of {name!r}", "see timm.list_pretrained()")
    return tuple(config.mean), tuple(config.std)


def creation_options(name: str, image_size: ImageSize) -> dict[str, Given]:
    """Return the options that ``timm.create_model`` needs for images of this size."""
    config = timm.models.get_pretrained_cfg(name)
    return {"img_size": size_to_json(image_size)} if config is not None and config.fixed_input_size else {}


def _create_timm(
    name: str,
    in_channels: int,
    image_size: ImageSize,
    pretrained: bool,
    options: Options,
    head: Options = MappingProxyType({"num_classes": 0}),
) -> nn.Module:
    def create(pretrained: bool) -> nn.Module:
        size = creation_options(name, image_size)
        model: nn.Module = timm.create_model(name, pretrained, in_chans=in_channels, **head, **size, **options)
        return model

    try:
        model = create(pretrained=False)
    except MISFITS as error:
        raise unfit(f"timm/{name}", in_channels, image_size, error) from error
    if not pretrained:
        return model
    config: Any = timm.models.get_pretrained_cfg(name)
    try:
        with hub_access(config and config.url, config and config.hf_hub_id):
            return create(pretrained=True)
    # The model itself can be built, so what failed is the weights; each hub client raises errors of its own.
    except Exception as error:
        raise RushkitError(
            f"the pretrained weights of timm/{name} cannot be had: {reason(error)}",
            "go online once so that timm can store them, or bring the weights as a file: rushkit import",
        ) from error
