"""Pretrained weights of timm's and torchvision's hubs: when they are fetched, and when only their caches are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import torch

from rushkit.errors import RushkitError
from rushkit.recipe.toml import Given, Options
from rushkit.registries import backbones
from rushkit.registry import BUILTIN_OWNER, factory_parameters
from rushkit.system import offline

# torchvision's weights of these were trained on (x - 0.5) / 0.5: its models undo ImageNet's normalisation where they
# have them. Whoever says the normalisation outright needs no such step.
OWN_SCALE: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = dict.fromkeys(
    ("googlenet", "inception_v3"), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
)


def without_fetching(name: str, options: Options) -> dict[str, Given]:
    """Return the options that build the same backbone without pretrained weights, which a checkpoint replaces.

    Args:
        name: A name of the registry of backbones.
        options: Its factory's own; ``pretrained`` is the one that brings weights, of plugins too.
    """
    kept: dict[str, Given] = {option: value for option, value in options.items() if option != "pretrained"}
    family, _, model = name.removeprefix(f"{BUILTIN_OWNER}/").partition("/")
    if options.get("pretrained") and family == "torchvision" and model in OWN_SCALE:
        kept = {"transform_input": True} | kept
    return kept | ({"pretrained": False} if "pretrained" in factory_parameters(backbones.get(name)) else {})


@contextmanager
def hub_access(url: str | None, hub_name: str | None = None) -> Iterator[None]:
    """Let this block fetch weights. With ``RUSHKIT_OFFLINE`` they come from the hubs' caches or not at all.

    Args:
        url: Address of the weights, for torch's cache.
        hub_name: Their name on the Hugging Face hub, which takes precedence over the address.

    Raises:
        RushkitError: offline, and torch's cache does not have them.
    """
    if not offline():
        yield
    elif hub_name:
        from huggingface_hub import constants

        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before
    elif url and Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(url).path).name).is_file():
        yield
    else:
        raise RushkitError("RUSHKIT_OFFLINE is set, and torch's cache does not have them")
