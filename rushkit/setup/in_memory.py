"""``rushkit.classifier``: a module of a notebook's in the place of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from rushkit.checked import check_model
from rushkit.errors import UsageError, shorten
from rushkit.image_size import size_to_json
from rushkit.models.black_box import BlackBox
from rushkit.models.lazy import lazy_layer
from rushkit.recipe.load import build_recipe, derive_recipe
from rushkit.recipe.toml import Toml
from rushkit.results.run_file import GivenFacts
from rushkit.setup.given import GivenModel, adapt

# What records call a module that no code names.
IN_MEMORY = "in memory"


def classifier(
    module: Any,
    data: str | Mapping[str, Toml],
    *,
    classes: Sequence[str] = (),
    image_size: int | tuple[int, int] = 0,
    noise: str | Mapping[str, Toml] = "none",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    **changes: Toml,
) -> GivenModel:
    """Return a classifier of yours as what every stage takes in the place of a run.

    The module stays as it is: its modes, its parameters and their ``requires_grad``, and its device; where a recipe
    computes on another device, a copy goes there. It runs in eval mode.

    Example::

        model = rushkit.classifier(net, "cifar10", mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
        rushkit.evaluate(model.recipe, model)
        rushkit.audit(model.recipe, model)

    Args:
        module: (N, C, H, W) images in [0, 1] -> (N, K) logits; with ``answers="probabilities"`` or ``"labels"`` also a
            callable from float32 numpy images to those.
        data: Name of a data set, or the keys of a recipe's section [data].
        classes: Names in the order of the outputs; empty: those of the data.
        image_size: Side of the images, in pixels, or height and width of a folder's; 0: the data's own.
        noise: Name of a noise, or the keys of the section [noise]; the classifier is measured under it.
        mean: Mean of each channel, pixel units, where the module does not normalise.
        std: Standard deviation of each channel.
        **changes: Other keys of the section [model]: ``output``, ``answers``, ``random``.

    Raises:
        UsageError: the module returns something that is no logits of these classes, has layers without weights, such as
            ``LazyLinear`` before its first batch, or a key does not exist.
        PluginError: the module raises an error on images of the data.
        DataError: the data set cannot be read.
    """
    if not isinstance(module, nn.Module) and changes.get("answers") in ("probabilities", "labels"):
        if not callable(module):
            raise UsageError(f"a classifier is a module or a callable (got {type(module).__name__})")
        module = BlackBox(module)
    check_model(module)
    if layer := lazy_layer(module):
        raise UsageError(
            f"the module's {shorten(layer)} has no weights before the first batch, so there is nothing to measure yet",
            "train it, or pass one batch of images through it first",
        )
    section: dict[str, Toml] = {"classes": list(classes), "mean": list(mean), "std": list(std), **changes}
    recipe = build_recipe(
        {
            "name": "in-memory",
            "data": {**_table(data), **({"image_size": size_to_json(image_size)} if image_size else {})},
            "noise": _table(noise),
            "model": section,
        },
        components=True,
    )
    return adapt(module, derive_recipe(recipe), GivenFacts(code=IN_MEMORY))


def _table(named: str | Mapping[str, Toml]) -> dict[str, Toml]:
    return {"name": named} if isinstance(named, str) else dict(named)
