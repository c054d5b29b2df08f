"""Match other people's tensor names with those of a backbone and a linear head; nothing is dropped silently."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from rushkit.errors import CheckpointError, UsageError, first_few, shell_line, shorten
from rushkit.exchange.published import Branch, take_encoder
from rushkit.paths import reason
from rushkit.recipe import toml
from rushkit.recipe.toml import Table

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
_COUNTER = "num_batches_tracked"
_SHOWN = 3
# Names that are compared with all others in search of a rule that would mend a misfit.
_COMPARED = 10
# Names among which the nearest is looked for, and their length: the file may have any number.
_OTHERS, _LONGEST = 1000, 200
# Wrappers around wrappers that are taken off.
_MOST_WRAPPERS = 16
_KEYS_HINT = "for example: ignore = ['projector*'], then a line [rename], then lines such as 'features' = 'layers'"


@dataclass(frozen=True)
class Rules:
    """The user's rules about names.

    Attributes:
        rename: Old to new. A name, or the beginning of names up to a dot; ``*.old`` to ``*.new`` matches anywhere.
        ignore: Patterns with ``*`` of tensors to leave out.
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    ignore: Sequence[str] = ()


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


def read_rules(keys: str | Path | None, rename: Sequence[str] = (), ignore: Sequence[str] = ()) -> Rules:
    """Read the rules of a TOML file (a table ``[rename]`` and a list ``ignore``), then add those of the command line.

    Raises:
        UsageError: a file that cannot be read or says something else, or a rule that is not OLD=NEW.
    """
    table: Table = {}
    if keys is not None:
        try:
            table = toml.loads(toml.read_text(Path(keys)))
        except (OSError, ValueError) as error:
            raise UsageError(f"{keys} cannot be read: {reason(error)}", _KEYS_HINT) from error
    # A dotted name that was not quoted has become a table of tables.
    renames, ignores = table.pop("rename", {}), table.pop("ignore", [])
    flat = toml.flatten(renames) if isinstance(renames, dict) else {}
    renamed = {old: new for old, new in flat.items() if isinstance(new, str)}
    ignored = [pattern for pattern in ignores if isinstance(pattern, str)] if isinstance(ignores, list) else []
    if table or not isinstance(renames, dict) or (flat, ignores) != (renamed, ignored):
        raise UsageError(f"{keys} has more than a table [rename] and a list ignore, or other values", _KEYS_HINT)
    for rule in rename:
        old, equals, new = rule.partition("=")
        if not old or not equals:
            raise UsageError(
                f"--rename {rule!r} is not OLD=NEW", "for example --rename features=layers; NEW may be empty"
            )
        renamed[old] = new
    return Rules(renamed, (*ignored, *ignore))


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
    named, mean, std = _take_normalisation(tensors, notes)
    named = _strip_wrappers(named, encoder, bool(mean), notes)
    named = _rename(named, rules.rename, notes)
    named, ignored = _ignore(named, rules.ignore)
    # Without what was ignored, the rest may share a wrapper; so may what is left of a published file.
    named = _strip_wrappers(named, encoder, bool(mean), notes)
    published = take_encoder(named, branch)
    notes += published.notes
    named = published.tensors
    if not mean:
        named, mean, std = _take_normalisation(named, notes)
    named = _strip_wrappers(named, encoder, bool(mean), notes)
    named = _blocks_of_other_names(named, encoder, notes)
    placed = {name: tensor for name, tensor in named.items() if name in encoder}
    rest = {name: tensor for name, tensor in named.items() if name not in encoder}
    missing = [name for name in encoder if name not in placed]
    counters = [name for name in missing if name.endswith(_COUNTER)]
    if counters and placed:
        placed |= {name: torch.zeros_like(encoder[name]) for name in counters}
        missing = [name for name in missing if name not in counters]
        notes.append(f"{len(counters)} counters of BatchNorm are not in the file, and start at 0")
    head = _take_head(rest, features, encoder_only, notes)
    misshapen = [name for name in placed if _shape(placed[name]) != _shape(encoder[name])]
    no_head = not head and not encoder_only and not missing
    if missing or rest or misshapen or no_head:
        raise _misfit(named, encoder, missing, rest, misshapen, no_head, features)
    head = {} if encoder_only else head
    fitted = {name: placed[name] for name in encoder}
    return Fitted(fitted, head, mean, std, published.branch, ignored, tuple(notes))


def _take_normalisation(
    tensors: Mapping[str, Tensor], notes: list[str]
) -> tuple[dict[str, Tensor], tuple[float, ...], tuple[float, ...]]:
    """Split off the mean and std of a normalisation layer in front of the model."""
    layers: dict[str, dict[str, str]] = {}
    for name, tensor in tensors.items():
        before, _, last = name.rpartition(".")
        kind = "mean" if last in _MEANS else "std" if last in _STDS else None
        if kind and tensor.numel() == 3:
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


def _rename(named: dict[str, Tensor], rules: Mapping[str, str], notes: list[str]) -> dict[str, Tensor]:
    for old, new in rules.items():
        renamed: dict[str, Tensor] = {}
        changed = 0
        for name, tensor in named.items():
            other = renamed_key(name, old, new)
            if other in renamed or not other:
                raise UsageError(
                    f"renaming {old} to {new or 'nothing'} gives two tensors the name {other!r}",
                    "make the rule narrower",
                )
            changed += other != name
            renamed[other] = tensor
        if not changed:
            hint = _what_was_meant(old.removeprefix("*."), named)
            raise UsageError(f"no tensor is called {old}, so it cannot be renamed", hint)
        notes.append(f"{changed} names have {old!r} changed to {new!r}")
        named = renamed
    return named


