"""What known code calls the tensors of networks that rushkit has under names of its own, and what those names show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from rushkit.errors import UsageError
from rushkit.exchange.rules import renamed_key
from rushkit.recipe.toml import Given, Options


@dataclass(frozen=True)
class Naming:
    """How some code names the tensors of a network.

    Attributes:
        code: Whose code.
        marks: Names that every such file has; none where the rules alone decide.
        rename: Its names to ours, as ``Rules.rename``.
        unused: The beginning of tensors that its networks have and never use; empty for none.
    """

    code: str
    marks: tuple[str, ...]
    rename: Mapping[str, str]
    unused: str = ""


_DEEPMIND = ("layer.0.block.0.conv_0.weight", "layer_0.0.conv_2d_1.weight")
_NAMINGS = (
    Naming(
        "the wide ResNets of TRADES and RobustBench",
        ("block1.layer.0.conv1.weight", "block2.layer.0.convShortcut.weight", "bn1.weight"),
        {
            "block1.layer": "layer1",
            "block2.layer": "layer2",
            "block3.layer": "layer3",
            "*.convShortcut": "*.shortcut",
            "bn1": "bn",
        },
        unused="sub_block1.",
    ),
    Naming(
        "DeepMind's wide ResNets",
        ("init_conv.weight", _DEEPMIND[0]),
        {
            "init_conv": "conv1",
            "layer.0.block": "layer1",
            "layer.1.block": "layer2",
            "layer.2.block": "layer3",
            "*.batchnorm_0": "*.bn1",
            "*.conv_0": "*.conv1",
            "*.batchnorm_1": "*.bn2",
            "*.conv_1": "*.conv2",
            "batchnorm": "bn",
        },
    ),
    Naming(
        "DeepMind's PreActResNet-18",
        ("conv_2d.weight", _DEEPMIND[1]),
        {
            "conv_2d": "conv1",
            "layer_3": "layer4",
            "layer_2": "layer3",
            "layer_1": "layer2",
            "layer_0": "layer1",
            "*.batchnorm_0": "*.bn1",
            "*.conv_2d_1": "*.conv1",
            "*.batchnorm_1": "*.bn2",
            "*.conv_2d_2": "*.conv2",
            "batchnorm": "bn",
        },
    ),
    Naming("the PreActResNets of pytorch-cifar", ("layer2.0.shortcut.0.weight",), {"*.shortcut.0": "*.shortcut"}),
    Naming("the CIFAR ResNets with 'shortcut'", (), {"*.shortcut": "*.downsample"}),
)
_ACTIVATION_HINT = (
    "swish, as in most of its networks: --set backbone.activation=silu\nelse: --set backbone.activation=relu"
)


def under_our_names(named: Mapping[str, Tensor], places: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Rename the tensors of known code, where more of them then fit a place of the backbone by name and shape.

    Args:
        named: Tensors without the prefixes of wrappers.
        places: The backbone's own state dict.
        notes: Takes a sentence on what was renamed.
    """
    now = dict(named)
    for naming in _NAMINGS:
        if not all(mark in now for mark in naming.marks):
            continue
        used = {name: tensor for name, tensor in now.items() if not naming.unused or not name.startswith(naming.unused)}
        renamed = {_renamed(name, naming.rename): tensor for name, tensor in used.items()}
        if len(renamed) == len(used) and _fitting(renamed, places) > _fitting(now, places):
            unused = f"; {naming.unused}* is left out, which they never use" if len(used) < len(now) else ""
            notes.append(f"the names are those of {naming.code}{unused}")
            now = renamed
    return now


def options_shown(backbone: str, options: Options, names: Collection[str]) -> tuple[dict[str, Given], list[str]]:
    """Return the options of a backbone that the names in a file show, and sentences on them; none that are given.

    Args:
        backbone: Name of the backbone, without its owner.
        options: Those that the user gives.
        names: Of the tensors, with or without prefixes.

    Raises:
        UsageError: the names are DeepMind's, and no file of theirs shows the activation.
    """
    changes: dict[str, Given] = {}
    notes: list[str] = []
    for fits, option, value, shown_by, note in _SHOWN:
        if fits(backbone) and option not in options and shown_by(names):
            changes[option] = value
            notes.append(f"{note}: backbone.{option} is {str(value).lower()}")
    if changes.get("variant") == "deepmind" and "activation" not in options:
        raise UsageError(
            "the names are those of DeepMind's code, and the weights do not show the activation", _ACTIVATION_HINT
        )
    return changes, notes


def _no_shortcut_weights(names: Collection[str]) -> bool:
    stages = any(_ends(name, "layer2.0.conv1.weight") for name in names)
    return stages and not any(".downsample." in name or ".shortcut." in name for name in names)


def _no_last_norm(names: Collection[str]) -> bool:
    blocks = any(".shortcut." in name for name in names)
    return blocks and not any(_ends(name, "bn.weight") or _ends(name, "batchnorm.weight") for name in names)


def _of_deepmind(names: Collection[str]) -> bool:
    return any(_ends(name, mark) for name in names for mark in _DEEPMIND)


# For which backbones an option has which value, by which sign.
_Sign = tuple[Callable[[str], bool], str, Given, Callable[[Collection[str]], bool], str]
_CIFAR = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
_SHOWN: tuple[_Sign, ...] = (
    (
        lambda backbone: backbone in _CIFAR,
        "shortcut",
        "padded",
        _no_shortcut_weights,
        "the file has no weights of shortcuts",
    ),
    (
        lambda backbone: backbone == "preact-resnet18",
        "last_norm",
        False,
        _no_last_norm,
        "the file has no BatchNorm after the last block, as pytorch-cifar's",
    ),
    (
        lambda backbone: backbone == "preact-resnet18" or backbone.startswith("wrn"),
        "variant",
        "deepmind",
        _of_deepmind,
        "the names are those of DeepMind's code",
    ),
)


def _ends(name: str, mark: str) -> bool:
    return name == mark or name.endswith(f".{mark}")


def _renamed(name: str, rules: Mapping[str, str]) -> str:
    for old, new in rules.items():
        name = renamed_key(name, old, new)
    return name


def _fitting(named: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> int:
    return sum(name in places and places[name].shape == tensor.shape for name, tensor in named.items())
