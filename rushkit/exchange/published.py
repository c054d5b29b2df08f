"""What published pre-training saves beside an encoder: BatchNorm sets for branches, projectors, a second encoder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rushkit.errors import CheckpointError, UsageError, first_few, shorten

Branch = Literal["adversarial", "clean", "labels"]
Writer = Literal["", "AdvCL", "DeACL", "RoCL", "solo-learn"]

# The places in ``bn_list``: ACL's code calls them normal and pgd, AdvCL's normal, pgd and pgd_ce.
_BRANCHES: dict[str, Branch] = {"0": "clean", "1": "adversarial", "2": "labels"}
# How many sets the code of a method writes: SimCLR in ACL's code, ACL and DynACL, AdvCL.
_COMPLETE = ({"0"}, {"0", "1"}, {"0", "1", "2"})
_SETS, _COUNTER = "bn_list", "num_batches_tracked"
# AdvCL's: five linear heads on pseudo-labels, one of 1000 classes that nothing trains, projector and predictor.
_ADVCL_HEADS = frozenset({"fc_002", "fc_010", "fc_050", "fc_100", "fc_500", "head_ce", "head_proj", "head_pred"})
# solo-learn's and DeACL's, beside encoder and classifier.
_SOLO_PARTS = frozenset({"projector", "predictor", "prototypes", "queue", "queue_y", "queue_ptr", "classifier_adv"})
_MOMENTUM = "momentum_"
# What MoCo keeps beside its two encoders, and what DINO's and MoCo's networks end with in pre-training.
_BESIDE_MOCO = frozenset({"queue", "queue_ptr", "predictor"})
_DINO_HEAD = ("head.mlp.", "head.last_layer.", "dino_head.", "ibot_head.")
_SHOWN = 10


@dataclass(frozen=True)
class Encoder:
    """One encoder out of a file that may have several.

    Attributes:
        tensors: Its tensors, and those that belong to nothing that is known here.
        branch: Whose BatchNorm set was taken; empty where the file has one set without a name.
        notes: Sentences on what was taken and what was left.
    """

    tensors: dict[str, Tensor]
    branch: str
    notes: tuple[str, ...]


def written_by(names: Collection[str], beside: Collection[str]) -> Writer:
    """Return whose code writes a file of these names; empty where the names are everybody's.

    Args:
        names: Of the tensors.
        beside: Keys that stand beside the state dict in the file.
    """
    plain = {name.removeprefix("module.") for name in names}
    firsts = _firsts(plain)
    if {"backbone.normalize.mean", "momentum_backbone.normalize.mean"} <= plain and "classifier_adv" in firsts:
        return "DeACL"
    lightning = "pytorch-lightning_version" in beside or any(_is_solo_part(first) for first in firsts)
    if firsts & {"backbone", "encoder"} and "classifier" in firsts and lightning:
        return "solo-learn"
    if {"head_proj", "head_pred"} <= firsts:
        return "AdvCL"
    if {"optimizer_state", "rng_state"} <= set(beside) and any(".shortcut." in name for name in plain):
        return "RoCL"
    return ""


def take_encoder(named: Mapping[str, Tensor], branch: Branch | None = None) -> Encoder:
    """Take the encoder that is meant to be used out of a published file, under the names of a stock ResNet.

    Args:
        named: Tensors without the prefixes of wrappers.
        branch: Whose BatchNorm set to take; None: the adversarial one, or else the only one.

    Raises:
        UsageError: the file has no such set.
        CheckpointError: sets that no published code writes, or that are not whole.
    """
    notes: list[str] = []
    tensors = _momentum_encoder(dict(named), notes)
    tensors = _without_parts(tensors, notes)
    sets = _sets(tensors)
    if not sets:
        if branch is not None:
            raise UsageError(
                f"--branch {branch}: the file has one set of BatchNorm layers, and no branches to choose from",
                "leave --branch out; the files that have branches are those of ACL, DynACL and AdvCL",
            )
        return Encoder(tensors, "", tuple(notes))
    _check_sets(tensors, sets)
    number = _chosen(sets, branch)
    taken: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = _place(name)
        if place is not None and place[1] != number:
            continue
        stock = _stock_name(name if place is None else f"{place[0]}.{place[2]}")
        if stock in taken:
            raise CheckpointError(
                f"the file has {shorten(stock)!r} both in a BatchNorm set and outside",
                "leave out what is not wanted: --ignore PATTERN",
            )
        taken[stock] = tensor
    taken_branch = _BRANCHES.get(number, "")
    others = [_BRANCHES[other] for other in sorted(sets) if other != number]
    if others:
        notes.append(f"the BatchNorm set of the {taken_branch} branch is taken; left: {', '.join(others)}")
    elif taken_branch:
        notes.append(f"the file has one BatchNorm set, that of the {taken_branch} branch")
    return Encoder(taken, taken_branch, tuple(notes))


def _firsts(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _is_solo_part(first: str) -> bool:
    return first in _SOLO_PARTS or first.startswith(_MOMENTUM)


@dataclass(frozen=True)
class _Twins:
    """Two encoders of one file, of which one is meant to be used.

    Attributes:
        taken: The first part of the names of that one.
        left: That of the other.
        beside: First parts of what may stand beside them.
        projector: First parts of what the encoder ends with in pre-training.
        user: Whose evaluation takes it.
    """

    taken: str
    left: str
    beside: frozenset[str] = frozenset()
    projector: tuple[str, ...] = ()
    user: str = ""

    def are_in(self, firsts: set[str]) -> bool:
        """Whether a file whose names begin so has the two, or one of them beside what only such a file has."""
        pair = {self.taken, self.left}
        return self.taken in firsts and firsts <= pair | self.beside and firsts != {self.taken}


_DYNACL = _Twins("encoder_k", "encoder_q", user="DynACL")
_TWINS = (
    _Twins("encoder_q", "encoder_k", _BESIDE_MOCO, ("fc",), "MoCo"),
    _Twins("base_encoder", "momentum_encoder", _BESIDE_MOCO, ("fc", "head"), "MoCo v3"),
    _Twins("teacher", "student", user="DINO"),
)


def _momentum_encoder(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Take the one of two encoders that the authors of MoCo, DINO or DynACL evaluate and release."""
    firsts = _firsts(tensors)
    choices = (_DYNACL,) if _sets(tensors) else _TWINS
    twins = next((twins for twins in choices if twins.are_in(firsts)), None)
    if twins is None:
        return tensors
    before, left = f"{twins.taken}.", sorted(firsts - {twins.taken})
    inner = {name.removeprefix(before): tensor for name, tensor in tensors.items() if name.startswith(before)}
    kept = {name: tensor for name, tensor in inner.items() if name.partition(".")[0] not in twins.projector}
    projector = f"; its projector, {len(inner) - len(kept)} tensors, too" if len(kept) < len(inner) else ""
    notes.append(
        f"{twins.taken!r} is taken, as {twins.user}'s evaluation does; left: {', '.join(map(repr, left))}{projector}"
    )
    return kept


