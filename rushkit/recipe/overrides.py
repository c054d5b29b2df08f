"""Overrides of a recipe's file: the flags of a command (``--set``), then the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from rushkit.errors import UsageError, shell_line, shorten
from rushkit.recipe import toml
from rushkit.recipe.draft import Draft
from rushkit.recipe.problems import KEYS_HINT
from rushkit.recipe.schema import Component, section_at
from rushkit.recipe.toml import Given, Toml

# ["pretrain.epochs=1"] as on the command line, or {"pretrain.epochs": 1}.
Changes: TypeAlias = Sequence[str] | Mapping[str, Given]
# A key, its value, and where the value comes from.
Override: TypeAlias = tuple[str, Given, str]


class FlagChange(str):
    """A change as ``--set`` takes it that a flag of its own stands for, such as ``--epochs 3``: messages name the flag.

    Attributes:
        flag: The flag.
    """

    flag: str

    def __new__(cls, flag: str, key: str, value: object) -> FlagChange:
        """Make the change of a key that a flag sets to a value."""
        change = super().__new__(cls, f"{key}={value}")
        change.flag = flag
        return change


ENVIRONMENT = {
    "RUSHKIT_DATA": "system.data_dir",
    "RUSHKIT_RUNS": "system.runs_dir",
    "RUSHKIT_DEVICE": "system.device",
    "RUSHKIT_PRECISION": "system.precision",
}

_NUMBER = re.compile(r"[+-]?([0-9]+\.|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


def parse_changes(changes: Changes) -> list[tuple[str, Toml]]:
    """Split ``a.b=v`` at the first ``=``, and read v as TOML, or else as text.

    Raises:
        UsageError: a change that is not ``KEY=VALUE``, or whose key is deeper than a recipe.
    """
    if isinstance(changes, Mapping):
        return [(key, toml.plain(value)) for key, value in changes.items()]
    return [_parse_change(change) for change in changes]


def _parse_change(change: str) -> tuple[str, Toml]:
    key, equals, text = change.partition("=")
    key = key.strip()
    if not equals or not key or not all(key.split(".")):
        raise UsageError(f"--set {shorten(change)!r} is not KEY=VALUE", "for example --set pretrain.epochs=100")
    if key.count(".") >= toml.MAX_DEPTH:
        raise UsageError(f"--set {shorten(key)!r} goes deeper than any key of a recipe", KEYS_HINT)
    try:
        table = toml.loads(f"value = {text}")
    except ValueError:
        table = {}
    if not table and _NUMBER.fullmatch(text.strip()):
        # TOML wants a digit on both sides of the point.
        table = {"value": float(text)}
    value = table.get("value")
    # A date, or lines beyond the first: more than a value of a recipe.
    is_value = isinstance(value, bool | int | float | str | list | dict) and len(table) == 1
    # The end of a run's name, say, may be all digits.
    if not is_value or (isinstance(value, bool | int | float) and _takes_text(key)):
        value = text.strip()
    return key, value


def from_environment(environment: Mapping[str, str] | None = None) -> list[Override]:
    """Return the overrides from the variables of ``ENVIRONMENT``, in ``os.environ`` or the given mapping."""
    environment = os.environ if environment is None else environment
    return [(key, environment[word], word) for word, key in ENVIRONMENT.items() if environment.get(word)]


def from_changes(changes: Changes) -> list[Override]:
    """Return the overrides from ``--set``, and from flags that stand for a change."""
    flags = [getattr(change, "flag", None) for change in changes]
    return [
        (key, value, flag or f"--set {key}") for (key, value), flag in zip(parse_changes(changes), flags, strict=True)
    ]


def said_as(change: str, shown: str = "") -> str:
    """Return how a change was written on the command line: ``--set`` and what is shown of it, or the flag for it."""
    return change.flag if isinstance(change, FlagChange) else shell_line("--set", shown or change)


def override(draft: Draft, overrides: Iterable[Override]) -> None:
    """Set each override in the draft; components come first, since another one removes the options of the old one."""
    for key, value, origin in sorted(overrides, key=lambda override: not _names_component(override[0])):
        draft.set(key, _written(key, toml.plain(value)), origin)


def _written(key: str, value: Toml) -> Toml:
    """Return the value of a key, with the name of a component in it as that is registered, whatever its case."""
    table, (section, _, name) = section_at(key), key.rpartition(".")
    if table is not None and table.NAMED_BY and isinstance(value, dict) and table.NAMED_BY in value:
        return value | {table.NAMED_BY: _written(f"{key}.{table.NAMED_BY}", value[table.NAMED_BY])}
    model = section_at(section)
    if isinstance(value, str) and model is not None and name == model.NAMED_BY and issubclass(model, Component):
        return model.REGISTRY.written(value)
    return value


def _takes_text(key: str) -> bool:
    """Return whether the key of a recipe takes a text and nothing else."""
    section, _, name = key.rpartition(".")
    fields = getattr(section_at(section), "model_fields", {})
    return any(name == (field.alias or at) and field.annotation is str for at, field in fields.items())


def _names_component(key: str) -> bool:
    section, _, name = key.rpartition(".")
    model = section_at(section)
    return model is not None and bool(name) and name == model.NAMED_BY
