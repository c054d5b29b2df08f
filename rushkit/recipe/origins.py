"""The origin of each value of a recipe: a file and line, a flag, or an environment variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from rushkit.errors import shorten
from rushkit.recipe import toml

# Dotted key -> "recipes/cifar10.toml:12" or "--set pretrain.epochs"; the whole recipe has the empty key.
Origins: TypeAlias = dict[str, str]


def origins_of(text: str, file: str) -> Origins:
    """Return the file and line of each key in a valid TOML text."""
    return {"": file} | {key: f"{file}:{line}" for key, line in toml.line_numbers(text).items()}


def at(key: str, what: str, origins: Mapping[str, str]) -> str:
    """``place: key: what is wrong``; a place that names the key itself, as ``--set KEY`` does, says it once."""
    where = place(key, origins)
    return f"{where}: {what}" if where.endswith(f" {key}") else f"{where}: {shorten(key)}: {what}"


def place(key: str, origins: Mapping[str, str]) -> str:
    """Return where a key was set; failing that, where the nearest table above or below it was, or the file."""
    for path in with_tables(key):
        if path and path in origins:
            return origins[path]
    below = [origin for path, origin in origins.items() if path.startswith(f"{key}.")]
    return below[0] if below else origins.get("", "recipe")


def with_tables(key: str) -> Iterator[str]:
    """Yield a dotted key and the tables around it, up to the whole recipe, whose key is empty."""
    while key:
        yield key
        key = key.rpartition(".")[0]
    yield ""
