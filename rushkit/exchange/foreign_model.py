"""Build a backbone with timm or torchvision, and write the lines of Python that build the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torchvision
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from rushkit.errors import UsageError
from rushkit.models import backbones, torchvision_backbones
from rushkit.models.network import initialised_from
from rushkit.models.pretrained import without_fetching
from rushkit.recipe.schema import Backbone
from rushkit.recipe.toml import Given, Options
from rushkit.registries import backbones as registry
from rushkit.registry import BUILTIN_OWNER


@dataclass(frozen=True)
class Call:
    """A call that can be executed, or written as Python code.

    Attributes:
        function: The function.
        words: The Python expression for the function.
        arguments: By place; plain data, or a class that the lines import.
        options: By name; plain data under names that are identifiers, as the recipe's schema has checked.
    """

    function: Callable[..., Any]
    words: str
    arguments: tuple[Any, ...] = ()
    options: Options = field(default_factory=dict)

    def make(self, **more: Any) -> Any:
        """Make the call, with further options."""
        return self.function(*self.arguments, **self.options, **more)

    def written(self, **more: Any) -> str:
        """Write the call, with further options, as an expression."""
        options = (f"{name}={value!r}" for name, value in {**self.options, **more}.items())
        return f"{self.words}({', '.join([*map(_written, self.arguments), *options])})"


def _written(argument: Any) -> str:
    return argument.__name__ if isinstance(argument, type) else repr(argument)


@dataclass(frozen=True)
class ForeignModel:
    """How to build a model and load a file into it.

    Attributes:
        imports: The modules of the lines.
        model: Makes the model.
        stem: What takes the place of ``conv1`` and ``maxpool``; empty: nothing does.
        cut: A layer that the model goes without, for which there is nothing in the file.
        path_option: The option of ``model`` that names the file to load; none: ``load`` loads it.
        load: Called with the model and the file.
        load_words: How Python calls it, with {path} for the file.
    """

    imports: tuple[str, ...]
    model: Call
    stem: tuple[Call, ...] = ()
    cut: str = ""
    path_option: str = ""
    load: Callable[[nn.Module, Path], Any] = lambda model, path: timm.models.load_checkpoint(model, str(path))
    load_words: str = "timm.models.load_checkpoint(model, {path})"

    def build(self, path: Path | None = None) -> nn.Module:
        """Build the model with the weights of a file, or else with weights drawn from a fixed seed."""
        named = {self.path_option: str(path)} if path and self.path_option else {}
        with initialised_from(0, "export"):
            model: nn.Module = self.model.make(**named)
            if self.stem:
                model.conv1, model.maxpool = (layer.make() for layer in self.stem)
            if self.cut:
                model.set_submodule(self.cut, nn.Identity())
        if path and not named:
            self.load(model, path)
        return model

    def lines(self, path: Path) -> list[str]:
        """Write the lines of Python that build ``model`` and load a file into it."""
        named = {self.path_option: str(path)} if self.path_option else {}
        lines = [*self.imports, f"model = {self.model.written(**named)}"]
        if self.stem:
            lines.append(f"model.conv1, model.maxpool = {', '.join(layer.written() for layer in self.stem)}")
        if self.cut:
            lines.append(f"model.set_submodule({self.cut!r}, torch.nn.Identity())")
        return lines if named else [*lines, self.load_words.format(path=repr(str(path)))]


_TIMMS_CHANNELS = 3
# timm's ResNet of basic blocks behind a stem of 16 channels.
_THIN: dict[str, dict[str, tuple[int, ...]]] = {
    "resnet10-small": {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)},
    **{f"resnet{6 * blocks + 2}": {"layers": (blocks,) * 3, "channels": (16, 32, 64)} for blocks in (3, 5, 7, 9, 18)},
}


def foreign_model(backbone: Backbone, shape: tuple[int, int], classes: int) -> ForeignModel:
    """Describe how timm, or torchvision for its own models, builds a backbone with a head.

    Args:
        backbone: Of the recipe.
        shape: Channels and side of the images.
        classes: Outputs of the head; 0: no head.

    Raises:
        UsageError: a backbone of a plugin, or one that they do not have.
    """
    entry = registry.entry(backbone.name)
    if entry.owner != BUILTIN_OWNER:
        raise UsageError(
            f"backbone {backbone.name!r} comes from {entry.owner}, and neither timm nor torchvision can build it",
            "--format onnx exports every backbone",
        )
    channels, size = shape
    # As timm's own default, three need no word.
    given: dict[str, Given] = {"num_classes": classes}
    if channels != _TIMMS_CHANNELS:
        given["in_chans"] = channels
    family, slash, name = backbone.name.removeprefix(f"{BUILTIN_OWNER}/").partition("/")
    options = without_fetching(backbone.name, backbone.options)
    # Of our factories', not of theirs.
    options.pop("pretrained", None)
    if family == "torchvision":
        return _of_torchvision(name, size, classes, options)
    if slash:
        options = given | options | backbones.creation_options(name, size)
        model = Call(timm.create_model, "timm.create_model", (name,), options)
        return ForeignModel(("import timm",), model, path_option="checkpoint_path")
    if family == "resnet18":
        model = Call(timm.create_model, "timm.create_model", ("resnet18",), given)
        if options.get("stem") == "standard":
            return ForeignModel(("import timm",), model)
        padding = 2 if options.get("stem") == "padded" else 1
        return ForeignModel(("import timm, torch",), model, _small_stem(channels, 64, padding))
    if family not in _THIN or options.get("shortcut") == "padded":
        raise UsageError(
            f"neither timm nor torchvision can build backbone {family!r}", "--format onnx exports every backbone"
        )
    thin: dict[str, Given] = {**_THIN[family], "stem_type": "deep", "stem_width": 8}
    model = Call(ResNet, "ResNet", (BasicBlock,), given | thin)
    imports = ("import timm, torch", "from timm.models.resnet import BasicBlock, ResNet")
    cut = "" if len(_THIN[family]["layers"]) == 4 else "layer4"
    return ForeignModel(imports, model, _small_stem(channels, 16), cut=cut)


def _of_torchvision(name: str, size: int, classes: int, options: dict[str, Given]) -> ForeignModel:
    head = {"num_classes": classes} if classes else {}
    made = head | torchvision_backbones.creation_options(name, size) | options
    model = Call(torchvision.models.get_model, "torchvision.models.get_model", (name,), made)
    cut = ""
    if not classes:
        with initialised_from(0, "export"):
            cut = torchvision_backbones.last_linear(model.make())
    return ForeignModel(
        ("import safetensors.torch, torch, torchvision",),
        model,
        cut=cut,
        load=lambda made, path: made.load_state_dict(safetensors.torch.load_file(path)),
        load_words="model.load_state_dict(safetensors.torch.load_file({path}))",
    )


def _small_stem(channels: int, width: int, padding: int = 1) -> tuple[Call, Call]:
    options: dict[str, Given] = {"padding": padding, "bias": False}
    return Call(nn.Conv2d, "torch.nn.Conv2d", (channels, width, 3), options), Call(nn.Identity, "torch.nn.Identity")