def _without_parts(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Leave out projectors, predictors and heads of pre-training, and a second encoder."""
    firsts = _firsts(tensors)
    left: set[str] = set()
    if firsts & {"backbone", "encoder"} and "classifier" in firsts:
        left |= {first for first in firsts if _is_solo_part(first)}
    if {"head_proj", "head_pred"} <= firsts:
        left |= firsts & _ADVCL_HEADS
        # The finetuning code's network has an untrained layer of this name; the head it trains stands beside it.
        left |= firsts & {"linear"} if "classifier" in firsts else set()
    projectors: tuple[str, ...] = _DINO_HEAD
    if "fc.fc1.weight" in tensors and _sets(tensors):
        projectors = (*projectors, "fc.")
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name.partition(".")[0] not in left and not name.startswith(projectors)
    }
    if len(kept) < len(tensors):
        ends = {name.partition(".")[0] for name in tensors if name.startswith(projectors)}
        words = sorted(shorten(first) for first in left) + [f"{end} (a projector)" for end in sorted(ends - left)]
        listed = first_few(words, _SHOWN)
        notes.append(f"of pre-training and left out ({len(tensors) - len(kept)} tensors): {listed}")
    return kept


def _place(name: str) -> tuple[str, str, str] | None:
    """Split the name of a tensor in ``bn_list`` into layer, number of the set (may be empty) and part, else None."""
    before, _, part = name.rpartition(".")
    layer, _, last = before.rpartition(".")
    if last == _SETS:
        return layer, "", part
    outer, _, inner = layer.rpartition(".")
    return (outer, last, part) if inner == _SETS else None


def _sets(names: Iterable[str]) -> set[str]:
    return {place[1] for name in names if (place := _place(name))}


def _check_sets(tensors: Mapping[str, Tensor], sets: set[str]) -> None:
    """Check that the sets are those that some code writes, and each of them whole.

    Raises:
        CheckpointError: they are not.
    """
    if sets != {""} and sets not in _COMPLETE:
        listed = ", ".join(shorten(number or "one without a number", 20) for number in sorted(sets)[:4])
        raise CheckpointError(
            f"the file has these BatchNorm sets in its {_SETS}: {listed}",
            "ACL and DynACL write 0 (clean) and 1 (adversarial), AdvCL a third one, 2 (labels): get a whole file",
        )
    parts: dict[str, set[str]] = {number: set() for number in sets}
    for name in tensors:
        place = _place(name)
        if place is None and name.endswith("running_mean"):
            raise CheckpointError(
                f"some BatchNorm layers of the file have sets for branches, and {shorten(name)!r} is of one without",
                "no code that is known here writes such a file: get it again, from where it was written",
            )
        if place is not None and place[2] != _COUNTER:
            parts[place[1]].add(f"{place[0]}.{place[2]}")
    whole = set().union(*parts.values())
    for number, part in parts.items():
        if lacking := sorted(whole - part):
            raise CheckpointError(
                f"the BatchNorm set {number} ({_BRANCHES[number]}) lacks {len(lacking)} of {len(whole)} tensors that "
                f"another set has, such as {shorten(lacking[0])!r}",
                "the file is cut or edited: get it again",
            )


def _chosen(sets: set[str], branch: Branch | None) -> str:
    """Return the number of the set to take."""
    numbers = {_BRANCHES.get(number, ""): number for number in sets}
    if branch is None:
        return numbers["adversarial"] if "adversarial" in numbers else min(sets)
    if branch not in numbers:
        there = ", ".join(sorted(filter(None, numbers))) or "one without a name"
        raise UsageError(
            f"--branch {branch}: the file has no such set of BatchNorm layers (it has: {there})",
            "leave --branch out to take what is meant to be used",
        )
    return numbers[branch]


def _stock_name(name: str) -> str:
    """Return torchvision's and timm's name of a tensor in a shortcut."""
    for theirs, ours in ((".downsample.conv.", ".downsample.0."), (".downsample.bn.", ".downsample.1.")):
        name = name.replace(theirs, ours)
    return name
