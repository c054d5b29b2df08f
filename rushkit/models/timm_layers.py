"""Recognise a layer of timm without importing timm, which takes longer than torch itself."""

from __future__ import annotations

import sys

from torch import nn


def is_batch_norm_act(layer: nn.Module) -> bool:
    """Return whether a layer is timm's BatchNormAct2d, BatchNorm with dropout and activation built in, and no subclass.

    Where nobody has imported timm, no layer is one.
    """
    layers = sys.modules.get("timm.layers")
    return layers is not None and type(layer) is layers.BatchNormAct2d
