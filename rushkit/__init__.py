"""rushkit: contrastive learning with randomized smoothing, and an honest measure of the robustness that comes of it.

Public names are imported when they are first used, so ``import rushkit`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it; a name that is its own module's last part is the module itself.
_LAZY = {
    "attack": "rushkit.stages.attack",
    "attacks": "rushkit.attacks",
    "backbones": "rushkit.models",
    "datasets": "rushkit.data",
    "evaluate": "rushkit.stages.evaluate",
    "finetune": "rushkit.stages.finetune",
    "load": "rushkit.stages.load",
    "load_recipe": "rushkit.recipe.load",
    "noises": "rushkit.noises",
    "objectives": "rushkit.objectives",
    "pretrain": "rushkit.stages.pretrain",
    "recipes": "rushkit.registries",
    "RushkitError": "rushkit.errors",
    "SmoothedClassifier": "rushkit.smoothing",
    "statistics": "rushkit.statistics",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'rushkit' has no attribute {name!r}")
    return importlib.import_module(_LAZY[name])


def __dir__() -> list[str]:
    return sorted(__all__)
