"""The error for weights that do not fit a backbone: what is wrong, and a rename only where shapes fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from rushkit.errors import CheckpointError, first_few, shell_line, shorten
from rushkit.exchange.rules import near_name, renamed_key

_SHOWN = 3
# Names that are compared with all others in search of a rule, and rules that are offered at once.
_COMPARED, _MOST_RULES = 10, 6
_LONGEST = 200
_OTHER_NETWORK = (
    "these are weights of another network: check --backbone, its options (--set backbone.stem=standard) and "
    "data.image_size\na network that rushkit lacks is brought as a backbone of your own, or measured as it is with "
    "--model FILE.py:NAME --weights FILE: docs/import-export.md"
)


class MisfitError(CheckpointError):
    """Weights that do not fit the backbone."""


@dataclass(frozen=True)
class Misfit:
    """Tensors that do not fit.

    Attributes:
        named: The tensors of the file.
        places: The backbone's own state dict.
        missing: Places without a tensor.
        rest: Tensors without a place.
        misshapen: Places whose tensor has another shape.
        no_head: Whether a classifier is asked for, and there is no head.
        features: F, the length of the features.
    """

    named: Mapping[str, Tensor]
    places: Mapping[str, Tensor]
    missing: Sequence[str]
    rest: Mapping[str, Tensor]
    misshapen: Sequence[str]
    no_head: bool
    features: int

    @property
    def wrong(self) -> bool:
        """Whether anything does not fit."""
        return bool(self.missing or self.rest or self.misshapen or self.no_head)

    def error(self) -> MisfitError:
        """Return the error: a few tensors of each kind, and what to do."""
        hints = []
        rules = self._rules()
        if rules:
            line = shell_line(*(word for old, new in rules for word in ("--rename", f"{shorten(old)}={shorten(new)}")))
            hints.append(f"if these are the same tensors under other names: {line}, or a file with --keys")
        elif self.missing or self.misshapen:
            hints.append(_OTHER_NETWORK)
        elif self.rest:
            first = next(iter(self.rest))
            pattern = f"{first.rpartition('.')[0] or first}*"
            hints.append(f"to leave tensors out on purpose: {shell_line('--ignore', pattern)}")
        if self.no_head:
            hints.append("for the encoder alone: --encoder-only")
        return MisfitError("\n".join(["the tensors do not fit the backbone", *self._lines()]), "\n".join(hints))

    def _lines(self) -> Iterator[str]:
        places, missing, rest, misshapen = self.places, self.missing, self.rest, self.misshapen
        if missing:
            shown = first_few(_with_near(missing, list(rest)), _SHOWN, len(missing))
            yield f"  missing ({len(missing)} of {len(places)}): {shown}"
        if rest:
            shown = first_few(_with_near(list(rest), missing), _SHOWN, len(rest))
            yield f"  without a place ({len(rest)} of {len(self.named)}): {shown}"
        if misshapen:
            shapes = [
                f"{shorten(name)} is {shape_words(self.named[name])}, its place {shape_words(places[name])}"
                for name in misshapen[:_SHOWN]
            ]
            yield f"  of another shape ({len(misshapen)}): {first_few(shapes, _SHOWN, len(misshapen))}"
        if self.no_head:
            yield f"  no one linear layer on {self.features} features, which would be the head"

    def _rules(self) -> list[tuple[str, str]]:
        """Return the rules of renaming that fill at least half of the missing places by shape; none if none do.

        Each moves tensors of the file onto free places of their own shapes, and none onto a place of another shape.
        """
        missing = {name: self.places[name] for name in self.missing}
        # Beside those that are missing, the counters of batches, which a file may lack.
        free = {name: place for name, place in self.places.items() if name not in self.named}
        rest = dict(self.rest)
        rules: list[tuple[str, str]] = []
        while missing and rest and len(rules) < _MOST_RULES:
            rule = _next_rule(rest, missing, self.places, free)
            if rule is None:
                break
            rules.append(rule)
            moved = {renamed_key(name, *rule): tensor for name, tensor in rest.items()}
            rest = {name: tensor for name, tensor in moved.items() if name not in free}
            missing = {name: place for name, place in missing.items() if name not in moved}
            free = {name: place for name, place in free.items() if name not in moved}
        return rules if 2 * len(missing) <= len(self.missing) else []


def _next_rule(
    rest: Mapping[str, Tensor], missing: Mapping[str, Tensor], places: Mapping[str, Tensor], free: Mapping[str, Tensor]
) -> tuple[str, str] | None:
    """Return the shortest rule for the unplaced name that is most like a free place of its shape."""
    pairs = []
    for name in list(rest)[:_COMPARED]:
        same = [place for place, tensor in missing.items() if shape_words(tensor) == shape_words(rest[name])]
        if near := near_name(name, same, 0.0):
            pairs.append((difflib.SequenceMatcher(None, name[:_LONGEST], near).ratio(), name, near))
    for _, name, near in sorted(pairs, reverse=True):
        for rule in _shorter(name, near):
            if _moves_well(rule, rest, places, free):
                return rule
    return None


def _shorter(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Yield the rules that turn one name into another, the shortest first."""
    olds, news = old.split("."), new.split(".")
    rules = [(old, new)]
    while len(olds) > 1 and news and olds[-1] == news[-1]:
        olds, news = olds[:-1], news[:-1]
        rules.append((".".join(olds), ".".join(news)))
    yield from reversed(rules)


def _moves_well(
    rule: tuple[str, str], rest: Mapping[str, Tensor], places: Mapping[str, Tensor], free: Mapping[str, Tensor]
) -> bool:
    """Whether a rule fills a free place, and puts nothing onto a taken one or one of another shape."""
    moved = [(renamed_key(name, *rule), tensor) for name, tensor in rest.items()]
    landed = [(name, tensor) for name, tensor in moved if name in places]
    return (
        bool(landed)
        and len({name for name, _ in moved}) == len(moved)
        and all(name in free and shape_words(tensor) == shape_words(free[name]) for name, tensor in landed)
    )


def _with_near(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """List the first few names, each with the nearest of the others."""
    return [
        f"{shorten(name)} (near: {near})" if (near := near_name(name, others)) else shorten(name)
        for name in names[:_SHOWN]
    ]


def shape_words(tensor: Tensor) -> str:
    """Return a shape in words, such as ``"64x3x3x3"``."""
    shape = "x".join(map(str, tensor.shape)) or "a scalar"
    return shape if tensor.is_floating_point() else f"{shape} of whole numbers"
