"""The user's rules about the names of foreign tensors: what is renamed, and what is left out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor

from rushkit.errors import UsageError, shorten
from rushkit.paths import reason
from rushkit.recipe import toml
from rushkit.recipe.toml import Table

# Names among which the nearest is looked for, and their length: the file may have any number.
_OTHERS, _LONGEST = 1000, 200
_SHOWN = 3
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


def rename(named: dict[str, Tensor], rules: Mapping[str, str], notes: list[str]) -> dict[str, Tensor]:
    """Apply the user's renames in their order, and add a sentence on each to ``notes``.

    Raises:
        UsageError: a rule that matches nothing, or gives two tensors one name.
    """
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
            hint = what_was_meant(old.removeprefix("*."), named)
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


def ignore(named: dict[str, Tensor], patterns: Sequence[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors that no pattern matches, and the names of the others.

    Raises:
        UsageError: a pattern that matches nothing.
    """
    ignored = []
    for pattern in patterns:
        hit = [name for name in named if fnmatchcase(name, pattern)]
        if not hit:
            hint = what_was_meant(pattern.removesuffix("*").removesuffix("."), named)
            raise UsageError(f"no tensor matches --ignore {pattern}", hint)
        ignored += hit
    left_out = dict.fromkeys(ignored)
    return {name: tensor for name, tensor in named.items() if name not in left_out}, tuple(left_out)


def near_name(name: str, others: Sequence[str], cutoff: float = 0.5) -> str:
    """Return the nearest of the first others, or an empty text."""
    comparable = [other for other in others[:_OTHERS] if len(other) <= _LONGEST]
    return next(iter(difflib.get_close_matches(name[:_LONGEST], comparable, n=1, cutoff=cutoff)), "")


def what_was_meant(name: str, names: Iterable[str]) -> str:
    """Return a hint for a name that does not exist: the nearest name or prefix, else a few of the names."""
    nearest = near_name(name, [*names, *dict.fromkeys(other.partition(".")[0] for other in names)])
    return (
        f"did you mean {nearest}?"
        if nearest
        else f"the names are such as {', '.join(map(shorten, list(names)[:_SHOWN]))}"
    )
