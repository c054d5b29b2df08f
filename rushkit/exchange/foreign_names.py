"""Match other people's tensor names with those of a backbone and a linear head; nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.errors import shorten
from rushkit.exchange.known_names import under_our_names
from rushkit.exchange.misfit import Misfit, shape_words
from rushkit.exchange.published import Branch, take_encoder
from rushkit.exchange.rules import Rules, ignore, rename

# Wrappers whose name stands before that of every tensor: DataParallel, torch.compile, Lightning, and what people write.
WRAPPERS = (
    "module",
    "_orig_mod",
    "model",
    "encoder",
    "backbone",
    "net",
    "network",
    "base_model",
    "encoder_q",
    "base_encoder",
    "teacher",
    "student",
    "trunk",
)
# What normalisation layers in front of a model call their figures.
_MEANS, _STDS = ("means", "mean", "mu"), ("sds", "std", "stds", "sigma")
_RGB = 3
_COUNTER = "num_batches_tracked"
# Wrappers around wrappers that are taken off.
_MOST_WRAPPERS = 16


@dataclass(frozen=True)
class Fitted:
    """Tensors under the names of their places.

    Attributes:
        encoder: Tensors of the backbone.
        head: ``weight`` (K, F) and ``bias`` (K,); empty where only the encoder was asked for.
        mean: Mean of each channel, where the file has a normalisation layer; else empty.
        std: Standard deviation of each channel; see ``mean``.
        branch: Whose BatchNorm set was taken, where the file has several; see ``published.Encoder``.
        ignored: Names that were left out because the user said so.
        notes: Sentences on the changes that were made.
    """

    encoder: dict[str, Tensor]
    head: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    branch: str
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def fit_names(
    tensors: Mapping[str, Tensor],
    encoder: Mapping[str, Tensor],
    features: int,
    rules: Rules,
    encoder_only: bool,
    branch: Branch | None = None,
) -> Fitted:
    """Give every tensor its place in the backbone or the head.

    Args:
        tensors: As the file has them.
        encoder: The backbone's own state dict, for names and shapes.
        features: F, the length of its features.
        rules: What the user says.
        encoder_only: Leave a head out; else there must be one.
        branch: Whose BatchNorm set to take; see ``published.take_encoder``.

    Raises:
        UsageError: a rule that matches nothing, or a branch that is not there.
        CheckpointError: tensors that are missing, have no place or another shape, or a head that cannot be told.
    """
    notes: list[str] = []
    # Those of the first convolution, in its place or that of a patch embedding.
    channels = next((place.shape[1] for place in encoder.values() if place.dim() == 4), _RGB)
    named, mean, std = _take_normalisation(tensors, channels, notes)
    named = _strip_wrappers(named, encoder, bool(mean), notes)
    named = rename(named, rules.rename, notes)
    named, ignored = ignore(named, rules.ignore)
    # Without what was ignored, the rest may share a wrapper; so may what is left of a published file.
    named = _strip_wrappers(named, encoder, bool(mean), notes)
    published = take_encoder(named, branch)
    notes += published.notes
    named = published.tensors
    if not mean:
        named, mean, std = _take_normalisation(named, channels, notes)
    named = _strip_wrappers(named, encoder, bool(mean), notes)
    named = under_our_names(named, encoder, notes)
    placed = {name: tensor for name, tensor in named.items() if name in encoder}
    rest = {name: tensor for name, tensor in named.items() if name not in encoder}
    missing = [name for name in encoder if name not in placed]
    counters = [name for name in missing if name.endswith(_COUNTER)]
    if counters and placed:
        placed |= {name: torch.zeros_like(encoder[name]) for name in counters}
        missing = [name for name in missing if name not in counters]
        notes.append(f"{len(counters)} counters of BatchNorm are not in the file, and start at 0")
    head = _take_head(rest, features, encoder_only, notes)
    misshapen = [name for name in placed if shape_words(placed[name]) != shape_words(encoder[name])]
    no_head = not head and not encoder_only and not missing
    misfit = Misfit(named, encoder, missing, rest, misshapen, no_head, features)
    if misfit.wrong:
        raise misfit.error()
    head = {} if encoder_only else head
    fitted = {name: placed[name] for name in encoder}
    return Fitted(fitted, head, mean, std, published.branch, ignored, tuple(notes))


def _take_normalisation(
    tensors: Mapping[str, Tensor], channels: int, notes: list[str]
) -> tuple[dict[str, Tensor], tuple[float, ...], tuple[float, ...]]:
    """Split off the mean and std, one number a channel, of a normalisation layer in front of the model."""
    layers: dict[str, dict[str, str]] = {}
    for name, tensor in tensors.items():
        before, _, last = name.rpartition(".")
        kind = "mean" if last in _MEANS else "std" if last in _STDS else None
        if kind and tensor.numel() == channels:
            layers.setdefault(before, {})[kind] = name
    pairs = [layer for layer in layers.values() if len(layer) == 2]
    if len(pairs) != 1:
        return dict(tensors), (), ()
    (pair,) = pairs
    mean, std = (tuple(round(value, 7) for value in tensors[pair[kind]].flatten().tolist()) for kind in ("mean", "std"))
    notes.append(f"the normalisation is taken from {shorten(pair['mean'])} and {shorten(pair['std'])}")
    return {name: tensor for name, tensor in tensors.items() if name not in pair.values()}, mean, std


def _strip_wrappers(
    named: dict[str, Tensor], encoder: Mapping[str, Tensor], normalised: bool, notes: list[str]
) -> dict[str, Tensor]:
    """Remove a prefix that all names share, or all but those of one linear layer."""
    own_parts = {name.partition(".")[0] for name in encoder}
    for _ in range(_MOST_WRAPPERS):
        wrapper = _wrapper(named, own_parts)
        if wrapper is None:
            break
        named = {name.removeprefix(f"{wrapper}."): tensor for name, tensor in named.items()}
        # The second module of a Sequential.
        behind = wrapper.isdecimal() and wrapper != "0" and not normalised
        before = "; what stands before it, such as a normalisation, has no tensors: --mean and --std say it"
        notes.append(f"the prefix {wrapper!r} is taken off the names{before if behind else ''}")
    return named


def _wrapper(named: Collection[str], own_parts: Collection[str]) -> str | None:
    """Return the first part of the names that belongs to a wrapper and not to the backbone."""
    firsts = dict.fromkeys(name.partition(".")[0] for name in named if "." in name)
    for first in firsts:
        known = first in WRAPPERS or (first.isdecimal() and len(firsts) == 1)
        if not known or first in own_parts:
            continue
        others = [name for name in named if not name.startswith(f"{first}.")]
        if others and (first.isdecimal() or not _is_one_linear(others)):
            continue
        if not any(f"{first}.{name}" in named for name in others):
            return first
    return None


def _is_one_linear(names: Sequence[str]) -> bool:
    layers = {name.rpartition(".")[0] for name in names}
    return len(layers) == 1 and {name.rpartition(".")[2] for name in names} <= {"weight", "bias"}


def _take_head(rest: dict[str, Tensor], features: int, encoder_only: bool, notes: list[str]) -> dict[str, Tensor]:
    """Remove the only linear layer on the features from ``rest``, the tensors that the backbone has no place for."""
    layers = sorted({name.rpartition(".")[0] for name in rest if name.rpartition(".")[2] == "weight"})
    heads = []
    for layer in layers:
        weight, bias = rest[_join(layer, "weight")], rest.get(_join(layer, "bias"))
        # A 1x1 convolution on pooled features is a linear layer.
        flat = weight.flatten(1) if weight.ndim > 2 and weight.shape[2:].numel() == 1 else weight
        if flat.ndim == 2 and flat.shape[1] == features and (bias is None or bias.shape == flat.shape[:1]):
            heads.append((layer, flat, bias))
    if len(heads) != 1:
        return {}
    layer, weight, bias = heads[0]
    for part in ("weight", "bias"):
        rest.pop(_join(layer, part), None)
    if encoder_only:
        notes.append(f"the head {layer or 'weight'!r} is left out")
    else:
        notes.append(
            f"the head is {layer or 'weight'!r}: {len(weight)} classes" + (", no bias" if bias is None else "")
        )
    return {"weight": weight, "bias": torch.zeros(len(weight)) if bias is None else bias}


def _join(layer: str, part: str) -> str:
    return f"{layer}.{part}" if layer else part