def renamed_key(name: str, old: str, new: str) -> str:
    """Apply one rule of ``Rules.rename`` to a name."""
    if old.startswith("*."):
        inner = re.escape(old[2:])
        return re.sub(rf"(?:(?<=\.)|^){inner}(?=\.|$)", lambda _: new.removeprefix("*."), name).strip(".")
    if name == old or name.startswith(f"{old}."):
        return f"{new}{name[len(old) :]}".lstrip(".")
    return name


def _ignore(named: dict[str, Tensor], patterns: Sequence[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    ignored = []
    for pattern in patterns:
        hit = [name for name in named if fnmatchcase(name, pattern)]
        if not hit:
            hint = _what_was_meant(pattern.removesuffix("*").removesuffix("."), named)
            raise UsageError(f"no tensor matches --ignore {pattern}", hint)
        ignored += hit
    left_out = dict.fromkeys(ignored)
    return {name: tensor for name, tensor in named.items() if name not in left_out}, tuple(left_out)


def _blocks_of_other_names(
    named: dict[str, Tensor], encoder: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Rename ``shortcut``, the branch around a block of CIFAR ResNets, to torchvision's and timm's ``downsample``."""
    if any(".downsample." in name for name in named) or not any(".downsample." in name for name in encoder):
        return named
    renamed = {renamed_key(name, "*.shortcut", "*.downsample"): tensor for name, tensor in named.items()}
    if renamed.keys() != named.keys():
        notes.append("'shortcut' is called 'downsample' here")
    return renamed


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


def _misfit(
    named: Mapping[str, Tensor],
    encoder: Mapping[str, Tensor],
    missing: Sequence[str],
    rest: Mapping[str, Tensor],
    misshapen: Sequence[str],
    no_head: bool,
    features: int,
) -> CheckpointError:
    """Describe what does not fit, a few tensors of each kind, and how to fix it."""
    lines, hints = [], []
    if missing:
        shown = first_few(_with_near(missing, rest), _SHOWN, len(missing))
        lines.append(f"missing ({len(missing)} of {len(encoder)}): {shown}")
    if rest:
        shown = first_few(_with_near(list(rest), missing), _SHOWN, len(rest))
        lines.append(f"without a place ({len(rest)} of {len(named)}): {shown}")
    if misshapen:
        shapes = [
            f"{shorten(name)} is {_shape(named[name])}, its place {_shape(encoder[name])}"
            for name in misshapen[:_SHOWN]
        ]
        lines.append(f"of another shape ({len(misshapen)}): {first_few(shapes, _SHOWN, len(misshapen))}")
    if no_head:
        lines.append(f"no one linear layer on {features} features, which would be the head")
    if missing and rest:
        old, new = _suggested_rename(list(rest), list(missing))
        rule = shell_line("--rename", f"{shorten(old)}={shorten(new)}")
        hints.append(f"if these are the same tensors under other names: {rule}, or a file with --keys")
    elif rest:
        first = next(iter(rest)).rpartition(".")[0]
        hints.append(f"to leave tensors out on purpose: {shell_line('--ignore', f'{first or next(iter(rest))}*')}")
    if no_head:
        hints.append("for the encoder alone: --encoder-only")
    if misshapen or (missing and not rest):
        hints.append("check --backbone, its options (--set backbone.stem=standard) and data.image_size")
    return CheckpointError(
        "\n".join(["the tensors do not fit the backbone", *(f"  {line}" for line in lines)]), "\n".join(hints)
    )


def _suggested_rename(rest: Sequence[str], missing: Sequence[str]) -> tuple[str, str]:
    """Return the shortest rule that renames an unplaced tensor to a similar free place."""
    pairs = [(name, _near(name, missing, 0.0)) for name in rest[:_COMPARED]]
    old, new = max(pairs, key=lambda pair: difflib.SequenceMatcher(None, pair[0][:_LONGEST], pair[1]).ratio())
    olds, news = old.split("."), new.split(".")
    while len(olds) > 1 and news and olds[-1] == news[-1]:
        olds, news = olds[:-1], news[:-1]
    return ".".join(olds), ".".join(news)


def _with_near(names: Sequence[str], others: Iterable[str]) -> list[str]:
    """List the first few names, each with the nearest of the others."""
    others = list(others)
    return [
        f"{shorten(name)} (near: {near})" if (near := _near(name, others)) else shorten(name) for name in names[:_SHOWN]
    ]


def _near(name: str, others: Sequence[str], cutoff: float = 0.5) -> str:
    """Return the nearest of the first others, or an empty text."""
    near = [other for other in others[:_OTHERS] if len(other) <= _LONGEST]
    return next(iter(difflib.get_close_matches(name[:_LONGEST], near, n=1, cutoff=cutoff)), "")


def _what_was_meant(name: str, names: Iterable[str]) -> str:
    """Return a hint for a name that does not exist: the nearest name or prefix, else a few of the names."""
    near = _near(name, [*names, *dict.fromkeys(other.partition(".")[0] for other in names)])
    return f"did you mean {near}?" if near else f"the names are such as {', '.join(map(shorten, list(names)[:_SHOWN]))}"


def _join(layer: str, part: str) -> str:
    return f"{layer}.{part}" if layer else part


def _shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "a scalar"
    return shape if tensor.is_floating_point() else f"{shape} of whole numbers"
