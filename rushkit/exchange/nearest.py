"""Which of rushkit's own networks foreign weights fit, for the hint of an import that named another one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from rushkit.errors import RushkitError, shell_line
from rushkit.exchange.foreign_names import fit_names
from rushkit.exchange.known_names import options_shown
from rushkit.exchange.rules import Rules
from rushkit.models.draws import global_draws
from rushkit.recipe.toml import Given
from rushkit.registries import backbones

_STAGES = ("layer1", "block1.layer", "layer.0.block")
_LAST_STAGES = ("layer3", "block3.layer", "layer.2.block")
_CANDIDATES: tuple[tuple[str, dict[str, Given]], ...] = (
    ("resnet18", {}),
    ("resnet18", {"stem": "standard"}),
    ("resnet10-small", {}),
    *((f"resnet{layers}", {}) for layers in (20, 32, 44, 56, 110)),
    ("preact-resnet18", {}),
    ("timm/resnet34", {}),
    ("timm/resnet50", {}),
)


def flags_that_fit(
    tensors: Mapping[str, Tensor], rules: Rules, shape: tuple[int, int], encoder_only: bool = False
) -> str:
    """Return the flags of ``rushkit import`` that name a network whose places the tensors fit; empty where none does.

    Args:
        tensors: As the file has them.
        rules: What the user says about names.
        shape: Channels and side of the images.
        encoder_only: Leave a head out; else there must be one.
    """
    for name, options in (*_CANDIDATES, *_wide(tensors)):
        try:
            shown, _ = options_shown(name, options | {"activation": "relu"}, tensors)
            with torch.device("meta"), global_draws(0, "nearest"):
                encoder = backbones.create(name, in_channels=shape[0], image_size=shape[1], **options, **shown)
            fit_names(tensors, encoder.state_dict(), encoder.num_features, rules, encoder_only)
        except RushkitError:
            continue
        # What the names show need not be said.
        settings = (word for key, value in options.items() for word in ("--set", f"backbone.{key}={value}"))
        return shell_line("--backbone", name, *settings)
    return ""


def _wide(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Given]]]:
    """Yield the wide ResNet whose depth and width the blocks of three stages have."""
    for stage, last in zip(_STAGES, _LAST_STAGES, strict=True):
        block = re.compile(rf"(?:^|\.){re.escape(stage)}\.(\d+)\.conv_?[01]\.weight$")
        found = [(int(match[1]), tensor) for name, tensor in tensors.items() if (match := block.search(name))]
        if found and any(f"{last}.0." in name for name in tensors):
            blocks, channels = max(number for number, _ in found) + 1, found[0][1].shape[:1].numel()
            yield "wrn", {"depth": 6 * min(blocks, 100) + 4, "width": min(max(channels // 16, 1), 40)}
